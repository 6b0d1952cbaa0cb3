package gitlab

import (
	"context"
	"errors"
	"time"
)

// mintTimeout is longer than GitLab works on one request (60 s), so that it is never we who hang up.
// https://docs.gitlab.com/administration/operations/puma/#change-the-worker-timeout
const mintTimeout = 90 * time.Second

// landing is what came of a flight.
type landing struct {
	made token
	err  error
}

// fly sends the request that mints, and returns when it has been answered or ctx has ended. The answer is
// awaited in either case: GitLab goes on when its client hangs up, so to look for the token's name before
// would find nothing, and the token would live until midnight.
func (i *Issuer) fly(ctx context.Context, w want, name string, end time.Time) (token, error) {
	ctx, cancel := context.WithTimeout(ctx, i.client.timeout)
	defer cancel()
	landed := make(chan landing)
	started := i.begin(name, func(life context.Context) {
		made, err := i.mint(life, func(r request) (answer, error) { return i.make(ctx, life, r) }, w, name, end)
		select {
		case landed <- landing{made, err}:
		case <-ctx.Done():
			if err == nil {
				_ = i.revoke(life, handle{project: w.project, name: name, id: made.ID}) // the broker was told that it may exist
			}
		}
	})
	if !started {
		return token{}, notIssued("gitlab.issue", publicGone, errors.New("gitlab: the issuer is closed"))
	}
	select {
	case l := <-landed:
		return l.made, l.err
	case <-ctx.Done():
		return token{}, lost(ctx.Err())
	}
}

// begin runs a function that Close waits for, and a revocation of the same name too.
func (i *Issuer) begin(name string, run func(life context.Context)) bool {
	over := make(chan struct{})
	i.mu.Lock()
	defer i.mu.Unlock()
	started := i.flying.Go(func() {
		run(i.flying.Life())
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.flights, name)
		close(over)
	})
	if started {
		i.flights[name] = over
	}
	return started
}

// make sends the request that mints within life, again while ctx has time, where it was not done.
func (i *Issuer) make(ctx, life context.Context, r request) (answer, error) {
	root, err := i.root(ctx)
	if err != nil {
		return answer{}, noRoot(err)
	}
	r.bearer = root
	return retrying(ctx, r, func() (answer, error) { return i.client.doWithin(life, mintTimeout, r) })
}

// awaitLanding waits until nothing is made any more under a name.
func (i *Issuer) awaitLanding(ctx context.Context, name string) error {
	i.mu.Lock()
	over := i.flights[name]
	i.mu.Unlock()
	if over == nil {
		return nil
	}
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return notConfirmed(errors.New("gitlab: the request that makes the token has not ended"))
	}
}
