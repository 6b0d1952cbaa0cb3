package broker

import (
	"context"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// sweepLeases begins to settle the leases that are due now, in wg, and returns how long it took to look
// for them: behind what a source that does not answer has left due, there may be much to pass by.
func (b *Broker) sweepLeases(ctx context.Context, wg *sync.WaitGroup) (looking time.Duration, err error) {
	passed := map[store.Key]bool{}
	for limit := sweepPage; ctx.Err() == nil; {
		began := time.Now()
		due, err := b.dueLeases(ctx, limit)
		looking += time.Since(began)
		if err != nil {
			return looking, err
		}
		fresh := 0
		for _, l := range due {
			if passed[l.key] {
				continue
			}
			passed[l.key] = true
			fresh++
			b.lanes.begin(ctx, wg, l.issuer, l.key, func() { b.sweepLease(ctx, l.key) })
		}
		if len(due) < limit {
			return looking, nil
		}
		if fresh < limit/2 {
			limit *= 2
		}
	}
	return looking, ctx.Err()
}

// dueLease is a lease that is due, and whose source is asked.
type dueLease struct {
	key    store.Key
	issuer string // empty where the record can't be read
}

func (b *Broker) dueLeases(ctx context.Context, limit int) (due []dueLease, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) error {
		due = due[:0]
		for r, err := range tx.Scan(store.Query{Table: store.Leases, DueBy: b.now(), Limit: limit}) {
			if err != nil {
				return err
			}
			var l struct {
				Issuer string `json:"issuer"`
			}
			_ = jsonv2.Unmarshal(r.Value, &l) // settling it tells
			due = append(due, dueLease{r.Key, l.Issuer})
		}
		return nil
	})
	return due, err
}

// sweepLease renews a lease whose grant lives on, and takes every other one towards its end.
func (b *Broker) sweepLease(ctx context.Context, key store.Key) {
	err := func() error {
		r, due, err := b.beginRenewal(ctx, key)
		if err != nil {
			return err
		}
		if due {
			return b.extend(ctx, r)
		}
		_, err = b.settle(ctx, key, whenDue)
		return err
	}()
	if err != nil && ctx.Err() == nil {
		b.couldNotSettle(ctx, key, err)
	}
}

// endAll settles the leases of grants that are over, as far as their sources answer: what is left is due.
func (b *Broker) endAll(ctx context.Context, ids []cred.GrantID) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, id := range ids {
		leases, err := b.leases(ctx, id)
		if err != nil {
			b.cfg.Logger.ErrorContext(ctx, "the sweep will settle the leases of this grant", "grant", id, "error", err)
			continue
		}
		for _, l := range leases {
			if l.Final() {
				continue
			}
			key := leaseKey(l)
			b.lanes.begin(ctx, &wg, l.Issuer, key, func() {
				if _, err := b.settle(ctx, key, whenDue); err != nil {
					b.couldNotSettle(ctx, key, err)
				}
			})
		}
	}
}
