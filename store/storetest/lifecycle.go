package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// testReopen: what was there is there again.
func testReopen(t *testing.T, s *subject) {
	s.update(func(tx store.Tx) error {
		return errors.Join(
			tx.Put(store.Record{Key: grant("a"), Due: time.UnixMilli(5), Value: []byte("v")}),
			tx.Put(record(grant("b"), 0, "v")),
			tx.Append(event("first")),
		)
	})
	s.put(store.Record{Key: grant("b"), Rev: 1})
	before := s.scan(store.Query{Table: store.Grants})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.reopen()
	if diff := differ(before, s.scan(store.Query{Table: store.Grants})); diff != "" {
		t.Error(diff)
	}
	if diff := differ(before, s.scan(store.Query{Table: store.Grants, DueBy: time.UnixMilli(5)})); diff != "" {
		t.Error(diff)
	}
	if r, err := s.get(grant("b")); cred.KindOf(err) != cred.NotFound || r.Rev != 2 {
		t.Errorf("the deleted record: %+v, %v", r, err)
	}
	s.update(func(tx store.Tx) error { return tx.Append(event("second")) })
	if diff := differ([]string{"first", "second"}, s.logged()); diff != "" {
		t.Error(diff)
	}
}

// testClosed: a closed store says so.
func testClosed(t *testing.T, s *subject) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	never := func(store.Tx) error {
		t.Error("fn runs on a closed store")
		return nil
	}
	wantKind(t, s.View(context.Background(), never), cred.Unavailable)
	wantKind(t, s.Update(context.Background(), never), cred.Unavailable)
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// testCloseWaits: Close waits for the transactions that run.
func testCloseWaits(t *testing.T, s *subject) {
	running, leave := make(chan struct{}), make(chan struct{})
	results := make(chan error, 3)
	go func() {
		results <- s.Update(context.Background(), func(tx store.Tx) error {
			running <- struct{}{}
			<-leave
			return tx.Put(record(grant("a"), 0, "v"))
		})
	}()
	go func() {
		results <- s.View(context.Background(), func(tx store.Tx) error {
			running <- struct{}{}
			<-leave
			_, err := collect(tx.Scan(store.Query{Table: store.Grants}))
			return err
		})
	}()
	<-running
	<-running
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case <-closed:
		t.Error("Close did not wait")
	case <-time.After(20 * time.Millisecond): // a bad Close returns at once
	}
	close(leave)
	for _, result := range []<-chan error{results, results, closed} {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	s.reopen()
	if _, err := s.get(grant("a")); err != nil {
		t.Errorf("the Update that Close waited for: %v", err)
	}
}

// testContext: a context that has ended before fn begins means that nothing was done; one that ends
// later changes nothing.
func testContext(t *testing.T, s *subject) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	never := func(store.Tx) error {
		t.Error("fn runs though its context has ended")
		return nil
	}
	for _, err := range []error{s.View(over, never), s.Update(over, never)} {
		wantKind(t, err, cred.Unavailable)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not wrap the context's error", err)
		}
	}
	// One that waits behind another Update.
	queued, cancelQueued := context.WithCancel(context.Background())
	waiting := make(chan error, 1)
	s.update(func(tx store.Tx) error {
		go func() { waiting <- s.Update(queued, never) }()
		cancelQueued()
		wantKind(t, <-waiting, cred.Unavailable)
		return nil
	})
	// One whose fn runs already.
	late, cancelLate := context.WithCancel(context.Background())
	err := s.Update(late, func(tx store.Tx) error {
		cancelLate()
		return tx.Put(record(grant("a"), 0, "v"))
	})
	if err != nil {
		t.Errorf("the context ended while fn ran: %v", err)
	}
	if _, err := s.get(grant("a")); err != nil {
		t.Error(err)
	}
}
