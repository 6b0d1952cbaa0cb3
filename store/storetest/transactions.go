package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// testIsolation: nobody sees an Update that has not returned from its fn.
func testIsolation(t *testing.T, s *subject) {
	s.put(record(grant("a"), 0, "before"))
	s.update(func(tx store.Tx) error {
		if err := tx.Put(record(grant("a"), 1, "after")); err != nil {
			return err
		}
		seen := make(chan string)
		go func() { // the contract forbids a transaction within fn, so somebody else's
			r, _ := s.get(grant("a"))
			seen <- string(r.Value)
		}()
		if got := <-seen; got != "before" {
			t.Errorf("a View sees %q of an Update that still runs", got)
		}
		return nil
	})
	if r, err := s.get(grant("a")); err != nil || string(r.Value) != "after" {
		t.Errorf("after the Update: %q, %v", r.Value, err)
	}
}

// testViewSeesOneState: a View does not see an Update that was committed while it runs.
func testViewSeesOneState(t *testing.T, s *subject) {
	s.put(record(grant("a"), 0, "before"))
	err := s.View(context.Background(), func(tx store.Tx) error {
		done := make(chan error)
		go func() {
			done <- s.Update(context.Background(), func(tx store.Tx) error {
				return errors.Join(tx.Put(record(grant("a"), 1, "after")), tx.Put(record(grant("b"), 0, "new")))
			})
		}()
		if err := <-done; err != nil {
			return err
		}
		r, err := tx.Get(grant("a"))
		if err != nil || string(r.Value) != "before" {
			t.Errorf("a View sees %q, %v, of an Update that came after it", r.Value, err)
		}
		all, err := collect(tx.Scan(store.Query{Table: store.Grants}))
		if err != nil || len(all) != 1 {
			t.Errorf("a View scans %d records, %v, want 1", len(all), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// testOwnWrites: a transaction reads what it has written.
func testOwnWrites(t *testing.T, s *subject) {
	s.put(record(grant("b"), 0, "old"))
	s.put(store.Record{Key: grant("c"), Due: time.UnixMilli(9), Value: []byte("old")})
	s.update(func(tx store.Tx) error {
		for _, r := range []store.Record{
			{Key: grant("a"), Due: time.UnixMilli(7), Value: []byte("new")},
			{Key: grant("b"), Rev: 1, Due: time.UnixMilli(8), Value: []byte("changed")},
			{Key: grant("c"), Rev: 1},
		} {
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		if r, err := tx.Get(grant("b")); err != nil || string(r.Value) != "changed" || r.Rev != 2 {
			t.Errorf("Get: %+v, %v", r, err)
		}
		_, err := tx.Get(grant("c"))
		wantKind(t, err, cred.NotFound)
		for _, q := range []store.Query{{Table: store.Grants}, {Table: store.Grants, DueBy: time.UnixMilli(10)}} {
			all, err := collect(tx.Scan(q))
			if err != nil {
				return err
			}
			if diff := differ([]string{"a", "b"}, ids(all)); diff != "" {
				t.Errorf("%+v:\n%s", q, diff)
			}
		}
		return tx.Put(record(grant("b"), 2, "changed twice"))
	})
}

func ids(records []store.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, r.ID)
	}
	return all
}

var errRefused = errors.New("fn says no")

// mess is what a failing fn leaves to be undone: every kind of write, some of them twice.
func mess(tx store.Tx) error {
	return errors.Join(
		tx.Append(event("undone")),
		tx.Put(store.Record{Key: grant("old"), Rev: 1, Due: time.UnixMilli(99), Value: []byte("undone")}),
		tx.Put(store.Record{Key: grant("old"), Rev: 2}),
		tx.Put(record(grant("old"), 0, "undone")),
		tx.Put(store.Record{Key: grant("other"), Rev: 1}),
		tx.Put(store.Record{Key: grant("new"), Due: time.UnixMilli(98), Value: []byte("undone")}),
		tx.Put(record(grant("gone"), 0, "undone")),
	)
}

// orderly is the state around mess.
func orderly(s *subject) {
	s.put(store.Record{Key: grant("old"), Due: time.UnixMilli(97), Value: []byte("kept")})
	s.put(record(grant("other"), 0, "kept"))
	s.put(record(grant("gone"), 0, "kept"))
	s.put(store.Record{Key: grant("gone"), Rev: 1})
}

func checkOrderly(t testing.TB, s *subject) {
	t.Helper()
	want := []store.Record{
		{Key: grant("old"), Rev: 1, Due: time.UnixMilli(97).UTC(), Value: []byte("kept")},
		{Key: grant("other"), Rev: 1, Value: []byte("kept")},
	}
	if diff := differ(want, s.scan(store.Query{Table: store.Grants})); diff != "" {
		t.Errorf("records after a failed Update:\n%s", diff)
	}
	if diff := differ(want[:1], s.scan(store.Query{Table: store.Grants, DueBy: time.UnixMilli(1000)})); diff != "" {
		t.Errorf("due records after a failed Update:\n%s", diff)
	}
	if r, err := s.get(grant("gone")); cred.KindOf(err) != cred.NotFound || r.Rev != 2 {
		t.Errorf("the deleted record after a failed Update: %+v, %v", r, err)
	}
	if slices.Contains(s.logged(), "undone") {
		t.Error("the log has the entry of a failed Update")
	}
}

// testFailedUpdate: it has no effect, and its error comes back as it is.
func testFailedUpdate(t *testing.T, s *subject) {
	orderly(s)
	err := s.Update(context.Background(), func(tx store.Tx) error {
		if err := mess(tx); err != nil {
			return err
		}
		return errRefused
	})
	if err != errRefused {
		t.Errorf("got %v, want fn's own error", err)
	}
	checkOrderly(t, s)
}

// testPanickingUpdate: neither has one that panics, or whose goroutine ends, and the store works on.
func testPanickingUpdate(t *testing.T, s *subject) {
	orderly(s)
	for _, leave := range []func(){func() { panic("fn gives up") }, runtime.Goexit} {
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = recover() }()
			_ = s.Update(context.Background(), func(tx store.Tx) error {
				if err := mess(tx); err != nil {
					t.Error(err)
				}
				leave()
				return nil
			})
			t.Error("Update returned though its fn did not")
		})
		wg.Wait()
		checkOrderly(t, s)
	}
}

// testFailuresAmongOthers: callers that share a commit do not share their failures.
func testFailuresAmongOthers(t *testing.T, s *subject) {
	orderly(s)
	const callers, rounds = 16, 10
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for round := range rounds {
				id := fmt.Sprintf("%d.%d", caller, round)
				fails := (caller+round)%2 == 0
				err := s.Update(context.Background(), func(tx store.Tx) error {
					if fails {
						return errors.Join(mess(tx), errRefused)
					}
					return errors.Join(tx.Put(record(store.Key{Table: store.Leases, ID: id}, 0, "v")), tx.Append(event(id)))
				})
				if fails != errors.Is(err, errRefused) || !fails && err != nil {
					t.Errorf("caller %s: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
	checkOrderly(t, s)
	kept := ids(s.scan(store.Query{Table: store.Leases}))
	logged := s.logged()
	slices.Sort(logged)
	if diff := differ(kept, logged); diff != "" || len(kept) != callers*rounds/2 {
		t.Errorf("%d records, want %d; records and entries differ by\n%s", len(kept), callers*rounds/2, diff)
	}
}

// testBadEvent: what can't be logged does not happen, even if fn does not care.
func testBadEvent(t *testing.T, s *subject) {
	orderly(s)
	err := s.Update(context.Background(), func(tx store.Tx) error {
		if err := mess(tx); err != nil {
			return err
		}
		large := event("undone")
		large.Peer = strings.Repeat("x", audit.MaxEntry)
		wantKind(t, tx.Append(large), cred.Invalid)
		return nil
	})
	wantKind(t, err, cred.Invalid)
	checkOrderly(t, s)
}

func testViewCannotWrite(t *testing.T, s *subject) {
	err := s.View(context.Background(), func(tx store.Tx) error {
		wantKind(t, tx.Put(record(grant("a"), 0, "v")), cred.Internal)
		wantKind(t, tx.Append(event("a")), cred.Internal)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	_, err = s.get(grant("a"))
	wantKind(t, err, cred.NotFound)
	if logged := s.logged(); len(logged) != 0 {
		t.Errorf("the log has %d entries", len(logged))
	}
}

// testTxAfterItsEnd: a Tx that was carried out of its fn does nothing.
func testTxAfterItsEnd(t *testing.T, s *subject) {
	var kept []store.Tx
	s.update(func(tx store.Tx) error { kept = append(kept, tx); return nil })
	_ = s.View(context.Background(), func(tx store.Tx) error { kept = append(kept, tx); return nil })
	for _, tx := range kept {
		_, err := tx.Get(grant("a"))
		wantKind(t, err, cred.Internal)
		_, err = collect(tx.Scan(store.Query{Table: store.Grants}))
		wantKind(t, err, cred.Internal)
		wantKind(t, tx.Put(record(grant("a"), 0, "v")), cred.Internal)
		wantKind(t, tx.Append(event("a")), cred.Internal)
	}
}

// testCounters: Updates are serialisable. Half of the counting is done in one transaction each, half
// with compare-and-swap across two.
func testCounters(t *testing.T, s *subject) {
	const callers, rounds = 8, 20
	k := grant("counter")
	s.put(record(k, 0, "0"))
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for round := range rounds {
				var err error
				if caller%2 == 0 {
					err = s.Update(context.Background(), func(tx store.Tx) error {
						r, err := tx.Get(k)
						if err != nil {
							return err
						}
						return count(tx, r)
					})
				} else {
					err = countAcross(s, k)
				}
				if err != nil {
					t.Errorf("caller %d, round %d: %v", caller, round, err)
				}
			}
		})
	}
	wg.Wait()
	r, err := s.get(k)
	if want := callers * rounds; err != nil || string(r.Value) != strconv.Itoa(want) || r.Rev != uint64(want)+1 {
		t.Errorf("the counter is %s at revision %d, %v; want %d", r.Value, r.Rev, err, want)
	}
	for i, id := range s.logged() {
		if id != strconv.Itoa(i+1) {
			t.Fatalf("entry %d tells of count %s: the log is not in the order of the changes", i, id)
		}
	}
}

func count(tx store.Tx, r store.Record) error {
	n, err := strconv.Atoi(string(r.Value))
	if err != nil {
		return err
	}
	r.Value = []byte(strconv.Itoa(n + 1))
	return errors.Join(tx.Put(r), tx.Append(event(string(r.Value))))
}

// countAcross reads in one transaction, writes in another, and repeats where somebody was faster.
func countAcross(s *subject, k store.Key) error {
	for {
		r, err := s.get(k)
		if err != nil {
			return err
		}
		err = s.Update(context.Background(), func(tx store.Tx) error { return count(tx, r) })
		if cred.KindOf(err) != cred.Conflict {
			return err
		}
	}
}

// testLog: entries stand in the order in which they were appended.
func testLog(t *testing.T, s *subject) {
	var want []string
	for i := range 10 {
		s.update(func(tx store.Tx) error {
			for j := range i % 4 {
				if err := tx.Append(event(fmt.Sprintf("%d.%d", i, j))); err != nil {
					return err
				}
			}
			return nil
		})
		for j := range i % 4 {
			want = append(want, fmt.Sprintf("%d.%d", i, j))
		}
	}
	if diff := differ(want, s.logged()); diff != "" {
		t.Error(diff)
	}
}
