package broker

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// sweepPage is how many due records one look at the store brings.
const sweepPage = 256

// Run ends what is due until ctx ends: grants whose time ran out, leases whose grant is over, and
// what a crash left half-way. It returns nil when ctx ends; failures are logged and tried again.
func (b *Broker) Run(ctx context.Context) error {
	tick := time.NewTicker(b.cfg.SweepInterval)
	defer tick.Stop()
	for {
		if err := b.Sweep(ctx); err != nil && ctx.Err() == nil {
			b.cfg.Logger.ErrorContext(ctx, "the sweep did not finish; it goes on at the next turn", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep does one turn of Run: everything that is due now.
func (b *Broker) Sweep(ctx context.Context) error {
	if err := b.eachDue(ctx, store.Grants, b.sweepGrant); err != nil {
		return err
	}
	return b.eachDue(ctx, store.Leases, func(ctx context.Context, key store.Key) error {
		_, err := b.settle(ctx, key, whenDue)
		return err
	})
}

// eachDue calls do for what is due now. A record that is still due afterwards ends the turn, so that
// one that can't be settled does not keep the sweep busy.
func (b *Broker) eachDue(ctx context.Context, table store.Table, do func(context.Context, store.Key) error) error {
	seen := map[string]bool{}
	for {
		keys, err := b.due(ctx, table)
		if err != nil {
			return err
		}
		fresh := false
		for _, key := range keys {
			if seen[key.ID] {
				continue
			}
			seen[key.ID], fresh = true, true
			if err := do(ctx, key); err != nil {
				b.cfg.Logger.WarnContext(ctx, "could not settle what is due", "table", table, "id", key.ID, "error", err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if !fresh || len(keys) < sweepPage {
			return nil
		}
	}
}

func (b *Broker) due(ctx context.Context, table store.Table) ([]store.Key, error) {
	var keys []store.Key
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		keys = keys[:0]
		for r, err := range tx.Scan(store.Query{Table: table, DueBy: b.now(), Limit: sweepPage}) {
			if err != nil {
				return err
			}
			keys = append(keys, r.Key)
		}
		return nil
	})
	return keys, err
}

// sweepGrant ends a grant whose time ran out, then its leases.
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
		if g.State() != cred.GrantActive && g.State() != cred.GrantPending {
			return putGrant(tx, g, time.Time{}) // it ended before its time; proxies need not remember it any more
		}
		if g, err = g.Expire(now); err != nil {
			return err
		}
		if err := putGrant(tx, g, time.Time{}); err != nil {
			return err
		}
		return tx.Append(audit.Event{Kind: audit.GrantExpired, Time: now, Grant: g.ID, Detail: map[string]any{"target": g.Want.Target}})
	})
	if err != nil {
		return err
	}
	_, err = b.endLeases(ctx, id)
	return err
}
