package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/store"
)

// testScanByID: order, prefix, start and limit, both ways.
func testScanByID(t *testing.T, s *subject) {
	all := []string{"a", "a/", "a/1", "a/2", "a0", "b", "b~", "c", "~", "~~"}
	s.update(func(tx store.Tx) error {
		for i, id := range all {
			err := errors.Join(
				tx.Put(record(grant(id), 0, "value of "+id)),
				tx.Put(record(store.Key{Table: store.Leases, ID: fmt.Sprint(i)}, 0, "of another table")),
			)
			if err != nil {
				return err
			}
		}
		return nil
	})
	bounds := append([]string{"", "a/0", "a/3", "!", "bb", "}"}, all...)
	for _, prefix := range bounds {
		for _, after := range bounds {
			for _, reverse := range []bool{false, true} {
				for _, limit := range []int{0, 1, 3} {
					q := store.Query{Table: store.Grants, Prefix: prefix, After: after, Reverse: reverse, Limit: limit}
					if diff := differ(pick(all, q), ids(s.scan(q))); diff != "" {
						t.Errorf("%+v:\n%s", q, diff)
					}
				}
			}
		}
	}
	got := s.scan(store.Query{Table: store.Grants, Prefix: "a/", Limit: 2})[1]
	if diff := differ(store.Record{Key: grant("a/1"), Rev: 1, Value: []byte("value of a/1")}, got); diff != "" {
		t.Error(diff)
	}
}

// pick is what a query by ID means, on a sorted list.
func pick(sorted []string, q store.Query) (out []string) {
	list := slices.Clone(sorted)
	if q.Reverse {
		slices.Reverse(list)
	}
	for _, id := range list {
		skip := q.After != "" && (!q.Reverse && id <= q.After || q.Reverse && id >= q.After)
		if skip || !strings.HasPrefix(id, q.Prefix) {
			continue
		}
		if out = append(out, id); len(out) == q.Limit {
			break
		}
	}
	return out
}

// testScanByDue: by Due and then ID, up to an instant; the index follows every change.
func testScanByDue(t *testing.T, s *subject) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	put := func(id string, rev uint64, due time.Time) {
		s.put(store.Record{Key: grant(id), Rev: rev, Due: due, Value: []byte("v")})
	}
	due := func(by time.Time, limit int) string {
		return strings.Join(ids(s.scan(store.Query{Table: store.Grants, DueBy: by, Limit: limit})), " ")
	}
	put("late", 0, at(3000))
	put("b", 0, at(2000))
	put("a", 0, at(2000).Add(999*time.Microsecond)) // the same millisecond
	put("early", 0, at(1))
	put("never", 0, time.Time{})
	s.put(store.Record{Key: store.Key{Table: store.Leases, ID: "lease"}, Due: at(1), Value: []byte("of another table")})
	for _, test := range []struct {
		by    time.Time
		limit int
		want  string
	}{
		{at(4000), 0, "early a b late"},
		{at(4000), 2, "early a"},
		{at(3000), 0, "early a b late"},
		{at(2999), 0, "early a b"},
		{at(2000), 0, "early a b"},
		{at(1999), 0, "early"},
		{at(1), 0, "early"},
		{at(0), 0, ""},
		{at(-5), 0, ""},
	} {
		if got := due(test.by, test.limit); got != test.want {
			t.Errorf("due by %d, limit %d: %q, want %q", test.by.UnixMilli(), test.limit, got, test.want)
		}
	}
	put("a", 1, at(5000))                           // later
	put("b", 1, time.Time{})                        // never
	put("never", 1, at(10))                         // for the first time
	put("early", 1, at(1))                          // as before
	s.put(store.Record{Key: grant("late"), Rev: 1}) // deleted
	if got, want := due(at(9999), 0), "early never a"; got != want {
		t.Errorf("after the changes: %q, want %q", got, want)
	}
}

