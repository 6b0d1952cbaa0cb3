package broker

import (
	"context"
	"errors"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/failpoint"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// Redeemed is what Redeem hands out: the only way in which a credential leaves the broker.
type Redeemed struct {
	Grant      cred.Grant
	Target     cred.Target
	Lease      cred.Lease
	Credential cred.Credential
}

// Redeem turns a grant token into the credential that it stands for. A target that is delivered
// directly is redeemed by the holder alone, one that is delivered through a proxy by a configured
// proxy alone. Whoever redeems again gives up what it got before: the earlier lease is revoked first,
// so one redeemer never has two live credentials of one grant.
//
// The intent is durable before the issuer is asked, the outcome before the credential is returned.
// Where the outcome can't be written the credential is revoked and the answer is Unavailable.
func (b *Broker) Redeem(ctx context.Context, who cred.Principal, tok string) (Redeemed, error) {
	claims, err := b.verifyGrantToken(ctx, tok)
	if err != nil {
		return Redeemed{}, b.refuse(ctx, audit.RedeemRefused, tok, err)
	}
	a, err := b.admit(ctx, who, claims.Grant.ID)
	if err != nil {
		return Redeemed{}, b.refuseRedeem(ctx, who, claims.Grant.ID, err)
	}
	if err := a.retireEarlier(ctx); err != nil {
		return Redeemed{}, err
	}
	return a.issue(ctx)
}

func (b *Broker) refuseRedeem(ctx context.Context, who cred.Principal, id cred.GrantID, why error) error {
	if k := cred.KindOf(why); k == cred.Internal || k == cred.Unavailable {
		return why
	}
	err := b.append(ctx, audit.Event{
		Kind: audit.RedeemRefused, Grant: id, Principal: audit.PrincipalOf(who), Error: audit.ErrorOf(why),
	})
	if err != nil {
		return err
	}
	return why
}

// attempt is one run of Redeem.
type attempt struct {
	b        *Broker
	grant    cred.Grant
	target   cred.Target
	redeemer string
	issuer   issuer.Issuer
}

// admit checks that the grant can be used, and by whom asks.
func (b *Broker) admit(ctx context.Context, who cred.Principal, id cred.GrantID) (*attempt, error) {
	a := &attempt{b: b}
	err := b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		a.grant, err = getGrant(tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := a.grant.Usable(b.now()); err != nil {
		return nil, err
	}
	if a.target, err = b.Target(a.grant); err != nil {
		return nil, err
	}
	switch {
	case a.target.Deliver == cred.DeliverDirect && who.Same(a.grant.Holder):
		a.redeemer = "holder"
	case a.target.Deliver == cred.DeliverProxy && who.Kind == cred.KindProxy && b.cfg.MayRedeem(who.Name, a.target.Name):
		a.redeemer = "proxy/" + who.Name
	case a.target.Deliver == cred.DeliverProxy && who.Kind != cred.KindProxy:
		return nil, &cred.Error{
			Kind: cred.Denied, Op: "redeem", Reason: "PROXY_ONLY",
			Public: "this target is delivered through a proxy: send the grant token to the proxy, not to the broker",
		}
	default:
		return nil, &cred.Error{
			Kind: cred.Denied, Op: "redeem", Reason: "NOT_THE_REDEEMER",
			Public: "this grant can't be redeemed by you: its target is delivered to somebody else",
		}
	}
	var ok bool
	if a.issuer, ok = b.cfg.Issuers[a.target.Credential.Issuer]; !ok {
		return nil, cred.Errorf(cred.Internal, "redeem", "", "target %q names no issuer that runs: %q", a.target.Name, a.target.Credential.Issuer)
	}
	return a, nil
}

// retireEarlier ends what the same redeemer got for this grant before.
func (a *attempt) retireEarlier(ctx context.Context) error {
	var earlier []cred.Lease
	err := a.b.cfg.Store.View(ctx, func(tx store.Tx) error {
		earlier = earlier[:0]
		for l, err := range leasesOf(tx, a.grant.ID) {
			if err != nil {
				return err
			}
			if a.blocks(l) {
				earlier = append(earlier, l)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range earlier {
		if l.State() == cred.LeaseIntent && a.b.now().Before(l.CreatedAt.Add(a.b.cfg.IssueTimeout)) {
			return inProgress()
		}
		if l, err = a.b.settle(ctx, leaseKey(l), endNow); err != nil {
			return err
		}
		if a.blocks(l) {
			return &cred.Error{
				Kind: cred.Unavailable, Op: "redeem", Reason: "EARLIER_LEASE_LIVES",
				Public: "the credential that you got for this grant before could not be revoked yet, so no second one is issued; try again",
			}
		}
	}
	return nil
}

// blocks reports whether a lease must end before its redeemer gets another one.
func (a *attempt) blocks(l cred.Lease) bool {
	switch l.State() {
	case cred.LeaseIntent, cred.LeaseRevoking:
		return l.Redeemer == a.redeemer
	case cred.LeaseIssued:
		return l.Redeemer == a.redeemer && l.Revocable
	default:
		return false
	}
}

func inProgress() error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "redeem", Reason: "REDEEM_IN_PROGRESS",
		Public: "another redemption of this grant is under way; try again in a moment",
	}
}

// issue is intent, act, outcome.
func (a *attempt) issue(ctx context.Context) (Redeemed, error) {
	now := a.b.now()
	spec := issuer.Spec{
		ID: cred.NewLeaseID(now), Grant: a.grant.ID, Holder: a.grant.Holder, Target: a.target,
		Scopes: a.grant.Want.Scopes, Params: a.grant.Want.Params, NotAfter: a.grant.NotAfter,
	}
	// The issuer may answer only until the intent counts as abandoned; from here on the caller's
	// leaving changes nothing.
	act, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.b.cfg.IssueTimeout*3/4)
	defer cancel()
	if r, ok := a.issuer.(issuer.Reserver); ok {
		handle, err := r.Reserve(act, spec)
		if err != nil {
			return Redeemed{}, err
		}
		spec.Handle = handle
	}
	failpoint.Hit("redeem.before-intent")
	lease, err := a.intend(act, cred.NewLease(spec.ID, a.grant.ID, a.redeemer, a.target.Credential.Issuer, spec.Handle, now, a.grant.NotAfter))
	if err != nil {
		return Redeemed{}, err
	}
	failpoint.Hit("redeem.after-intent")
	credential, made, err := a.issuer.Issue(act, spec)
	if err != nil {
		return Redeemed{}, a.failed(ctx, lease, err)
	}
	failpoint.Hit("redeem.after-issue")
	lease, err = a.conclude(ctx, lease, credential, made)
	if err != nil {
		return Redeemed{}, err
	}
	failpoint.Hit("redeem.after-outcome")
	return Redeemed{Grant: a.grant, Target: a.target, Lease: lease, Credential: credential}, nil
}

// intend writes the intent, if the grant is still usable and nobody else redeems it.
func (a *attempt) intend(ctx context.Context, l cred.Lease) (cred.Lease, error) {
	err := a.b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		g, err := getGrant(tx, a.grant.ID)
		if err != nil {
			return err
		}
		if err := g.Usable(a.b.now()); err != nil {
			return err
		}
		for other, err := range leasesOf(tx, g.ID) {
			if err != nil {
				return err
			}
			if a.blocks(other) {
				return inProgress()
			}
		}
		if err := putLease(tx, l, l.CreatedAt.Add(a.b.cfg.IssueTimeout)); err != nil {
			return err
		}
		return tx.Append(a.b.leaseEvent(ctx, audit.LeaseIntent, l))
	})
	if err != nil {
		return l, notRecorded(err)
	}
	l.Rev = 1
	return l, nil
}

// conclude writes the outcome. If the grant or the lease ended meanwhile, or the outcome can't be
// written, what was made is revoked and the caller gets nothing.
func (a *attempt) conclude(ctx context.Context, intent cred.Lease, c cred.Credential, made cred.Lease) (cred.Lease, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.b.cfg.IssueTimeout)
	defer cancel()
	var issued cred.Lease
	err := a.b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		current, err := getLease(tx, leaseKey(intent))
		if err != nil {
			return err
		}
		g, err := getGrant(tx, a.grant.ID)
		if err != nil {
			return err
		}
		if err := g.Usable(a.b.now()); err != nil {
			return err
		}
		notAfter := earliestEnd(made, c, intent.NotAfter)
		if issued, err = current.Issued(made.Handle, c.Fingerprint(), made.Revocable, notAfter); err != nil {
			return err
		}
		issued.Note = made.Note
		if err := putLease(tx, issued, issued.NotAfter); err != nil {
			return err
		}
		return tx.Append(a.b.leaseEvent(ctx, audit.LeaseIssued, issued))
	})
	if err == nil {
		issued.Rev++
		return issued, nil
	}
	return intent, a.takeBack(ctx, intent, made, err)
}

