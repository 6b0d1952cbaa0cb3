package broker

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/failpoint"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// settling says what settle knows besides the lease itself.
type settling int

const (
	whenDue settling = iota // end it only where its time or its grant's has come
	endNow                  // it is to end, and no attempt to issue it runs any more
	notMade                 // the issuer is sure that it was never made
)

// The spacing of questions to sources. Vault needs some ten minutes to give up on a lease.
const (
	irrevocableAgain = time.Hour // to one that has given up
	unconfirmedFor   = time.Hour // how long after a lease's own end a source is asked for it that confirms nothing
)

// settle takes a lease as far towards its end as can be done now. It is the one way in which leases
// end: live calls, the sweep and recovery after a crash all come here. It returns the lease as it
// then stands; one that its source would not revoke stays revoking, and is due again later.
func (b *Broker) settle(ctx context.Context, key store.Key, mode settling) (cred.Lease, error) {
	step, err := b.stepLease(ctx, key, mode)
	if err != nil || !step.revoke {
		return step.lease, err
	}
	failpoint.Hit("revoke.after-intent")
	answer := b.revokeAtSource(ctx, step.lease)
	failpoint.Hit("revoke.after-revoke")
	return b.recordRevocation(ctx, key, answer)
}

// leaseStep is what one transaction of settle found out.
type leaseStep struct {
	lease  cred.Lease
	revoke bool // the source is to be asked now
}

// stepLease does the next step that needs nothing but the store.
func (b *Broker) stepLease(ctx context.Context, key store.Key, mode settling) (leaseStep, error) {
	var out leaseStep
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		l, err := getLease(tx, key)
		if err != nil {
			return err
		}
		g, err := getGrant(tx, l.Grant)
		if err != nil {
			return err
		}
		next, err := b.advance(ctx, tx, l, g, mode)
		out = leaseStep{lease: next, revoke: askedFor(next)}
		if err == nil && mode == whenDue && next.State() == cred.LeaseIssued && next.Renewable {
			return putLease(tx, next, b.dueOf(next, g)) // it was due to be renewed, and is not
		}
		if err != nil || !out.revoke {
			return err
		}
		// While we ask the source the sweep need not. Should we die meanwhile, it will.
		return putLease(tx, next, b.now().Add(b.cfg.IssueTimeout))
	})
	if err != nil {
		return leaseStep{}, notRecorded(err)
	}
	return out, nil
}

// advance writes the next state of a lease that needs nothing but the store, if there is one.
func (b *Broker) advance(ctx context.Context, tx store.Tx, l cred.Lease, g cred.Grant, mode settling) (cred.Lease, error) {
	now := b.now()
	abandoned := !now.Before(l.CreatedAt.Add(b.cfg.IssueTimeout))
	next, kind, err := nextLease(l, now, mode, g.Usable(now) != nil, abandoned)
	if err != nil || kind == "" {
		return next, err
	}
	if lost, ok := b.cfg.Issuers[l.Issuer].(issuer.Unfindable); ok && l.State() == cred.LeaseIntent && kind == audit.LeaseUnknown {
		end, note := lost.Lost(l.CreatedAt.Add(b.cfg.IssueTimeout))
		next.Note = note
		if end.IsZero() || end.After(next.NotAfter) {
			next.NotAfter = end
		}
	}
	return b.writeLease(ctx, tx, next, g, kind)
}

// writeLease writes a lease's new state and its entry.
func (b *Broker) writeLease(ctx context.Context, tx store.Tx, l cred.Lease, g cred.Grant, kind audit.Kind) (cred.Lease, error) {
	if err := putLease(tx, l, b.dueOf(l, g)); err != nil {
		return l, err
	}
	l.Rev++
	return l, tx.Append(b.leaseEvent(ctx, kind, l))
}

// dueOf is when the sweep has to look at a lease; zero means never again.
func (b *Broker) dueOf(l cred.Lease, g cred.Grant) time.Time {
	switch {
	case l.Final():
		return time.Time{}
	case l.State() == cred.LeaseIntent:
		return l.CreatedAt.Add(b.cfg.IssueTimeout)
	case l.State() == cred.LeaseRevoking:
		return b.now()
	case irrevocable(l):
		return b.now().Add(irrevocableAgain)
	case b.renews(l, g):
		return renewalDue(b.now(), l)
	case l.State() == cred.LeaseIssued && l.Revocable:
		return earliest(l.End(), g.NotAfter)
	default:
		return l.End()
	}
}

