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

// The spacing of renewals. A gain of less than renewalGain is not worth a call: sources reckon in whole
// seconds, and what is left to the end of the grant would else be asked for again and again.
const (
	renewalGain       = 2 * time.Second
	minRenewalSpacing = time.Second
	minRenewalRetry   = 5 * time.Second
	maxRenewalRetry   = time.Minute
)

// renews reports whether a lease is to be renewed, at its time: it ends before its grant, which lives.
func (b *Broker) renews(l cred.Lease, g cred.Grant) bool {
	now := b.now()
	return l.State() == cred.LeaseIssued && l.Renewable && !l.NotAfter.IsZero() && !ended(l, now) &&
		g.Usable(now) == nil && l.NotAfter.Add(renewalGain).Before(g.NotAfter)
}

// renewalDue is when a lease is renewed: once two thirds of what is left of its life are over.
func renewalDue(now time.Time, l cred.Lease) time.Time {
	return now.Add(max(l.NotAfter.Sub(now)*2/3, minRenewalSpacing)).Truncate(time.Millisecond)
}

// renewalRetry is when a renewal of which nobody knows whether it was done is tried again: some times
// before the lease's end, and then, since it may live until the end that was asked for, each minute. At
// the end of the grant the lease is due in any case.
func renewalRetry(now time.Time, l cred.Lease, g cred.Grant) time.Time {
	wait := maxRenewalRetry
	if left := l.NotAfter.Sub(now); left > 0 {
		wait = min(max(left/4, minRenewalRetry), maxRenewalRetry)
	}
	return earliest(now.Add(wait).Truncate(time.Millisecond), g.NotAfter)
}

// renewal is one try to renew a lease.
type renewal struct {
	lease cred.Lease
	until time.Time // the end that the source is asked for
	doubt bool      // an earlier try may have been done and its answer lost
}

// beginRenewal records the end that a source is about to be asked for, in the lease and in the log, if a
// lease is to be renewed now: a crash from here on leaves a lease that may live until then, and that the
// sweep comes back to.
func (b *Broker) beginRenewal(ctx context.Context, key store.Key) (r renewal, due bool, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) (err error) { // most of what is due is to end, in its own transaction
		_, _, due, err = b.dueForRenewal(tx, key)
		return err
	})
	if err != nil || !due {
		return r, false, err
	}
	failpoint.Hit("renew.before")
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		r, due, err = b.beginRenewalIn(ctx, tx, key)
		return err
	})
	if err != nil {
		return r, false, notRecorded(err)
	}
	return r, due, nil
}

func (b *Broker) beginRenewalIn(ctx context.Context, tx store.Tx, key store.Key) (r renewal, due bool, err error) {
	l, g, due, err := b.dueForRenewal(tx, key)
	if err != nil || !due {
		return r, false, err
	}
	err = checkLocks(tx, g.Holder, g.Want.Target, b.now())
	if _, locked := errors.AsType[refused](err); locked { // who set the lock ends the grant, too
		return r, false, putLease(tx, l, renewalRetry(b.now(), l, g))
	}
	if err != nil {
		return r, false, err
	}
	r = renewal{until: g.NotAfter, doubt: !l.AskedUntil.IsZero()}
	if r.lease, err = l.Renewing(r.until); err != nil {
		return r, false, err
	}
	// While we ask the source the sweep need not. Should we die meanwhile, it will.
	err = putLease(tx, r.lease, earliest(b.now().Add(b.cfg.IssueTimeout), g.NotAfter))
	if err != nil || r.lease.AskedUntil.Equal(l.AskedUntil) { // asked again: only the due time changes, which is no state
		return r, true, err
	}
	e := b.leaseEvent(ctx, audit.LeaseRenewing, r.lease)
	e.Detail = map[string]any{"asked_until": r.lease.AskedUntil.UTC().Format(time.RFC3339Nano)}
	return r, true, tx.Append(e)
}

// dueForRenewal reads a lease with its grant, and reports whether it is to be renewed now.
func (b *Broker) dueForRenewal(tx store.Tx, key store.Key) (cred.Lease, cred.Grant, bool, error) {
	r, err := tx.Get(key)
	if err != nil {
		return cred.Lease{}, cred.Grant{}, false, err
	}
	l, err := decodeLease(r)
	if err != nil || !l.Renewable || l.State() != cred.LeaseIssued || b.now().Before(r.Due) {
		return l, cred.Grant{}, false, err
	}
	g, err := getGrant(tx, l.Grant)
	return l, g, err == nil && b.renews(l, g), err
}

