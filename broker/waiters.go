package broker

import (
	"sync"

	"github.com/daypass-io/daypass/cred"
)

// waiters wakes those who wait for a grant to change. Its zero value is ready.
type waiters struct {
	mu  sync.Mutex
	all map[cred.GrantID]map[chan struct{}]struct{} // owner: mu; under the empty ID: those who wait for any
}

// join returns a channel that gets a value after a change of a grant, or of any where id is empty.
// Several changes may come as one.
func (w *waiters) join(id cred.GrantID) (changed <-chan struct{}, leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[cred.GrantID]map[chan struct{}]struct{}{}
	}
	ch := make(chan struct{}, 1)
	if w.all[id] == nil {
		w.all[id] = map[chan struct{}]struct{}{}
	}
	w.all[id][ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all[id], ch)
		if len(w.all[id]) == 0 {
			delete(w.all, id)
		}
	}
}

// changed wakes those who wait for a grant.
func (w *waiters) changed(id cred.GrantID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range []cred.GrantID{id, ""} {
		for ch := range w.all[key] {
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	}
}