// earliestEnd is when a lease ends: as its source says, or where that sets no end with the grant.
func earliestEnd(made cred.Lease, c cred.Credential, grantEnd time.Time) time.Time {
	end := earliest(made.NotAfter, c.NotAfter)
	if end.IsZero() {
		return grantEnd
	}
	return end
}

// takeBack revokes a credential that nobody may have, at once and without the store's help, then
// lets settle write what became of it: now, or when the sweep comes by.
func (a *attempt) takeBack(ctx context.Context, intent, made cred.Lease, why error) error {
	if made.Revocable {
		if err := a.issuer.Revoke(ctx, made); err != nil {
			a.b.cfg.Logger.ErrorContext(ctx, "a credential whose outcome was not recorded could not be revoked yet",
				"grant", intent.Grant, "lease", intent.ID, "error", err)
		}
	}
	if _, err := a.b.settle(ctx, leaseKey(intent), endNow); err != nil {
		a.b.cfg.Logger.ErrorContext(ctx, "the sweep will settle this lease", "grant", intent.Grant, "lease", intent.ID, "error", err)
	}
	if k := cred.KindOf(why); k == cred.Denied || k == cred.Expired {
		return why
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "redeem", Reason: "OUTCOME_NOT_RECORDED",
		Public: "the credential was made but could not be recorded, so it was taken back; try again", Err: why,
	}
}

// failed writes what an issuer's error means: nothing was made, or something may have been.
func (a *attempt) failed(ctx context.Context, l cred.Lease, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.b.cfg.IssueTimeout)
	defer cancel()
	mode := notMade
	if cred.KindOf(why) == cred.Unavailable && !errors.Is(why, issuer.ErrNotIssued) {
		mode = endNow
	}
	if _, err := a.b.settle(ctx, leaseKey(l), mode); err != nil {
		a.b.cfg.Logger.ErrorContext(ctx, "the sweep will settle this lease", "grant", l.Grant, "lease", l.ID, "error", err)
	}
	a.b.cfg.Logger.WarnContext(ctx, "the issuer did not issue", "issuer", l.Issuer, "grant", l.Grant, "lease", l.ID, "error", why)
	return why
}

func (b *Broker) leaseEvent(ctx context.Context, kind audit.Kind, l cred.Lease) audit.Event {
	return audit.Event{Kind: kind, Time: b.now(), Peer: peerOf(ctx), Grant: l.Grant, Lease: audit.LeaseOf(l)}
}