// extend asks the source to let a lease live until its grant ends, and records the answer. It is the
// one way in which leases are renewed, first tries and those after a crash alike.
func (b *Broker) extend(ctx context.Context, r renewal) error {
	l := r.lease
	end, answer := b.renewAtSource(ctx, l, r.until)
	failpoint.Hit("renew.after-source")
	if answer != nil {
		b.cfg.Logger.WarnContext(ctx, "a lease was not renewed", "grant", l.Grant, "lease", l.ID, "issuer", l.Issuer, "error", answer)
	}
	missing, err := b.recordRenewal(context.WithoutCancel(ctx), r, end, answer)
	if err != nil {
		return err
	}
	failpoint.Hit("renew.after-outcome")
	if missing {
		_, err = b.settle(ctx, leaseKey(l), whenDue)
	}
	return err
}

func (b *Broker) renewAtSource(ctx context.Context, l cred.Lease, until time.Time) (time.Time, error) {
	is, ok := b.cfg.Issuers[l.Issuer]
	if !ok {
		return time.Time{}, cred.Errorf(cred.Unavailable, "renew", "", "issuer %q is not configured any more", l.Issuer)
	}
	r, ok := is.(issuer.Renewer)
	if !ok {
		return time.Time{}, &cred.Error{Kind: cred.Invalid, Op: "renew", Reason: "NO_RENEWALS", Public: "its issuer renews nothing"}
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.IssueTimeout*3/4)
	defer cancel()
	end, err := r.Renew(ctx, l, until)
	if err == nil && end.IsZero() {
		err = cred.Errorf(cred.Internal, "renew", "", "issuer %q renewed without an end", l.Issuer)
	}
	return end.UTC().Truncate(time.Millisecond), err
}

// recordRenewal writes what the source answered, or has the sweep try again where nobody knows. It
// reports whether the source has the lease no more, so that it is to be settled.
func (b *Broker) recordRenewal(ctx context.Context, r renewal, end time.Time, answer error) (missing bool, err error) {
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		missing = false
		l, err := getLease(tx, leaseKey(r.lease))
		if err != nil || l.State() != cred.LeaseIssued {
			return err // somebody ended it meanwhile
		}
		g, err := getGrant(tx, l.Grant)
		if err != nil {
			return err
		}
		l, kind, err := r.outcome(l, b.now(), end, answer)
		switch {
		case err != nil:
			return err
		case kind == "":
			return putLease(tx, l, renewalRetry(b.now(), l, g))
		}
		missing = kind == audit.LeaseMissing
		_, err = b.writeLease(ctx, tx, l, g, kind)
		return err
	})
	if err != nil {
		return false, notRecorded(err)
	}
	return missing, nil
}

// outcome is what a source's answer makes of a lease: a new end; none, because it renews this one no
// more; its end, because it has it no more. An empty kind means that nobody knows.
func (r renewal) outcome(l cred.Lease, now, end time.Time, answer error) (cred.Lease, audit.Kind, error) {
	was := l.NotAfter
	renewed := func(end time.Time, stop string) (cred.Lease, audit.Kind, error) {
		l, err := l.Renewed(end)
		if err != nil || stop == "" {
			return l, audit.LeaseRenewed, err
		}
		l, err = l.NotRenewed(stop)
		return l, audit.LeaseNotRenewed, err
	}
	switch k := cred.KindOf(answer); {
	case answer == nil && !end.After(was):
		return renewed(end, "its source lets it live no longer")
	case answer == nil:
		return renewed(end, "")
	case k == cred.NotFound && !now.Before(was): // as was to be expected, so the doubt is over
		l, _, err := renewed(was, "")
		if err == nil {
			l, err = l.Expired(now)
		}
		return l, audit.LeaseExpired, err
	case k == cred.NotFound && l.Revocable: // it is revoked all the same, so that surely nothing is left of it
		l, err := l.Revoking()
		return l, audit.LeaseMissing, err
	case (k == cred.NotFound || k == cred.Invalid) && r.doubt:
		l, err := l.NotRenewed(cred.PublicText(answer))
		return l, audit.LeaseNotRenewed, err
	case k == cred.NotFound || k == cred.Invalid:
		return renewed(was, cred.PublicText(answer))
	}
	return l, "", nil
}
