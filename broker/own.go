package broker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Own is a credential that the broker has for itself, see MintOwn. The zero Own is none.
type Own struct {
	cred.Credential

	purpose string
	lease   cred.Lease
}

// redeemerBroker is the redeemer of what the broker mints for itself.
const redeemerBroker = "broker"

// ownEndTimeout bounds how long the broker waits for what it has for itself to be ended, entries included.
// Its stop waits for that too, and what is left ends by itself. ownRecordTimeout is how much of it the entry
// before may take, and how much is kept for the one after.
const (
	ownEndTimeout    = 5 * time.Second
	ownRecordTimeout = time.Second
)

// MintOwn has the source's issuer mint a credential that the broker itself needs, until an instant, and
// says what for, such as "access keys of aws-root". It is under no grant, and its entries are all that is
// kept of it: what a crash leaves is an intent without an outcome, and ends by itself.
//
// The intent is durable before the issuer is asked, the outcome before the credential is returned. Where
// the outcome can't be written the credential is revoked and the answer is Unavailable.
func (b *Broker) MintOwn(ctx context.Context, purpose string, source cred.CredentialSource, notAfter time.Time) (Own, error) {
	is, ok := b.cfg.Issuers[source.Issuer]
	if !ok {
		return Own{}, cred.Errorf(cred.Unavailable, "own", "an issuer that the broker itself needs is not there", "no issuer %q", source.Issuer)
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.IssueTimeout*3/4)
	defer cancel()
	now, self := b.now(), b.itself()
	spec := issuer.Spec{
		ID: cred.NewLeaseID(now), Holder: self, NotAfter: notAfter, Target: cred.Target{Name: self.Name, Credential: source},
	}
	if r, ok := is.(issuer.Reserver); ok {
		var err error
		if spec.Handle, err = r.Reserve(ctx, spec); err != nil {
			return Own{}, err
		}
	}
	own := Own{purpose: purpose, lease: cred.NewLease(spec.ID, "", redeemerBroker, source.Issuer, spec.Handle, now, notAfter)}
	if err := b.recordOwn(ctx, audit.OwnIntent, own, nil); err != nil {
		return Own{}, err
	}
	c, made, err := is.Issue(ctx, spec)
	if err != nil {
		b.ownNotIssued(ctx, is, own, err)
		return Own{}, err
	}
	return b.ownIssued(ctx, is, own, c, made)
}

// ownIssued records what an issuer made for the broker. Where that fails nobody gets it.
func (b *Broker) ownIssued(ctx context.Context, is issuer.Issuer, own Own, c cred.Credential, made cred.Lease) (Own, error) {
	if made.Handle == "" {
		made.Handle = own.lease.Handle
	}
	issued, err := own.lease.Issued(made.Handle, c.Fingerprint(), made.Revocable, latestEnd(c, made))
	if err != nil {
		return Own{}, err
	}
	issued.Note = made.Note
	out := Own{Credential: c, purpose: own.purpose, lease: issued}
	if err := b.recordOwn(ctx, audit.OwnIssued, out, nil); err != nil {
		err = &cred.Error{
			Kind: cred.Unavailable, Op: "own", Reason: "OUTCOME_NOT_RECORDED",
			Public: "a credential for the broker itself was made but could not be recorded, so it is taken back", Err: err,
		}
		own.lease.Handle, own.lease.Revocable, own.lease.NotAfter = issued.Handle, issued.Revocable, issued.NotAfter
		b.loseOwn(ctx, is, own, err)
		return Own{}, err
	}
	b.owns.add(out, b.now())
	return out, nil
}

// ownNotIssued records an issuer's error: nothing was made, or something may have been.
func (b *Broker) ownNotIssued(ctx context.Context, is issuer.Issuer, own Own, why error) {
	b.raiseAlarm(ctx, cred.Grant{Holder: b.itself()}, own.lease, why)
	if !madeNothing(why) {
		b.loseOwn(ctx, is, own, why)
		return
	}
	var err error
	if own.lease, err = own.lease.Failed(b.now(), "the issuer made nothing"); err == nil {
		err = b.recordOwn(ctx, audit.OwnFailed, own, why)
	}
	if err != nil {
		b.cfg.Logger.ErrorContext(ctx, "that nothing was minted for the broker itself could not be recorded", "lease", own.lease.ID, "error", err)
	}
}

