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
// so one redeemer never has two live credentials of one grant, but where their source can't end one
// early.
//
// A proxy vouches that whoever showed it a token which is bound to a key has that key.
//
// The intent is durable before the issuer is asked, the outcome before the credential is returned.
// Where the outcome can't be written the credential is revoked and the answer is Unavailable.
func (b *Broker) Redeem(ctx context.Context, who cred.Principal, tok string) (Redeemed, error) {
	claims, err := b.verifyGrantToken(ctx, tok)
	if err != nil {
		return Redeemed{}, b.refuse(ctx, audit.Event{Kind: audit.RedeemRefused, Principal: audit.PrincipalOf(who)}, tok, err)
	}
	if claims.Confirmation != nil && who.Kind != cred.KindProxy {
		return Redeemed{}, b.refuse(ctx, audit.Event{Kind: audit.RedeemRefused, Grant: claims.Grant.ID, Principal: audit.PrincipalOf(who)}, tok, &cred.Error{
			Kind: cred.Denied, Op: "redeem", Reason: "BOUND_TOKEN", Claim: "cnf",
			Public: "this grant token is bound to a key: use it with a proxy, to which you prove that you have the key",
		})
	}
	return b.RedeemGrant(ctx, who, claims.Grant.ID)
}

// RedeemGrant is Redeem for a caller who needs no token to prove the grant: its holder, in the call
// that made it.
func (b *Broker) RedeemGrant(ctx context.Context, who cred.Principal, id cred.GrantID) (Redeemed, error) {
	a, err := b.admit(ctx, who, id)
	if err != nil {
		return Redeemed{}, b.refuseRedeem(ctx, who, id, err)
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

	spec  issuer.Spec // set by reserve, as is until
	until time.Time   // when the intent counts as abandoned, less a margin: nobody issues any more
	lease cred.Lease  // the intent, once it is written
}

// redeemerHolder is the redeemer of what is delivered directly.
const redeemerHolder = "holder"

// admit checks that the grant can be used, and by whom asks.
func (b *Broker) admit(ctx context.Context, who cred.Principal, id cred.GrantID) (*attempt, error) {
	a := &attempt{b: b}
	err := b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		if a.grant, err = getGrant(tx, id); err != nil {
			return err
		}
		if err := a.grant.Usable(b.now()); err != nil {
			return err
		}
		return checkLocks(tx, a.grant.Holder, a.grant.Want.Target, b.now())
	})
	if r, ok := errors.AsType[refused](err); ok {
		err = r.why
	}
	if err != nil {
		return nil, err
	}
	if a.target, err = b.Target(a.grant); err != nil {
		return nil, err
	}
	switch {
	case a.grant.Deliver == cred.DeliverDirect && who.Same(a.grant.Holder):
		a.redeemer = redeemerHolder
	case a.grant.Deliver == cred.DeliverProxy && who.Kind == cred.KindProxy && b.cfg.MayRedeem(who.Name, a.target.Name):
		a.redeemer = "proxy/" + who.Name
	case a.grant.Deliver == cred.DeliverProxy && who.Kind != cred.KindProxy:
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
	leases, err := a.b.leases(ctx, a.grant.ID)
	if err != nil {
		return err
	}
	for _, l := range leases {
		if !a.blocks(l) {
			continue
		}
		if l.State() == cred.LeaseIntent && a.b.now().Before(l.CreatedAt.Add(a.b.cfg.IssueTimeout)) {
			return errInProgress
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

var errInProgress = &cred.Error{
	Kind: cred.Unavailable, Op: "redeem", Reason: "REDEEM_IN_PROGRESS",
	Public: "another redemption of this grant is under way; try again in a moment",
}

// issue is intent, act, outcome.
func (a *attempt) issue(ctx context.Context) (Redeemed, error) {
	if err := a.reserve(ctx); err != nil {
		return Redeemed{}, err
	}
	failpoint.Hit("redeem.before-intent")
	if err := a.intend(ctx); err != nil {
		return Redeemed{}, err
	}
	failpoint.Hit("redeem.after-intent")
	return a.mint(ctx)
}

// act bounds what is done at the source: from here on the caller's leaving changes nothing, and the
// issuer may answer only until the intent counts as abandoned.
func (a *attempt) act(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(context.WithoutCancel(ctx), a.until)
}

// reserve says what is to be minted, and has the source name it where that can be done beforehand.
func (a *attempt) reserve(ctx context.Context) error {
	now := a.b.now()
	a.until = time.Now().Add(a.b.cfg.IssueTimeout * 3 / 4)
	var err error
	if a.target.Credential, err = issuer.Narrow(a.target.Credential, a.grant.Params); err != nil {
		return err
	}
	a.spec = issuer.Spec{
		ID: cred.NewLeaseID(now), Grant: a.grant.ID, Holder: a.grant.Holder, Target: a.target,
		Scopes: a.grant.Want.Scopes, Params: a.grant.Params, NotAfter: a.grant.NotAfter,
	}
	if r, ok := a.issuer.(issuer.Reserver); ok {
		act, cancel := a.act(ctx)
		defer cancel()
		if a.spec.Handle, err = r.Reserve(act, a.spec); err != nil {
			return err
		}
	}
	a.lease = cred.NewLease(a.spec.ID, a.grant.ID, a.redeemer, a.target.Credential.Issuer, a.spec.Handle, now, a.grant.NotAfter)
	return nil
}

// intend writes the intent, if the grant is still usable and nobody else redeems it.
func (a *attempt) intend(ctx context.Context) error {
	ctx, cancel := a.act(ctx)
	defer cancel()
	var stored cred.Lease
	err := a.b.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		stored, err = a.intendIn(ctx, tx)
		return err
	})
	if r, ok := errors.AsType[refused](err); ok {
		err = r.why
	}
	if errors.Is(err, errInProgress) {
		return err
	}
	if err != nil {
		return notRecorded(err)
	}
	a.lease = stored
	return nil
}

func (a *attempt) intendIn(ctx context.Context, tx store.Tx) (cred.Lease, error) {
	g, err := getGrant(tx, a.grant.ID)
	if err != nil {
		return a.lease, err
	}
	if err := g.Usable(a.b.now()); err != nil {
		return a.lease, err
	}
	if err := checkLocks(tx, g.Holder, g.Want.Target, a.b.now()); err != nil {
		return a.lease, err
	}
	return a.intendUnder(ctx, tx, g)
}

// intendUnder writes the intent under a grant that this transaction has found usable.
func (a *attempt) intendUnder(ctx context.Context, tx store.Tx, g cred.Grant) (cred.Lease, error) {
	for other, err := range leasesOf(tx, g.ID) {
		if err != nil {
			return a.lease, err
		}
		if a.blocks(other) {
			return a.lease, errInProgress
		}
	}
	return a.b.writeLease(ctx, tx, a.lease, g, audit.LeaseIntent)
}

// mint is act and outcome, once the intent is written.
func (a *attempt) mint(ctx context.Context) (Redeemed, error) {
	act, cancel := a.act(ctx)
	defer cancel()
	credential, made, err := a.issuer.Issue(act, a.spec)
	if err != nil {
		return Redeemed{}, a.failed(ctx, a.lease, err)
	}
	failpoint.Hit("redeem.after-issue")
	lease, err := a.conclude(ctx, a.lease, credential, made)
	if err != nil {
		return Redeemed{}, err
	}
	failpoint.Hit("redeem.after-outcome")
	return Redeemed{Grant: a.grant, Target: a.target, Lease: lease, Credential: credential}, nil
}

// conclude writes the outcome. If the grant ended meanwhile, or the outcome can't be written, what was
// made is revoked and the caller gets nothing.
func (a *attempt) conclude(ctx context.Context, intent cred.Lease, c cred.Credential, made cred.Lease) (cred.Lease, error) {
	if made.Handle == "" {
		made.Handle = intent.Handle
	}
	ctx = context.WithoutCancel(ctx)
	lease, over, err := a.writeOutcome(ctx, intent, c, made, false)
	switch {
	case err != nil:
		a.takeBack(ctx, intent, c, made)
		return intent, &cred.Error{
			Kind: cred.Unavailable, Op: "redeem", Reason: "OUTCOME_NOT_RECORDED",
			Public: "the credential was made but could not be recorded, so it is taken back; try again", Err: err,
		}
	case over != nil:
		a.settleUnwanted(ctx, lease, whenDue)
		return lease, over
	}
	return lease, nil
}

// writeOutcome records what the issuer made. Where nobody is to have it, because the grant is over
// meanwhile or because the caller says so, the same transaction records that it is to be revoked, so
// that what is needed for that is never lost. It returns why the grant is over.
func (a *attempt) writeOutcome(ctx context.Context, intent cred.Lease, c cred.Credential, made cred.Lease, unwanted bool) (lease cred.Lease, over, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.b.cfg.IssueTimeout)
	defer cancel()
	err = a.b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		current, err := getLease(tx, leaseKey(intent))
		if err != nil {
			return err
		}
		g, err := rereadGrant(tx, a.grant)
		if err != nil {
			return err
		}
		over = g.Usable(a.b.now())
		lease, err = current.Issued(made.Handle, c.Fingerprint(), made.Revocable, latestEnd(c, made))
		if err != nil {
			return err
		}
		lease.Note, lease.Renewable = made.Note, made.Renewable
		if lease, err = a.b.writeLease(ctx, tx, lease, g, audit.LeaseIssued); err != nil || over == nil && !unwanted {
			return err
		}
		lease, err = a.b.advance(ctx, tx, lease, g, endNow)
		return err
	})
	return lease, over, err
}

