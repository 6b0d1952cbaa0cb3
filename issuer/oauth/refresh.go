package oauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// owner is the one user of a refresh token. Servers that rotate refresh tokens take each of them
// once, and treat a second use as theft (RFC 9700, section 4.14.2): so requests go one after another,
// and a new refresh token stands in the Keeper before it is used.
type owner struct {
	keeper Keeper
	turn   chan struct{} // holds one element while somebody is at it

	// Owner of what follows: whoever has the turn.
	proved  bool             // the Keeper has shown that it can save
	unsaved cred.Secret      // could not be saved
	after   cred.Fingerprint // of the token that unsaved follows
	doubt   time.Time        // when an answer to a use of the current token was lost; zero: never
}

func newOwner(k Keeper) *owner { return &owner{keeper: k, turn: make(chan struct{}, 1)} }

// take waits for the turn, and for the Keeper's lock where it has one.
func (o *owner) take(ctx context.Context) (release func(), err error) {
	select {
	case o.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, issuer.NotIssued("oauth.refresh", "", "the refresh token of this service is in use and was not free in time; try again in a moment", ctx.Err())
	}
	unlock := func() {}
	if l, ok := o.keeper.(Locker); ok {
		if unlock, err = l.Lock(ctx); err != nil {
			<-o.turn
			return nil, issuer.NotIssued("oauth.refresh", "", publicKeep, err)
		}
	}
	return func() { unlock(); <-o.turn }, nil
}

// current returns the refresh token to use. What could not be saved before is saved first, unless an
// operator has put another one there; and before the first use the Keeper has to save what it has, so
// that one that can't is found out while the token is still good.
func (o *owner) current(ctx context.Context) (cred.Secret, error) {
	kept, err := o.keeper.Load(ctx)
	switch {
	case o.unsaved.IsZero():
	case err != nil || kept.Fingerprint() == o.after:
		kept, err, o.proved = o.unsaved, nil, false
	default:
		o.unsaved = cred.Secret{}
	}
	if err == nil && !tokenapi.Printable(kept.RevealString()) {
		err = errors.New("oauth: what is kept is no refresh token")
	}
	if err != nil {
		return cred.Secret{}, issuer.NotIssued("oauth.refresh", "REFRESH_TOKEN_NOT_KEPT", publicKeep, err)
	}
	if !o.proved {
		if err := o.save(ctx, kept); err != nil {
			return cred.Secret{}, err
		}
	}
	return kept, nil
}

func (o *owner) save(ctx context.Context, s cred.Secret) error {
	o.proved = false
	if err := o.keeper.Save(ctx, s); err != nil {
		return issuer.NotIssued("oauth.refresh", "REFRESH_TOKEN_NOT_KEPT", publicKeep, err)
	}
	o.proved, o.unsaved = true, cred.Secret{}
	return nil
}

// refresh asks for an access token with the refresh token.
//
// A lost answer is ambiguous: the server may have retired the refresh token that was sent, and its
// successor is lost with the answer. There is nothing else to use, so the next call uses the same one
// again. A server that did not get the request, or forgives a repetition for a while, then answers as
// if nothing had been; another refuses with invalid_grant, and a person has to sign in again.
func (i *Issuer) refresh(p plan, left <-chan struct{}) outcome {
	waiting, stop := context.WithTimeout(i.flying.Life(), i.cfg.Timeout)
	defer stop()
	defer stopWhen(left, stop)()
	release, err := i.owner.take(waiting)
	if err != nil {
		return outcome{err: err}
	}
	defer release()
	kept, err := i.owner.current(waiting)
	if err == nil && gone(left) {
		err = issuer.NotIssued("oauth.refresh", "", publicLost, context.Canceled)
	}
	if err != nil {
		return outcome{err: err}
	}
	t, err := i.ask(i.flying.Life(), p, func(r *tokenapi.Request) { r.SetSecret("refresh_token", kept) })
	if err != nil {
		return outcome{err: i.owner.failed(err)}
	}
	i.owner.doubt = time.Time{}
	if err := i.keepSuccessor(kept, t.Refresh); err != nil {
		return outcome{err: i.undo(t, err)}
	}
	return i.handOut(p, t)
}

// keepSuccessor saves a rotated refresh token. An answer without one leaves the old one in force
// (RFC 6749, section 6).
func (i *Issuer) keepSuccessor(old, successor cred.Secret) error {
	if successor.IsZero() || successor.Fingerprint() == old.Fingerprint() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(i.flying.Life()), i.cfg.Timeout)
	defer cancel()
	i.owner.unsaved, i.owner.after = successor, old.Fingerprint()
	return i.owner.save(ctx, successor)
}

// failed remembers a lost answer, and tells of one where the server then refuses the token.
func (o *owner) failed(err error) error {
	e, ok := errors.AsType[*cred.Error](err)
	switch {
	case !ok:
	case e.Kind == cred.Unavailable && !errors.Is(err, issuer.ErrNotIssued):
		o.doubt = time.Now()
	case e.Reason == "REFRESH_TOKEN_DEAD" && !o.doubt.IsZero():
		e.Err = fmt.Errorf("an answer was lost at %s, and the refresh token's successor with it: %w", o.doubt.UTC().Format(time.RFC3339), e.Err)
	}
	return err
}

// stopWhen calls stop when the caller leaves. What it returns ends the watch.
func stopWhen(left <-chan struct{}, stop func()) (end func()) {
	over := make(chan struct{})
	go func() {
		select {
		case <-left:
			stop()
		case <-over:
		}
	}()
	return func() { close(over) }
}

func gone(left <-chan struct{}) bool {
	select {
	case <-left:
		return true
	default:
		return false
	}
}
