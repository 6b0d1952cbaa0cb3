package storetest

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// wantKind fails the test unless an error is of a kind.
func wantKind(t testing.TB, err error, want cred.Kind) {
	t.Helper()
	if err == nil || cred.KindOf(err) != want {
		t.Errorf("got error %v, want one of kind %s", err, want)
	}
}

// testRecords: what was put is what is read, in each table by itself.
func testRecords(t *testing.T, s *subject) {
	due := time.Date(2026, 3, 4, 5, 6, 7, 891_999_999, time.FixedZone("", 3600))
	for _, table := range store.Tables {
		k := store.Key{Table: table, ID: "id"}
		_, err := s.get(k)
		wantKind(t, err, cred.NotFound)
		s.put(store.Record{Key: k, Due: due, Value: []byte("value of " + table)})
	}
	for _, table := range store.Tables {
		k := store.Key{Table: table, ID: "id"}
		got, err := s.get(k)
		if err != nil {
			t.Fatal(err)
		}
		want := store.Record{Key: k, Rev: 1, Due: due.UTC().Truncate(time.Millisecond), Value: []byte("value of " + table)}
		if diff := differ(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// testRevisions: Put compares with the stored revision, and only then writes.
func testRevisions(t *testing.T, s *subject) {
	k := grant("a")
	for rev := range uint64(3) {
		for _, wrong := range []uint64{0, 1, 2, 3, 1 << 63} {
			if wrong == rev {
				continue
			}
			err := s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(record(k, wrong, "wrong")) })
			wantKind(t, err, cred.Conflict)
			err = s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(store.Record{Key: k, Rev: wrong}) })
			if rev != 0 || wrong != 0 {
				wantKind(t, err, cred.Conflict)
			}
		}
		s.put(record(k, rev, strings.Repeat("x", int(rev))))
		if got, err := s.get(k); err != nil || got.Rev != rev+1 || len(got.Value) != int(rev) {
			t.Errorf("after the write of revision %d: %+v, %v", rev, got, err)
		}
	}
}

// testRevisionsGoOn: a deletion counts, and what is made again goes on from it.
func testRevisionsGoOn(t *testing.T, s *subject) {
	k := grant("a")
	s.put(store.Record{Key: k}) // to delete what is not there is no change
	if r, err := s.get(k); r.Rev != 0 || cred.KindOf(err) != cred.NotFound {
		t.Errorf("a key that was never written: revision %d, %v", r.Rev, err)
	}
	due := time.UnixMilli(5)
	for life := range uint64(3) {
		made := life*2 + 1
		s.put(store.Record{Key: k, Due: due, Value: []byte("alive")})
		if r, err := s.get(k); err != nil || r.Rev != made {
			t.Errorf("made in life %d: revision %d, %v; want %d", life, r.Rev, err, made)
		}
		s.put(store.Record{Key: k, Rev: made})
		if r, err := s.get(k); cred.KindOf(err) != cred.NotFound || r.Rev != made+1 || r.Value != nil {
			t.Errorf("deleted in life %d: %+v, %v; want NotFound and revision %d", life, r, err, made+1)
		}
		for _, q := range []store.Query{{Table: store.Grants}, {Table: store.Grants, DueBy: due}} {
			if all := s.scan(q); len(all) != 0 {
				t.Errorf("a scan finds the deleted record: %+v", all)
			}
		}
		err := s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(record(k, made, "from the past")) })
		wantKind(t, err, cred.Conflict)
	}
	s.update(func(tx store.Tx) error { // the same within one transaction
		for life := uint64(3); life < 5; life++ {
			if err := tx.Put(record(k, 0, "alive")); err != nil {
				return err
			}
			if r, err := tx.Get(k); err != nil || r.Rev != life*2+1 || string(r.Value) != "alive" {
				t.Errorf("made in life %d: %+v, %v", life, r, err)
			}
			if err := tx.Put(store.Record{Key: k, Rev: life*2 + 1}); err != nil {
				return err
			}
		}
		return nil
	})
}