// latestEnd returns the latest instant at which a credential may live, which is when its lease ends: its
// issuer's word, or the end that the credential itself tells its holder, should that be later. Zero means
// that the issuer knows of none.
func latestEnd(c cred.Credential, made cred.Lease) time.Time {
	if made.NotAfter.IsZero() || c.NotAfter.Before(made.NotAfter) {
		return made.NotAfter
	}
	return c.NotAfter
}

// takeBack revokes a credential that nobody may have, at once and without the store's help, then
// tries once more to record it: now, or else the sweep will find the intent.
func (a *attempt) takeBack(ctx context.Context, intent cred.Lease, c cred.Credential, made cred.Lease) {
	if made.Revocable {
		made.ID, made.Grant, made.Issuer = intent.ID, intent.Grant, intent.Issuer
		if err := a.b.revokeAtSource(ctx, made); err != nil {
			a.b.cfg.Logger.ErrorContext(ctx, "a credential whose outcome was not recorded could not be revoked yet",
				"grant", intent.Grant, "lease", intent.ID, "error", err)
		}
	}
	lease, _, err := a.writeOutcome(ctx, intent, c, made, true)
	switch {
	case err == nil:
		a.settleUnwanted(ctx, lease, whenDue)
	case cred.KindOf(err) == cred.Conflict: // it is an intent no more: written after all, or settled by others
		a.settleUnwanted(ctx, intent, endNow)
	default:
		a.b.cfg.Logger.ErrorContext(ctx, "the sweep will settle this lease", "grant", intent.Grant, "lease", intent.ID, "error", err)
	}
}

