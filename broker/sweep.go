package broker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// sweepPage is how many due records one look at the store brings, and sweepers how many of them are
// worked on at once, so that they share their commits.
const (
	sweepPage = 256
	sweepers  = 16
)

// Run ends what is due until ctx ends: grants whose time ran out, leases whose grant is over, and
// what a crash left half-way. It returns nil when ctx ends and the steps of rotations that are under way at
// their sources are done, and has then ended what the broker had minted for itself; failures are logged and
// tried again.
func (b *Broker) Run(ctx context.Context) error {
	defer b.endOwns(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.runRotations(ctx) })
	wg.Go(func() { b.reconcile(ctx) })
	wg.Go(func() { b.watchJobs(ctx) })
	wg.Go(func() {
		b.repeat(ctx, func() (time.Duration, error) { return 0, b.sweepRecords(ctx) })
	})
	b.repeat(ctx, func() (time.Duration, error) { // does not wait for what it begins
		looking, err := b.sweepLeases(ctx, &wg)
		return 3 * looking, err
	})
	return nil
}

// repeat takes turns of the sweep until ctx ends: one each SweepInterval, or after the pause that the turn
// asks for, where that is longer.
func (b *Broker) repeat(ctx context.Context, turn func() (pause time.Duration, err error)) {
	for ctx.Err() == nil {
		pause, err := turn()
		if err != nil && ctx.Err() == nil {
			b.cfg.Logger.ErrorContext(ctx, "the sweep did not finish; it goes on at the next turn", "error", err)
		}
		wait := time.NewTimer(max(pause, b.cfg.SweepInterval))
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// Sweep does one turn of Run, and waits for all of it: everything that is due now but rotations, see
// AdvanceRotations.
func (b *Broker) Sweep(ctx context.Context) error {
	if err := b.sweepRecords(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	_, err := b.sweepLeases(ctx, &wg)
	return err
}

// sweepRecords does what is due and asks no source.
func (b *Broker) sweepRecords(ctx context.Context) error {
	for _, due := range []struct {
		table store.Table
		do    func(context.Context, store.Key) error
	}{
		{store.Grants, b.sweepGrant},
		{store.Requests, b.sweepRequest},
		{store.Standing, b.sweepStanding},
		{store.Locks, b.sweepLock},
		{store.Seen, b.sweepSeen},
	} {
		if err := b.eachDue(ctx, due.table, due.do); err != nil {
			return err
		}
	}
	return b.enforceLocks(ctx)
}

// eachDue calls do for what is due now, once for each record in a turn: those that can't be settled
// neither keep the sweep busy nor hide what is due behind them.
func (b *Broker) eachDue(ctx context.Context, table store.Table, do func(context.Context, store.Key) error) error {
	seen := map[store.Key]bool{}
	for limit := sweepPage; ctx.Err() == nil; {
		keys, err := b.due(ctx, table, limit)
		if err != nil {
			return err
		}
		last := len(keys) < limit
		keys = slices.DeleteFunc(keys, func(key store.Key) bool { return seen[key] })
		b.all(ctx, keys, do)
		for _, key := range keys {
			seen[key] = true
		}
		if last {
			return nil
		}
		if len(keys) == 0 {
			limit += sweepPage
		}
	}
	return ctx.Err()
}

// all calls do for each key, several at once.
func (b *Broker) all(ctx context.Context, keys []store.Key, do func(context.Context, store.Key) error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, sweepers)
	for _, key := range keys {
		places <- struct{}{}
		if ctx.Err() != nil {
			return
		}
		wg.Go(func() {
			defer func() { <-places }()
			if err := do(ctx, key); err != nil && ctx.Err() == nil {
				b.couldNotSettle(ctx, key, err)
			}
		})
	}
}

func (b *Broker) couldNotSettle(ctx context.Context, key store.Key, err error) {
	b.cfg.Logger.WarnContext(ctx, "could not settle what is due", "table", key.Table, "id", key.ID, "error", err)
}

func (b *Broker) due(ctx context.Context, table store.Table, limit int) ([]store.Key, error) {
	var keys []store.Key
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		keys = keys[:0]
		for r, err := range tx.Scan(store.Query{Table: table, DueBy: b.now(), Limit: limit}) {
			if err != nil {
				return err
			}
			keys = append(keys, r.Key)
		}
		return nil
	})
	return keys, err
}

