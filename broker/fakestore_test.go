package broker

import (
	"context"
	"errors"
	"sync"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// faultyStore is a store for one process, with failures in two forms. An Update that fails did not
// happen (notDone), or is on disk and its answer was lost (doneLost). One that hangs has begun, and happens
// once the disk is back, whoever waits for it.
type faultyStore struct {
	inner   store.Store
	process *process

	mu   sync.Mutex
	next []fault // of the next Updates; guarded by mu

	viewed func()        // called after each View; nil: nothing
	back   chan struct{} // closed when a disk that hangs is back
}

var errDisk = errors.New("the fake disk is full")

func diskFull() error {
	return &cred.Error{Kind: cred.Unavailable, Op: "store.update", Reason: "STORE_WRITE_FAILED", Public: "the store is not well", Err: errDisk}
}

func (s *faultyStore) plan(faults ...fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = append(s.next, faults...)
}

func (s *faultyStore) View(ctx context.Context, fn func(store.Tx) error) error {
	s.process.step("view")
	err := s.inner.View(ctx, fn)
	if s.viewed != nil {
		s.viewed()
	}
	return err
}

func (s *faultyStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.process.step("update")
	s.mu.Lock()
	f := works
	if len(s.next) > 0 {
		f, s.next = s.next[0], s.next[1:]
	}
	s.mu.Unlock()
	switch f {
	case notDone:
		return diskFull()
	case hangs:
		<-s.back
		ctx = context.WithoutCancel(ctx)
	}
	err := s.inner.Update(ctx, fn)
	s.process.step("updated")
	if err == nil && f == doneLost {
		return diskFull()
	}
	return err
}

func (s *faultyStore) Close() error { return s.inner.Close() }