// testScanWhileWriting: a scan goes on behind the place where it is, whatever happens there. The
// values are large, so that whole pages come and go.
func testScanWhileWriting(t *testing.T, s *subject) {
	const n = 60
	value := strings.Repeat("v", 1500)
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%03d", i))
		s.put(store.Record{Key: grant(all[i]), Due: time.UnixMilli(int64(i + 1)), Value: []byte(value)})
	}
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	for _, test := range []struct {
		q    store.Query
		want []string
	}{
		{store.Query{Table: store.Grants}, all},
		{store.Query{Table: store.Grants, Reverse: true}, reversed},
		{store.Query{Table: store.Grants, DueBy: time.UnixMilli(n + 1)}, all},
	} {
		err := s.Update(context.Background(), func(tx store.Tx) error {
			var got []string
			for r, err := range tx.Scan(test.q) {
				if err != nil {
					return err
				}
				got = append(got, r.ID)
				if err := tx.Put(store.Record{Key: r.Key, Rev: r.Rev}); err != nil {
					return err
				}
			}
			if diff := differ(test.want, got); diff != "" {
				t.Errorf("%+v:\n%s", test.q, diff)
			}
			if left, err := collect(tx.Scan(test.q)); err != nil || len(left) != 0 {
				t.Errorf("%d records are left, %v", len(left), err)
			}
			return errRefused // and all of it is undone
		})
		if err != errRefused {
			t.Fatal(err)
		}
	}
	for _, q := range []store.Query{
		{Table: store.Grants}, {Table: store.Grants, Reverse: true}, {Table: store.Grants, DueBy: time.UnixMilli(n + 1)},
	} { // far ahead of the scan one record goes, another comes, and one that it has passed comes too late
		err := s.Update(context.Background(), func(tx store.Tx) error {
			var got []string
			for r, err := range tx.Scan(q) {
				if err != nil {
					return err
				}
				if got = append(got, r.ID); len(got) != 20 {
					continue
				}
				err = errors.Join(
					tx.Put(store.Record{Key: grant("030"), Rev: 1}),
					tx.Put(store.Record{Key: grant("030x"), Due: time.UnixMilli(31), Value: []byte(value)}),
					tx.Put(store.Record{Key: grant("000x"), Due: time.UnixMilli(1), Value: []byte(value)}),
					tx.Put(store.Record{Key: grant("059x"), Due: time.UnixMilli(60), Value: []byte(value)}),
				)
				if err != nil {
					return err
				}
			}
			want := slices.Concat(all[:30], []string{"030x"}, all[31:], []string{"059x"})
			if q.Reverse {
				want = slices.Concat(all[:1], []string{"000x"}, all[1:30], []string{"030x"}, all[31:])
				slices.Reverse(want)
			}
			if diff := differ(want, got); diff != "" {
				t.Errorf("%+v:\n%s", q, diff)
			}
			return errRefused
		})
		if err != errRefused {
			t.Fatal(err)
		}
	}
	s.update(func(tx store.Tx) error { // the middle is deleted, then scanned across
		for _, id := range all[5 : n-5] {
			if err := tx.Put(store.Record{Key: grant(id), Rev: 1}); err != nil {
				return err
			}
		}
		got, err := collect(tx.Scan(store.Query{Table: store.Grants, Reverse: true}))
		want := slices.Concat(reversed[:5], reversed[n-5:])
		if diff := differ(want, ids(got)); diff != "" {
			t.Error(diff)
		}
		return err
	})
}

// testScanStops: a caller may leave a scan early.
func testScanStops(t *testing.T, s *subject) {
	s.update(func(tx store.Tx) error {
		return errors.Join(tx.Put(record(grant("a"), 0, "v")), tx.Put(record(grant("b"), 0, "v")))
	})
	s.update(func(tx store.Tx) error {
		n := 0
		for range tx.Scan(store.Query{Table: store.Grants}) {
			n++
			break
		}
		if n != 1 {
			t.Errorf("%d turns of a loop that was left in the first", n)
		}
		return tx.Put(record(grant("a"), 1, "v"))
	})
}