// sweepGrant ends a grant whose time ran out. What can be revoked of its leases is due by then, too.
func (b *Broker) sweepGrant(ctx context.Context, key store.Key) error {
	id := cred.GrantID(key.ID)
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		g, err := getGrant(tx, id)
		if err != nil {
			return err
		}
		now := b.now()
		if now.Before(g.NotAfter) {
			return nil
		}
		if err := forgetRetryKey(tx, g); err != nil {
			return err
		}
		if g.Over() {
			return putGrant(tx, g, time.Time{}) // it ended before its time; proxies need not remember it any more
		}
		asked := g.State() == cred.GrantPending
		if g, err = g.Expire(now); err != nil {
			return err
		}
		if err := putGrant(tx, g, time.Time{}); err != nil {
			return err
		}
		if asked {
			if err := b.requestExpired(tx, g); err != nil {
				return err
			}
		}
		return tx.Append(audit.Event{Kind: audit.GrantExpired, Time: now, Grant: g.ID, Detail: map[string]any{"target": g.Want.Target}})
	})
	b.waiters.changed(id)
	return err
}

func (b *Broker) requestExpired(tx store.Tx, g cred.Grant) error {
	if err := dropRequest(tx, g.ID); err != nil {
		return err
	}
	return b.notify(tx, notice.RequestExpired, g, g.Demand.Groups(), "has expired: nobody decided in time")
}

// sweepRequest reminds those who are asked, and tells of a review that nobody has done in time.
func (b *Broker) sweepRequest(ctx context.Context, key store.Key) error {
	return b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		g, err := getGrant(tx, cred.GrantID(key.ID))
		if err != nil {
			return err
		}
		now := b.now()
		if g.Review != nil {
			return b.reviewOverdue(tx, g, now)
		}
		if g.State() == cred.GrantPending && now.Before(g.NotAfter) {
			if err := b.notify(tx, notice.RequestReminder, g, g.Demand.Groups(), "still waits for approval"); err != nil {
				return err
			}
		}
		return putRequest(tx, g.ID, remindAt(g, now))
	})
}

// reviewOverdue records it once. The grant stays listed until somebody signs it off.
func (b *Broker) reviewOverdue(tx store.Tx, g cred.Grant, now time.Time) error {
	if g.Review.SignedOff != nil || g.Review.Overdue || now.Before(g.Review.Due) {
		return nil
	}
	review := *g.Review
	review.Overdue = true
	g.Review = &review
	due := g.NotAfter
	if g.State() == cred.GrantExpired || g.Over() && !now.Before(g.NotAfter) {
		due = time.Time{}
	}
	if err := putGrant(tx, g, due); err != nil {
		return err
	}
	if err := putRequest(tx, g.ID, time.Time{}); err != nil {
		return err
	}
	if err := b.notify(tx, notice.ReviewOverdue, g, review.Groups, "was given without approval, and nobody has reviewed it in time"); err != nil {
		return err
	}
	return tx.Append(audit.Event{
		Kind: audit.ReviewOverdue, Time: now, Grant: g.ID, Principal: audit.PrincipalOf(g.Holder),
		Detail: map[string]any{"target": g.Want.Target, "due": review.Due.UTC().Format(time.RFC3339)},
	})
}

// sweepStanding ends a standing approval whose time ran out.
func (b *Broker) sweepStanding(ctx context.Context, key store.Key) error {
	return b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		r, err := tx.Get(key)
		if err != nil {
			return err
		}
		s, err := decodeStanding(r)
		if err != nil {
			return err
		}
		now := b.now()
		if now.Before(s.NotAfter) {
			return nil
		}
		e := s.event(ctx, audit.StandingRevoked, s.ProposedBy, now)
		e.Principal, e.Detail["why"] = nil, "its time ran out"
		if err := tx.Append(e); err != nil {
			return err
		}
		return dropStanding(tx, s)
	})
}

// sweepLock lifts a lock whose time ran out.
func (b *Broker) sweepLock(ctx context.Context, key store.Key) error {
	return b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		r, err := tx.Get(key)
		if err != nil {
			return err
		}
		l, err := decodeLock(r)
		if err != nil {
			return err
		}
		if b.now().Before(l.NotAfter) {
			return nil
		}
		return b.lift(ctx, tx, l, cred.Principal{}, "its time ran out")
	})
}

// sweepSeen forgets an ID token that is refused by now because of its age. Nothing that counts
// changes, so there is no entry.
func (b *Broker) sweepSeen(ctx context.Context, key store.Key) error {
	return b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		r, err := tx.Get(key)
		if err != nil {
			return err
		}
		return tx.Put(store.Record{Key: key, Rev: r.Rev})
	})
}
