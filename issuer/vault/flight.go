package vault

import (
	"context"
	"errors"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// mintTimeout is longer than Vault works on one request (default_max_request_duration, 90 s), so
// that it is never we who hang up.
const mintTimeout = 2 * time.Minute

// flight is one request that mints. It does not end with its caller: when a client hangs up, Vault
// cancels its work wherever that stands, and a user that the database has made by then is left
// behind with no lease that would ever end it (seen with Vault 1.21). So the request goes on, and
// what comes of it after the caller has left is taken back.
type flight struct {
	spec  issuer.Spec
	src   source
	child child
	wait  context.Context // the caller's; bounds when a try may still begin

	landed chan struct{} // closed when the outcome is there for the caller
	over   chan struct{} // closed when there is nothing more to do

	credential cred.Credential // owner: the flight's goroutine until landed is closed
	lease      cred.Lease
	err        error

	leave func() // lets go of the engine

	here bool // owner, like the next: Issuer.mu. The outcome was handed over.
	left bool // the caller does not wait any more
}

// fly mints and waits for the outcome until ctx or Timeout ends.
func (i *Issuer) fly(ctx context.Context, f *flight) (cred.Credential, cred.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, i.cfg.Timeout)
	defer cancel()
	f.wait = ctx
	var err error
	if f.leave, err = i.calm.use(ctx, f.src.req.path); err != nil {
		i.flying.Go(func() { i.dropUnused(f.child) })
		return cred.Credential{}, cred.Lease{}, err
	}
	if err := i.takeOff(f); err != nil {
		f.leave()
		return cred.Credential{}, cred.Lease{}, err
	}
	select {
	case <-f.landed:
	case <-ctx.Done():
		if i.givenUpOn(f) {
			return cred.Credential{}, cred.Lease{}, &cred.Error{Kind: cred.Unavailable, Op: "vault.issue", Public: publicLost, Err: ctx.Err()}
		}
	}
	return f.credential, f.lease, f.err
}

func (i *Issuer) takeOff(f *flight) error {
	f.landed, f.over = make(chan struct{}), make(chan struct{})
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.flying.Go(func() { i.run(f) }) {
		return notIssued("vault.issue", "the broker is shutting down; try again in a moment", errors.New("vault: closed"))
	}
	i.flights[f.child.handle.Accessor] = f // which run takes out, and so waits for the lock
	return nil
}

// dropUnused ends a lease's token that nothing was asked with, without the caller, whose time is up.
func (i *Issuer) dropUnused(c child) {
	ctx, cancel := context.WithTimeout(i.flying.Life(), i.cfg.Timeout)
	defer cancel()
	i.discard(ctx, c.handle)
}

func (i *Issuer) run(f *flight) {
	defer close(f.over)
	defer f.leave()
	f.credential, f.lease, f.err = i.mint(i.flying.Life(), f)
	if !i.handOver(f) && f.err == nil {
		i.takeBack(f)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.flights, f.child.handle.Accessor)
}

// handOver gives the outcome to the caller, unless it has left.
func (i *Issuer) handOver(f *flight) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if f.left {
		return false
	}
	f.here = true
	close(f.landed)
	return true
}

// givenUpOn says that the caller waits no more. It reports false where the outcome came first.
func (i *Issuer) givenUpOn(f *flight) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	f.left = !f.here
	return f.left
}

// takeBack revokes what nobody waits for any more. Should that fail, the broker, which was told that
// a credential may exist, revokes by the reservation's handle.
func (i *Issuer) takeBack(f *flight) {
	ctx, cancel := context.WithTimeout(i.flying.Life(), i.cfg.Timeout)
	defer cancel()
	if h, err := parseHandle(f.lease.Handle); err == nil {
		_ = i.revokeBoth(ctx, h)
	}
}

// awaitLanding waits until nothing is minted any more with a token that is about to be revoked:
// Vault would give a lease to what it makes for a token that is gone.
func (i *Issuer) awaitLanding(ctx context.Context, accessor string) error {
	i.mu.Lock()
	f := i.flights[accessor]
	i.mu.Unlock()
	if f == nil {
		return nil
	}
	select {
	case <-f.over:
		return nil
	case <-ctx.Done():
		return revokeFailed(errors.New("vault: the request that mints has not ended"))
	}
}
