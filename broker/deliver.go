package broker

import (
	"context"
	"maps"
	"time"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/failpoint"
	"github.com/daypass-io/daypass/store"
)

// Delivered is what Deliver hands out.
type Delivered struct {
	Grant    cred.Grant
	Token    cred.Secret // the grant token; the zero Secret where the grant is pending
	Redeemed *Redeemed   // nil where the grant is pending, or is delivered through a proxy
}

// Deliver is Exchange, or Claim where it names a request, and for a target that is delivered directly
// Redeem: all that a caller wants in one call. Where the grant is new its first lease begins in the
// transaction that writes the grant, so that a delivery waits for the disk twice: for that, and for the
// outcome.
func (b *Broker) Deliver(ctx context.Context, who Caller, want cred.Request, request cred.GrantID) (Delivered, error) {
	e := &early{b: b}
	var g cred.Grant
	var err error
	if request == "" {
		g, err = b.exchange(ctx, who, want, e)
	} else {
		g, err = b.claimRequest(ctx, who, request, want, e)
	}
	switch {
	case err != nil || g.State() == cred.GrantPending:
		return Delivered{Grant: g}, err
	case e.err != nil && e.attempt.grant.ID == g.ID: // the grant is there, and nothing could be issued under it
		return Delivered{}, e.err
	case e.begun:
		return e.finish(ctx, g)
	}
	tok, err := e.token(g)
	if err != nil {
		return Delivered{}, err
	}
	return b.deliverWith(ctx, who, g, tok)
}

// DeliverGrant signs the token of a grant, and redeems it where the credential goes to the caller.
func (b *Broker) DeliverGrant(ctx context.Context, who Caller, g cred.Grant) (Delivered, error) {
	tok, err := b.GrantToken(g)
	if err != nil {
		return Delivered{}, err
	}
	return b.deliverWith(ctx, who, g, tok)
}

func (b *Broker) deliverWith(ctx context.Context, who Caller, g cred.Grant, tok cred.Secret) (Delivered, error) {
	if g.Deliver != cred.DeliverDirect {
		return Delivered{Grant: g, Token: tok}, nil
	}
	r, err := b.RedeemGrant(ctx, who.Principal, g.ID)
	if err != nil {
		return Delivered{}, err
	}
	return Delivered{Grant: g, Token: tok, Redeemed: &r}, nil
}

// early is what a delivery does before its grant is on disk: it prepares the redemption, so that grant
// and intent are written in one transaction, and has the token signed while that is synced. A nil one does
// nothing.
type early struct {
	b       *Broker
	attempt *attempt // nil: nothing was foreseen; the grant is redeemed after it was made, if at all
	err     error    // why the source reserved nothing
	begun   bool     // the intent is written with the grant
	signed  func() (cred.Secret, error)
}

// prepare has the source reserve for the grant that is about to be made, if it will be active at once
// and go to the caller. Whatever is in the way is left for the transaction to find: it alone refuses,
// and what was reserved and is not used is harmless.
func (e *early) prepare(ctx context.Context, a asked, d policy.Decision, foresee func(store.Tx) (prospect, error), charge func() error) {
	if e == nil || d.Deliver != cred.DeliverDirect {
		return
	}
	b := e.b
	is, ok := b.cfg.Issuers[d.Target.Credential.Issuer]
	if !ok {
		return
	}
	var p prospect
	err := b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		for _, t := range a.who.once {
			if _, err := unspent(tx, t); err != nil {
				return err
			}
		}
		p, err = foresee(tx)
		return err
	})
	if err == nil && p.outcome == isClaimed {
		p.outcome = isGranted
		p.grant, err = b.claimed(a, d, p.grant)
	} else if err == nil && p.outcome == isGranted {
		err = charge() // before the source is asked, so that a quota also bounds that
	}
	if err != nil || p.outcome != isGranted {
		return
	}
	e.attempt = &attempt{b: b, grant: p.grant, target: d.Target, redeemer: redeemerHolder, issuer: is}
	e.err = e.attempt.reserve(ctx)
	failpoint.Hit("redeem.before-intent")
}

// begin is called in the transaction that has just made g active, or found it. It writes the intent beside
// the grant, if that is the one that was foreseen.
func (e *early) begin(ctx context.Context, tx store.Tx, g cred.Grant) error {
	if e == nil {
		return nil
	}
	e.begun, e.signed = false, nil // the transaction may run again
	if g.State() == cred.GrantActive {
		e.signed = e.b.signing(g)
	}
	reserved := e.attempt != nil && e.err == nil
	if !reserved || !sameLease(e.attempt.grant, g, e.b.now()) {
		return nil
	}
	_, err := e.attempt.intendUnder(ctx, tx, g)
	e.begun = err == nil
	return err
}

// token returns the token of the grant that begin was last called with, once it is on disk: not before
// that may it leave the broker.
func (e *early) token(g cred.Grant) (cred.Secret, error) {
	if e.signed == nil {
		return e.b.GrantToken(g)
	}
	return e.signed()
}

// signing signs the token of a grant in the background, and returns what waits for it.
func (b *Broker) signing(g cred.Grant) func() (cred.Secret, error) {
	var tok cred.Secret
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		tok, err = b.GrantToken(g)
	}()
	return func() (cred.Secret, error) {
		<-done
		return tok, err
	}
}

// sameLease reports whether what was reserved for one grant fits another, which lives.
func sameLease(foreseen, g cred.Grant, now time.Time) bool {
	return g.Usable(now) == nil && g.Deliver == cred.DeliverDirect && g.ID == foreseen.ID &&
		g.NotBefore.Equal(foreseen.NotBefore) && g.NotAfter.Equal(foreseen.NotAfter) &&
		g.Digest == foreseen.Digest && maps.Equal(g.Params, foreseen.Params)
}

// finish issues what begin wrote the intent of.
func (e *early) finish(ctx context.Context, g cred.Grant) (Delivered, error) {
	failpoint.Hit("redeem.after-intent")
	a := e.attempt
	a.grant = g
	tok, err := e.token(g)
	if err != nil {
		a.settleUnwanted(context.WithoutCancel(ctx), a.lease, notMade)
		return Delivered{}, err
	}
	r, err := a.mint(ctx)
	if err != nil {
		return Delivered{}, err
	}
	return Delivered{Grant: g, Token: tok, Redeemed: &r}, nil
}