// nextLease decides the next state of a lease; an empty kind means that it stays.
func nextLease(l cred.Lease, now time.Time, mode settling, grantOver, abandoned bool) (cred.Lease, audit.Kind, error) {
	end := mode == endNow || grantOver
	over := ended(l, now)
	var next cred.Lease
	var kind audit.Kind
	var err error
	switch l.State() {
	case cred.LeaseIntent:
		switch {
		case mode == notMade:
			next, err = l.Failed(now, "the issuer made nothing")
			kind = audit.LeaseFailed
		case mode != endNow && !abandoned:
			return l, "", nil // somebody may be issuing it right now
		case l.Handle != "":
			next, err = l.Revoking()
			kind = audit.LeaseRevoking
		default:
			next, err = l.Unknown("the attempt to issue it ended without an outcome, and its source gave no handle to revoke it by")
			kind = audit.LeaseUnknown
		}
	case cred.LeaseIssued, cred.LeaseUnknown:
		switch {
		case over:
			next, err = l.Expired(now)
			kind = audit.LeaseExpired
		case end && l.State() == cred.LeaseIssued && l.Revocable:
			next, err = l.Revoking()
			kind = audit.LeaseRevoking
		default:
			return l, "", nil
		}
	default: // revoking: the source is to be asked again, whose answer alone can end it; final states stay
		return l, "", nil
	}
	return next, kind, err
}

// ended reports whether a credential's own end has passed; one that has none does not end by itself.
func ended(l cred.Lease, now time.Time) bool { return !l.NotAfter.IsZero() && !now.Before(l.End()) }

// askedFor reports whether the source is to be asked to end a lease.
func askedFor(l cred.Lease) bool { return l.State() == cred.LeaseRevoking || irrevocable(l) }

// irrevocable reports whether a lease's source has given up on ending it, see cred.Lease.Irrevocable. It is
// asked about until its source has it no more.
func irrevocable(l cred.Lease) bool {
	return l.State() == cred.LeaseUnknown && l.Revocable && l.Handle != "" && l.NotAfter.IsZero()
}

// revokeAtSource asks the issuer to end a lease.
func (b *Broker) revokeAtSource(ctx context.Context, l cred.Lease) error {
	is, ok := b.cfg.Issuers[l.Issuer]
	if !ok {
		return cred.Errorf(cred.Unavailable, "revoke", "", "issuer %q is not configured any more", l.Issuer)
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.IssueTimeout*3/4)
	defer cancel()
	return is.Revoke(ctx, l)
}

// recordRevocation writes what the source answered: the end; that it has given up, after which the lease
// has no end until the source tells of it; that it can't end this one, after which nobody knows until the
// credential's own end; or a failure, after which the sweep tries again.
func (b *Broker) recordRevocation(ctx context.Context, key store.Key, answer error) (cred.Lease, error) {
	if answer != nil {
		b.cfg.Logger.WarnContext(ctx, "a lease could not be revoked yet", "lease", key.ID, "error", answer)
	}
	var l cred.Lease
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		var err error
		if l, err = getLease(tx, key); err != nil || !askedFor(l) {
			return err // somebody else brought it to its end
		}
		// Before it is asked whether its end has passed: this may be a later one.
		if until := issuer.LivesUntil(answer); until.After(l.NotAfter) && !l.NotAfter.IsZero() {
			l.NotAfter = until
		}
		now := b.now()
		next, kind, err := revocation(l, now, answer)
		switch {
		case err != nil:
			return err
		case kind == "" && irrevocable(l):
			return putLease(tx, l, now.Add(irrevocableAgain))
		case kind == "":
			return putLease(tx, l, now.Add(retryAfter(now.Sub(l.CreatedAt))))
		}
		l, err = b.writeLease(ctx, tx, next, cred.Grant{}, kind)
		return err
	})
	if err != nil {
		return l, notRecorded(err)
	}
	return l, nil
}

// revocation decides what a source's answer makes of a lease; an empty kind means that it stays.
//
// The end of a lease's own is no proof where its source was to end it and did not say that it had: for a
// while longer the source is asked, as it may be about to give up.
func revocation(l cred.Lease, now time.Time, answer error) (next cred.Lease, kind audit.Kind, err error) {
	final := cred.KindOf(answer) == cred.Invalid
	switch {
	case answer == nil:
		next, err = l.Revoked(now)
		kind = audit.LeaseRevoked
	case irrevocable(l):
		return l, "", nil
	case issuer.Irrevocable(answer):
		next, err = l.Irrevocable(cred.PublicText(answer))
		kind = audit.LeaseUnknown
	case ended(l, now) && final, ended(l, now.Add(-unconfirmedFor)):
		next, err = l.Expired(now)
		kind = audit.LeaseExpired
	case final:
		next, err = l.Unknown(cred.PublicText(answer))
		next.Revocable = false
		kind = audit.LeaseUnknown
	default:
		return l, "", nil
	}
	return next, kind, err
}

// retryAfter spaces the tries to revoke: a second at first, a minute at the most.
func retryAfter(age time.Duration) time.Duration {
	return min(max(age/4, time.Second), time.Minute)
}