// loseOwn records that a credential exists, or may, which nobody has, and ends it where that can be done.
// What could not be recorded stays an intent without an outcome.
func (b *Broker) loseOwn(ctx context.Context, is issuer.Issuer, own Own, why error) {
	note := "nobody has it; it ends by itself where it can't be revoked"
	end := own.lease.NotAfter
	if lost, ok := is.(issuer.Unfindable); ok && own.lease.Handle == "" {
		end, note = lost.Lost(b.now())
	}
	unknown, err := own.lease.Unknown(note)
	if err == nil {
		unknown.NotAfter = end
		err = b.recordOwn(ctx, audit.OwnUnknown, Own{purpose: own.purpose, lease: unknown}, why)
	}
	if err != nil {
		b.cfg.Logger.ErrorContext(ctx, "that a credential of the broker's own may exist could not be recorded", "lease", own.lease.ID, "error", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownEndTimeout)
	defer cancel()
	b.revokeOwn(ctx, own)
}

// EndOwn ends a credential that the broker needs no more, where its source can: every other one ends by
// itself, as its entry says. Each is ended once.
func (b *Broker) EndOwn(ctx context.Context, own Own) {
	if !b.owns.take(own.lease.ID, b.now()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownEndTimeout)
	defer cancel()
	b.revokeOwn(ctx, own)
}

// endOwns ends all that the broker has for itself, when it stops.
func (b *Broker) endOwns(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownEndTimeout)
	defer cancel()
	inParallel(ctx, b.owns.takeAll(), func(own Own) { b.revokeOwn(ctx, own) })
}

// revokeOwn has a source end what the broker had for itself, by the deadline of ctx, and has it on record
// before. Where the store does not take that entry the source is asked all the same: to end a credential is
// always the safe way, and without the entries the log says that it lived until its own end, which is
// longer than it did.
func (b *Broker) revokeOwn(ctx context.Context, own Own) {
	if !own.canEnd(b.now()) {
		return
	}
	end, _ := ctx.Deadline()
	asking, cancel := context.WithDeadline(ctx, end.Add(-ownRecordTimeout))
	defer cancel()
	log := b.cfg.Logger.With("purpose", own.purpose, "lease", own.lease.ID, "not_after", own.lease.NotAfter)
	if err := b.recordOwnRevoking(asking, &own); err != nil {
		log.WarnContext(ctx, "that a credential of the broker's own is about to be ended could not be recorded; it is ended all the same", "error", err)
	}
	if err := b.revokeAtSource(asking, own.lease); err != nil {
		log.WarnContext(ctx, "a credential of the broker's own was not ended early; it ends by itself", "error", err)
		return
	}
	revoked, err := own.lease.Revoked(b.now())
	if err == nil {
		own.lease = revoked
		err = b.recordOwnBy(ctx, audit.OwnRevoked, own)
	}
	if err != nil {
		log.WarnContext(ctx, "that a credential of the broker's own was ended could not be recorded", "error", err)
	}
}

// recordOwnRevoking writes that a source is about to be asked for an end.
func (b *Broker) recordOwnRevoking(ctx context.Context, own *Own) (err error) {
	if own.lease, err = own.lease.Revoking(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ownRecordTimeout)
	defer cancel()
	return b.recordOwnBy(ctx, audit.OwnRevoking, *own)
}

// recordOwnBy writes an entry, and waits for it until ctx ends: a store that has begun to write does not
// return before its disk does, whatever becomes of ctx.
func (b *Broker) recordOwnBy(ctx context.Context, kind audit.Kind, own Own) error {
	recorded := make(chan error, 1)
	go func() { recorded <- b.append(ctx, b.ownEvent(kind, own)) }()
	select {
	case err := <-recorded:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// canEnd reports whether a source may be able to end it before its own end.
func (o Own) canEnd(now time.Time) bool {
	return o.lease.Revocable && o.lease.Handle != "" && !ended(o.lease, now)
}

// recordOwn writes an entry about a credential of the broker's own, whether or not the caller is gone.
func (b *Broker) recordOwn(ctx context.Context, kind audit.Kind, own Own, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.IssueTimeout)
	defer cancel()
	e := b.ownEvent(kind, own)
	if why != nil {
		e.Error = audit.ErrorOf(why)
	}
	return b.append(ctx, e)
}

func (b *Broker) ownEvent(kind audit.Kind, own Own) audit.Event {
	return audit.Event{
		Kind: kind, Principal: audit.PrincipalOf(b.itself()), Lease: audit.LeaseOf(own.lease), Detail: map[string]any{"purpose": own.purpose},
	}
}

// owns are the credentials of the broker's own that live, which this process has minted. The zero value is ready.
type owns struct {
	mu   sync.Mutex
	live map[cred.LeaseID]Own // owner: mu
}

// add keeps one, and forgets those that have ended by themselves.
func (o *owns) add(own Own, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.live == nil {
		o.live = map[cred.LeaseID]Own{}
	}
	maps.DeleteFunc(o.live, func(_ cred.LeaseID, old Own) bool { return ended(old.lease, now) })
	o.live[own.lease.ID] = own
}

// take reports whether one is still there and can be ended, and forgets it then: what can't be ended is the
// broker's until its own end, and no stray.
func (o *owns) take(id cred.LeaseID, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.live[id].canEnd(now) {
		return false
	}
	delete(o.live, id)
	return true
}

func (o *owns) takeAll() []Own {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := slices.Collect(maps.Values(o.live))
	clear(o.live)
	return all
}

func (o *owns) all() []Own {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Values(o.live))
}
