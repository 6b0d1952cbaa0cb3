package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// testModel compares a store with a map, after whatever rapid thinks of.
func testModel(t *testing.T, fresh func(t testing.TB) Driver) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &subject{t: rt, driver: fresh(t)}
		s.reopen()
		defer func() { _ = s.Close() }()
		m := &model{s: s, live: map[string]store.Record{}, gone: map[string]uint64{}}
		rt.Repeat(map[string]func(*rapid.T){
			"":       m.check,
			"commit": func(rt *rapid.T) { m.update(rt, nil) },
			"fail":   func(rt *rapid.T) { m.update(rt, errRefused) },
			"scan":   m.scan,
			"due":    m.due,
			"log":    m.readLog,
			"reopen": func(*rapid.T) {
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s.reopen()
			},
		})
	})
}

// model is what the store should hold, in the table of grants.
type model struct {
	s    *subject
	live map[string]store.Record
	gone map[string]uint64 // the Rev of the deletion
	log  []string
	n    int
}

func (m *model) check(rt *rapid.T) {
	want := m.records()
	if diff := differ(want, m.s.scan(store.Query{Table: store.Grants})); diff != "" {
		rt.Fatal(diff)
	}
	if size, err := m.s.log.Size(); err != nil || size != uint64(len(m.log)) {
		rt.Fatalf("the log has %d entries, %v; want %d", size, err, len(m.log))
	}
}

// readLog verifies the log, which takes longer than looking at its size.
func (m *model) readLog(rt *rapid.T) {
	logged, err := verifyLog(m.s.log)
	if diff := differ(m.log, logged); err != nil || diff != "" {
		rt.Fatal(err, diff)
	}
}

// records returns the live records in order of their IDs.
func (m *model) records() (all []store.Record) {
	for _, id := range slices.Sorted(maps.Keys(m.live)) {
		all = append(all, m.live[id])
	}
	return all
}

// step is one Put, with an entry or without.
type step struct {
	r       store.Record
	correct bool // Rev is what it must be
	log     bool
}

// update makes one transaction of several steps. Where end is an error the transaction fails with it.
func (m *model) update(rt *rapid.T, end error) {
	next := &model{s: m.s, live: maps.Clone(m.live), gone: maps.Clone(m.gone), log: slices.Clone(m.log), n: m.n}
	var steps []step
	for range rapid.IntRange(1, 8).Draw(rt, "steps") {
		steps = append(steps, next.step(rt))
	}
	err := m.s.Update(context.Background(), func(tx store.Tx) error {
		for _, st := range steps {
			err := tx.Put(st.r)
			if !st.correct && cred.KindOf(err) == cred.Conflict {
				continue
			}
			if err != nil || !st.correct {
				return fmt.Errorf("%+v: %w", st, errors.Join(err, errors.New("unexpected")))
			}
			if st.log {
				if err := tx.Append(event(st.r.ID)); err != nil {
					return err
				}
			}
		}
		return end
	})
	if err != end {
		rt.Fatal(err)
	}
	if end == nil {
		m.live, m.gone, m.log, m.n = next.live, next.gone, next.log, next.n
	}
}

// step draws a Put and applies it to the model.
func (m *model) step(rt *rapid.T) step {
	id := rapid.StringMatching(`[ab~][0-9]?`).Draw(rt, "id")
	old, exists := m.live[id]
	st := step{r: store.Record{Key: grant(id), Rev: old.Rev}, correct: true, log: rapid.Bool().Draw(rt, "log")}
	if rapid.IntRange(0, 9).Draw(rt, "wrong") == 0 {
		st.r.Rev, st.correct = old.Rev+rapid.Uint64Range(1, 3).Draw(rt, "by"), false
		st.r.Value = []byte("wrong")
		return st
	}
	if st.log {
		m.log = append(m.log, id)
	}
	if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
		if exists {
			delete(m.live, id)
			m.gone[id] = old.Rev + 1
		}
		return st
	}
	m.n++
	st.r.Value = []byte(strings.Repeat(fmt.Sprint(m.n, " "), rapid.SampledFrom([]int{0, 1, 500}).Draw(rt, "size")))
	if rapid.Bool().Draw(rt, "has due") {
		st.r.Due = time.UnixMilli(rapid.Int64Range(1, 5).Draw(rt, "due")).UTC()
	}
	stored := st.r
	stored.Rev = max(old.Rev, m.gone[id]) + 1
	delete(m.gone, id)
	m.live[id] = stored
	return st
}

func (m *model) scan(rt *rapid.T) {
	bound := rapid.StringMatching(`[ab~]?[0-9]?`)
	q := store.Query{
		Table: store.Grants, Prefix: bound.Draw(rt, "prefix"), After: bound.Draw(rt, "after"),
		Reverse: rapid.Bool().Draw(rt, "reverse"), Limit: rapid.IntRange(0, 4).Draw(rt, "limit"),
	}
	want := pick(slices.Sorted(maps.Keys(m.live)), q)
	if diff := differ(want, ids(m.s.scan(q))); diff != "" {
		rt.Fatalf("%+v:\n%s", q, diff)
	}
}

func (m *model) due(rt *rapid.T) {
	q := store.Query{
		Table: store.Grants, DueBy: time.UnixMilli(rapid.Int64Range(1, 6).Draw(rt, "by")),
		Limit: rapid.IntRange(0, 4).Draw(rt, "limit"),
	}
	want := slices.DeleteFunc(m.records(), func(r store.Record) bool { return r.Due.IsZero() || r.Due.After(q.DueBy) })
	slices.SortStableFunc(want, func(a, b store.Record) int { return a.Due.Compare(b.Due) })
	if q.Limit > 0 {
		want = want[:min(q.Limit, len(want))]
	}
	if diff := differ(ids(want), ids(m.s.scan(q))); diff != "" {
		rt.Fatalf("%+v:\n%s", q, diff)
	}
}
