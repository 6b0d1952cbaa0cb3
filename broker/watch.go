package broker

import (
	"context"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Revocation tells that a grant was taken back before its time.
type Revocation struct {
	Grant    cred.GrantID
	NotAfter time.Time // until when a proxy must remember it
}

// WatchRevocations calls send for every grant that is revoked and would still live, then current,
// then send for each revocation as it happens, until ctx ends or a call fails; beat is called at
// least every interval in which nothing happened. A watcher that does not keep up is cut off with
// Unavailable, so that it starts afresh and misses nothing.
func (b *Broker) WatchRevocations(ctx context.Context, interval time.Duration, send func(Revocation) error, current, beat func() error) error {
	ch, leave := b.watchers.join() // before the scan: what happens meanwhile comes twice, not never
	defer leave()
	past, err := b.liveRevocations(ctx)
	if err != nil {
		return err
	}
	for _, r := range past {
		if err := send(r); err != nil {
			return err
		}
	}
	if err := current(); err != nil {
		return err
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r, ok := <-ch:
			if !ok {
				return &cred.Error{
					Kind: cred.Unavailable, Op: "watch", Reason: "WATCHER_TOO_SLOW",
					Public: "this watcher fell behind; connect again",
				}
			}
			err = send(r)
		case <-tick.C:
			err = beat()
		}
		if err != nil {
			return err
		}
	}
}

// liveRevocations lists the grants that are revoked and whose own end is still to come.
func (b *Broker) liveRevocations(ctx context.Context) ([]Revocation, error) {
	var out []Revocation
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out = out[:0]
		for g, err := range grantsToCome(tx, b.now()) {
			if err != nil {
				return err
			}
			if g.State() == cred.GrantRevoked {
				out = append(out, Revocation{g.ID, g.NotAfter})
			}
		}
		return nil
	})
	return out, err
}

// watcherBuffer is how many revocations a watcher may fall behind.
const watcherBuffer = 1024

// watchers spreads revocations to those who listen. Its zero value is ready.
type watchers struct {
	mu   sync.Mutex
	next int
	all  map[int]chan Revocation // owner: mu; a channel is closed once its watcher fell behind
}

func (w *watchers) join() (<-chan Revocation, func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[int]chan Revocation{}
	}
	id, ch := w.next, make(chan Revocation, watcherBuffer)
	w.next++
	w.all[id] = ch
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, id)
	}
}

func (w *watchers) notify(r Revocation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, ch := range w.all {
		select {
		case ch <- r:
		default:
			close(ch)
			delete(w.all, id)
		}
	}
}
