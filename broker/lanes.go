package broker

import (
	"context"
	"sync"
	"time"

	"github.com/daypass-io/daypass/store"
)

// How many leases of one issuer are settled at once, and how long a place among them may be waited for: a
// source that frees none for so long is slow, and nobody waits for it until it answers in less again.
const (
	lanePlaces = 16
	laneWait   = 2 * time.Second
)

// lanes settle leases, those of each issuer apart, so that a source which does not answer holds up its own
// leases and no others. The zero value is ready.
type lanes struct {
	mu   sync.Mutex
	of   map[string]*lane   // by issuer; owner: mu
	busy map[store.Key]bool // being settled by a lane; owner: mu
}

type lane struct {
	places chan struct{}
	slow   bool // owner: lanes.mu
}

// begin calls do in the background once the issuer has a place, and counts it in wg. It does not where
// another call settles the lease already, the source is slow and all its places are taken, or ctx has
// ended: what is left so is due later.
func (ls *lanes) begin(ctx context.Context, wg *sync.WaitGroup, issuer string, key store.Key, do func()) {
	on, ok := ls.enter(issuer, key)
	if !ok {
		return
	}
	if !ls.place(ctx, on) {
		ls.leave(key)
		return
	}
	wg.Go(func() {
		began := time.Now()
		defer func() {
			<-on.places
			ls.leave(key)
			if time.Since(began) < laneWait {
				ls.mark(on, false)
			}
		}()
		do()
	})
}

func (ls *lanes) enter(issuer string, key store.Key) (*lane, bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.of == nil {
		ls.of, ls.busy = map[string]*lane{}, map[store.Key]bool{}
	}
	if ls.busy[key] {
		return nil, false
	}
	ls.busy[key] = true
	if ls.of[issuer] == nil {
		ls.of[issuer] = &lane{places: make(chan struct{}, lanePlaces)}
	}
	return ls.of[issuer], true
}

func (ls *lanes) leave(key store.Key) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.busy, key)
}

func (ls *lanes) mark(on *lane, slow bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	on.slow = slow
}

// place takes a place in a lane, and waits for one where the source is not slow.
func (ls *lanes) place(ctx context.Context, on *lane) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case on.places <- struct{}{}:
		return true
	default:
	}
	ls.mu.Lock()
	slow := on.slow
	ls.mu.Unlock()
	if slow {
		return false
	}
	patience := time.NewTimer(laneWait)
	defer patience.Stop()
	select {
	case on.places <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-patience.C:
		ls.mark(on, true)
	}
	return false
}