// testBounds: keys, values and times on both sides of their bounds.
func testBounds(t *testing.T, s *subject) {
	put := func(r store.Record) error {
		return s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(r) })
	}
	all := make([]byte, 0, 94)
	for c := byte('!'); c <= '~'; c++ {
		all = append(all, c)
	}
	for name, r := range map[string]store.Record{
		"longest ID":    record(grant(strings.Repeat("i", 256)), 0, "v"),
		"shortest ID":   record(grant("~"), 0, "v"),
		"all of ASCII":  record(grant(string(all)), 0, "v"),
		"empty value":   record(grant("empty"), 0, ""),
		"largest value": {Key: grant("large"), Value: bytes.Repeat([]byte{0xfe}, store.MaxValue)},
		"earliest due":  {Key: grant("early"), Due: time.UnixMilli(1).UTC(), Value: []byte("v")},
		"latest due":    {Key: grant("late"), Due: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), Value: []byte("v")},
	} {
		if err := put(r); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r.Rev = 1
		got, err := s.get(r.Key)
		if diff := differ(r, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	for name, r := range map[string]store.Record{
		"no ID":            record(grant(""), 0, "v"),
		"ID too long":      record(grant(strings.Repeat("i", 257)), 0, "v"),
		"ID with a space":  record(grant("a b"), 0, "v"),
		"ID with a zero":   record(grant("a\x00b"), 0, "v"),
		"ID in UTF-8":      record(grant("ä"), 0, "v"),
		"no such table":    record(store.Key{Table: "cellar", ID: "a"}, 0, "v"),
		"no table":         record(store.Key{ID: "a"}, 0, "v"),
		"value too large":  {Key: grant("huge"), Value: make([]byte, store.MaxValue+store.SealOverhead+1)},
		"due before 1970":  {Key: grant("a"), Due: time.UnixMilli(-1), Value: []byte("v")},
		"due at 1970":      {Key: grant("a"), Due: time.UnixMilli(0), Value: []byte("v")},
		"due far too late": {Key: grant("a"), Due: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), Value: []byte("v")},
	} {
		if err := put(r); cred.KindOf(err) != cred.Invalid {
			t.Errorf("Put, %s: got %v, want an Invalid error", name, err)
		}
		if r.Check() != nil && r.Key.Check() != nil {
			_, err := s.get(r.Key)
			wantKind(t, err, cred.Invalid)
		}
	}
	for name, q := range map[string]store.Query{
		"no table":         {},
		"no such table":    {Table: "cellar"},
		"negative limit":   {Table: store.Grants, Limit: -1},
		"due with prefix":  {Table: store.Grants, DueBy: time.UnixMilli(1), Prefix: "a"},
		"due with after":   {Table: store.Grants, DueBy: time.UnixMilli(1), After: "a"},
		"due with reverse": {Table: store.Grants, DueBy: time.UnixMilli(1), Reverse: true},
		"prefix in UTF-8":  {Table: store.Grants, Prefix: "ä"},
		"after in UTF-8":   {Table: store.Grants, After: "ä"},
	} {
		err := s.View(context.Background(), func(tx store.Tx) error {
			_, err := collect(tx.Scan(q))
			return err
		})
		if cred.KindOf(err) != cred.Invalid {
			t.Errorf("Scan, %s: got %v, want an Invalid error", name, err)
		}
	}
}

// testValuesAreCopies: a Value stays as it was read, and the one that was put is not looked at later.
func testValuesAreCopies(t *testing.T, s *subject) {
	k := grant("a")
	given := []byte("first")
	s.put(store.Record{Key: k, Value: given})
	copy(given, "-----")
	got, err := s.get(k)
	if err != nil {
		t.Fatal(err)
	}
	for rev := range uint64(50) { // long after its transaction
		s.put(record(k, rev+1, strings.Repeat("second", 1000)))
	}
	if string(got.Value) != "first" {
		t.Errorf("the value that was read has become %q", got.Value)
	}
}