// failed writes what an issuer's error means: nothing was made, or something may have been.
func (a *attempt) failed(ctx context.Context, l cred.Lease, why error) error {
	mode := endNow
	if madeNothing(why) {
		mode = notMade
	}
	a.b.raiseAlarm(ctx, a.grant, l, why)
	a.settleUnwanted(context.WithoutCancel(ctx), l, mode)
	a.b.cfg.Logger.WarnContext(ctx, "the issuer did not issue", "issuer", l.Issuer, "grant", l.Grant, "lease", l.ID, "error", why)
	return why
}

// madeNothing reports whether an issuer's error promises that nothing was made. One that is not of
// the contract's type promises nothing.
func madeNothing(err error) bool {
	e, ours := errors.AsType[*cred.Error](err)
	return errors.Is(err, issuer.ErrNotIssued) || ours && e.Kind != cred.Unavailable
}

// settleUnwanted ends a lease that nobody holds. If that can't be done now the sweep does it.
func (a *attempt) settleUnwanted(ctx context.Context, l cred.Lease, mode settling) {
	ctx, cancel := context.WithTimeout(ctx, 2*a.b.cfg.IssueTimeout)
	defer cancel()
	if _, err := a.b.settle(ctx, leaseKey(l), mode); err != nil {
		a.b.cfg.Logger.ErrorContext(ctx, "the sweep will settle this lease", "grant", l.Grant, "lease", l.ID, "error", err)
	}
}

func (b *Broker) leaseEvent(ctx context.Context, kind audit.Kind, l cred.Lease) audit.Event {
	return audit.Event{Kind: kind, Time: b.now(), Peer: peerOf(ctx), Grant: l.Grant, Lease: audit.LeaseOf(l)}
}
