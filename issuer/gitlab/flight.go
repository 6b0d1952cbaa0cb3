package gitlab

import (
	"context"
	"errors"
	"time"

	"github.com/daypass-io/daypass/internal/flights"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// mintTimeout is longer than GitLab works on one request (60 s), so that it is never we who hang up.
// https://docs.gitlab.com/administration/operations/puma/#change-the-worker-timeout
const mintTimeout = 90 * time.Second

// fly sends the request that mints, and returns when it has been answered or ctx has ended. The answer is
// awaited in either case: GitLab goes on when its client hangs up, so to look for the token's name before
// would find nothing, and the token would live until midnight.
func (i *Issuer) fly(ctx context.Context, w want, name string, end time.Time) (token, error) {
	ctx, cancel := context.WithTimeout(ctx, i.api.Client.Timeout)
	defer cancel()
	life := i.flying.Life()
	made, err := flights.Await(ctx, func(run func()) bool { return i.begin(name, run) },
		func() (token, error) {
			return i.mint(life, func(r tokenapi.Call) (tokenapi.Answer, error) { return i.make(ctx, life, r) }, w, name, end)
		},
		func(late token) { // the broker was told that it may exist
			_ = i.revoke(life, handle{project: w.project, name: name, id: late.ID})
		})
	switch {
	case errors.Is(err, flights.ErrClosed):
		return token{}, issuer.NotIssued(opIssue, "", publicGone, err)
	case errors.Is(err, flights.ErrLeft):
		return token{}, lost(err)
	}
	return made, err
}

// begin runs a function that Close waits for, and a revocation of the same name too.
func (i *Issuer) begin(name string, run func()) bool {
	over := make(chan struct{})
	i.mu.Lock()
	defer i.mu.Unlock()
	started := i.flying.Go(func() {
		run()
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
func (i *Issuer) make(ctx, life context.Context, r tokenapi.Call) (tokenapi.Answer, error) {
	root, err := i.root(ctx)
	if err != nil {
		return tokenapi.Answer{}, noRoot(err)
	}
	r.Token, r.Timeout = root, mintTimeout
	return tokenapi.Patiently(ctx, r, func() (tokenapi.Answer, error) { return i.api.Do(life, r) })
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
