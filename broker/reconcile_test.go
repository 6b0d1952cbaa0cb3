package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// reconciling is a world with a reconciler, and what people were told.
type reconciling struct {
	*world
	*reconciler
	told []notice.Notice
}

func newReconciling(t *testing.T) *reconciling {
	w := &reconciling{world: newWorld(t)}
	w.change = func(c *Config) {
		c.Notify = func(_ store.Tx, n notice.Notice) error { w.told = append(w.told, n); return nil }
	}
	w.start()
	w.reconciler = w.newReconciler()
	return w
}

// compare does a round, and returns what it found of the source "short".
func (w *reconciling) compare() Report {
	w.t.Helper()
	w.must(w.round(context.Background()))
	w.check()
	return w.found()
}

// found is what the last round found of the source "short".
func (w *world) found() Report {
	w.t.Helper()
	all, err := w.ListSources(context.Background(), auditor)
	w.must(err)
	for _, r := range all {
		if r.Issuer == "short" {
			return r
		}
	}
	w.t.Fatalf("the source is not listed")
	return Report{}
}

func (w *reconciling) wantTold(kind notice.Kind, times int) {
	w.t.Helper()
	n := 0
	for _, told := range w.told {
		if told.Kind == kind && strings.Contains(told.Text, "short") {
			n++
		}
	}
	if n != times {
		w.t.Errorf("people were told %d times of %s, want %d", n, kind, times)
	}
}

func TestReconcileAgrees(t *testing.T) {
	w := newReconciling(t)
	w.short()
	w.short()
	before := len(w.events())
	for range 3 {
		if r := w.compare(); r.Listed != 2 || r.Ours != 2 || r.Strays != 0 || r.Missing != 0 || r.Problem != "" || !r.At.Equal(w.now()) {
			t.Errorf("found %+v", r)
		}
		w.clock.advance(time.Minute)
	}
	if len(w.events()) != before || len(w.told) != 0 {
		t.Error("something was recorded, or somebody was told")
	}
	if all, err := w.ListSources(t.Context(), auditor); err != nil || len(all) != 1 {
		t.Errorf("compared with %v, %v", all, err)
	}
}

// A credential that is nobody's is recorded once, in the second round that finds it and not before it
// is too old to be one that is being issued.
func TestReconcileStrays(t *testing.T) {
	w := newReconciling(t)
	w.short()
	others := []string{"theirs-1", "theirs-2" + strings.Repeat("x", 1000)}
	w.sources["short"].others = others
	for _, wait := range []time.Duration{0, 10 * time.Second, 9 * time.Second} {
		w.clock.advance(wait)
		if r := w.compare(); r.Strays != 0 {
			t.Errorf("strays after %v: %+v", wait, r)
		}
	}
	w.clock.advance(time.Second)
	r := w.compare()
	if r.Strays != 2 || r.Listed != 3 || r.Ours != 1 || r.StrayNames[0] != "theirs-1" || len(r.StrayNames[1]) > maxStrayName+3 {
		t.Errorf("found %+v", r)
	}
	e := w.lastOf(audit.LeaseStray)
	names, _ := e.Detail["names"].([]any)
	if e.Detail["issuer"] != "short" || fmt.Sprint(e.Detail["strays"]) != "2" || len(names) != 2 || names[0] != "theirs-1" {
		t.Errorf("recorded %+v", e.Detail)
	}
	w.wantTold(notice.LeasesStray, 1)
	w.clock.advance(time.Minute)
	if r := w.compare(); r.Strays != 2 {
		t.Errorf("found %+v", r)
	}
	w.sources["short"].others = append(slices.Clone(others), "theirs-3")
	w.compare()
	w.clock.advance(time.Minute)
	w.compare()
	if all := w.eventsOf(audit.LeaseStray); len(all) != 2 || fmt.Sprint(all[1].Detail["new"]) != "1" {
		t.Errorf("recorded %d times", len(all))
	}
	w.sources["short"].others = nil
	if r := w.compare(); r.Strays != 0 || len(r.StrayNames) != 0 {
		t.Errorf("found %+v", r)
	}
}

// What people were told of they are not told of again after a restart, nor by another broker. What is new
// by then is told.
func TestReconcileToldOnce(t *testing.T) {
	w := newReconciling(t)
	w.sources["short"].others = []string{"theirs-1"}
	twice := func() Report {
		w.compare()
		w.clock.advance(time.Minute)
		return w.compare()
	}
	twice()
	w.wantTold(notice.LeasesStray, 1)
	w.start()
	w.reconciler = w.newReconciler()
	if r := twice(); r.Strays != 1 {
		t.Errorf("after a restart: %+v", r)
	}
	w.wantTold(notice.LeasesStray, 1)
	w.sources["short"].others = []string{"theirs-1", "theirs-2"}
	twice()
	w.wantTold(notice.LeasesStray, 2)
	if e := w.lastOf(audit.LeaseStray); fmt.Sprint(e.Detail["names"]) != "[theirs-2]" {
		t.Errorf("recorded %v", e.Detail)
	}
	other := w.newReconciler()
	w.must(other.round(t.Context()))
	w.clock.advance(time.Minute)
	w.must(other.round(t.Context()))
	w.wantTold(notice.LeasesStray, 2)
}

// What is remembered of strays has a bound, within which each is new once.
func TestToldStrays(t *testing.T) {
	var all told
	names := make([]string, maxToldStrays+10)
	for i := range names {
		names[i] = fmt.Sprint("theirs-", i)
	}
	if got := all.add(names[:3]); !slices.Equal(got, names[:3]) {
		t.Errorf("new are %v", got)
	}
	if got := all.add(names[1:4]); !slices.Equal(got, names[3:4]) || len(all.hashes) != 3 {
		t.Errorf("new are %v, and %d are remembered", got, len(all.hashes))
	}
	if got := all.add(names[1:]); len(got) != maxToldStrays-3 || len(all.hashes) != maxToldStrays {
		t.Errorf("%d are new, and %d are remembered", len(got), len(all.hashes))
	}
	if got := all.add(names[1:]); len(got) != 0 {
		t.Errorf("%d are new beyond the bound", len(got))
	}
	w := newReconciling(t)
	all.record.Key = store.Key{Table: store.Strays, ID: "short"}
	w.must(w.store.Update(t.Context(), all.put))
	w.must(w.store.View(t.Context(), func(tx store.Tx) error {
		again, err := toldStrays(tx, "short")
		if err != nil || !slices.Equal(again.hashes, all.hashes) {
			t.Errorf("%d of %d are read again, %v", len(again.hashes), len(all.hashes), err)
		}
		return nil
	}))
}

// A record of strays that can't be read stops the telling and nothing else.
func TestToldStraysUnreadable(t *testing.T) {
	w := newReconciling(t)
	w.must(w.store.Update(t.Context(), func(tx store.Tx) error {
		return tx.Put(store.Record{Key: store.Key{Table: store.Strays, ID: "short"}, Value: []byte(`"AAAA"`)})
	}))
	w.sources["short"].others = []string{"theirs"}
	w.compare()
	w.clock.advance(time.Minute)
	if r := w.compare(); r.Strays != 1 {
		t.Errorf("found %+v", r)
	}
	w.wantTold(notice.LeasesStray, 0)
	if !strings.Contains(w.log.String(), "what a comparison of leases found was not recorded") {
		t.Error("nothing says why nobody is told")
	}
}

// What the broker has minted for itself is no stray.
func TestReconcileOwn(t *testing.T) {
	w := newReconciling(t)
	own, err := w.MintOwn(w.context(), "a test", cred.CredentialSource{Issuer: "short", Path: "creds/own"}, w.now().Add(time.Hour))
	w.must(err)
	w.compare()
	w.clock.advance(time.Minute)
	if r := w.compare(); r.Strays != 0 || r.Listed != 1 {
		t.Errorf("found %+v", r)
	}
	w.EndOwn(w.context(), own)
	if r := w.compare(); r.Strays != 0 || r.Listed != 0 {
		t.Errorf("found %+v", r)
	}
}

// What the broker has for itself and nobody can end is no stray either, also once the broker needs it no more.
func TestReconcileOwnThatStands(t *testing.T) {
	w := newReconciling(t)
	w.change = func(c *Config) { c.Issuers["short"] = lasting{c.Issuers["short"].(fakeRenewer)} }
	w.start()
	w.reconciler = w.newReconciler()
	mint := func() Own {
		own, err := w.MintOwn(w.context(), "a test", cred.CredentialSource{Issuer: "short", Path: "creds/own"}, w.now().Add(time.Hour))
		w.must(err)
		return own
	}
	w.EndOwn(w.context(), mint())
	mint()
	for range 3 {
		if r := w.compare(); r.Strays != 0 || r.Listed != 2 {
			t.Errorf("found %+v", r)
		}
		w.clock.advance(time.Minute)
	}
	w.clock.advance(time.Hour)
	mint()
	if n := len(w.owns.all()); n != 1 {
		t.Errorf("%d are kept after the end of two", n)
	}
}

// Many strays are counted, and some are named.
func TestReconcileManyStrays(t *testing.T) {
	w := newReconciling(t)
	for i := range 1000 {
		w.sources["short"].others = append(w.sources["short"].others, fmt.Sprint("theirs-", i))
	}
	w.compare()
	w.clock.advance(time.Minute)
	if r := w.compare(); r.Strays != 1000 || len(r.StrayNames) != maxStrayNames {
		t.Errorf("found %d, %d named", r.Strays, len(r.StrayNames))
	}
	w.lastOf(audit.LeaseStray)
}

// What lives at a source although its lease is over is a stray.
func TestReconcileWhatWeEnded(t *testing.T) {
	w := newReconciling(t)
	got := w.short()
	_, _, err := w.Revoke(t.Context(), runner, got.Grant.ID, "")
	w.must(err)
	w.sources["short"].comeBack(got.Redeemed.Lease.ID)
	w.must(w.round(t.Context()))
	w.clock.advance(time.Minute)
	w.must(w.round(t.Context()))
	if r := w.found(); r.Strays != 1 || r.Ours != 0 {
		t.Errorf("found %+v", r)
	}
	w.sources["short"].vanish()
}

// A lease that died without a name is told of as soon as it is too old to be under way, and not before.
func TestReconcileUnnamed(t *testing.T) {
	w := newReconciling(t)
	w.change = func(c *Config) { c.Issuers["short"] = unnamed{c.Issuers["short"].(fakeRenewer).fakeIssuer} }
	w.start()
	w.reconciler = w.newReconciler()
	w.sources["short"].plan("issue", doneLost)
	if _, err := w.deliver("short"); err == nil {
		t.Fatal("it was delivered")
	}
	for range 2 {
		if r := w.compare(); r.Strays != 0 {
			t.Errorf("it is a stray at once: %+v", r)
		}
	}
	w.clock.advance(20 * time.Second)
	if r := w.compare(); r.Strays != 1 {
		t.Errorf("found %+v", r)
	}
}

// unnamed can't reserve: nothing names what it made where the answer was lost.
type unnamed struct{ fakeIssuer }

func (i unnamed) Live(ctx context.Context) ([]string, error) {
	return fakeRenewer{fakeReserver(i)}.Live(ctx)
}

func (i unnamed) NameOf(l cred.Lease) string {
	return fakeRenewer{fakeReserver(i)}.NameOf(l)
}

// A lease that its source has lost is ended in the second round, on record, and people are told.
func TestReconcileMissing(t *testing.T) {
	w := newReconciling(t)
	lost, kept := w.short(), w.short()
	w.sources["short"].vanishOne(lost.Redeemed.Lease.ID)
	if r := w.compare(); r.Missing != 0 || r.Listed != 1 {
		t.Errorf("the first round: %+v", r)
	}
	w.wantState(w.lease(lost.Grant.ID), cred.LeaseIssued)
	w.clock.advance(time.Minute)
	if r := w.compare(); r.Missing != 1 {
		t.Errorf("the second round: %+v", r)
	}
	w.wantState(w.lease(lost.Grant.ID), cred.LeaseRevoked)
	w.wantState(w.lease(kept.Grant.ID), cred.LeaseIssued)
	missing := w.eventsOf(audit.LeaseMissing)
	if len(missing) != 1 || missing[0].Lease.ID != lost.Redeemed.Lease.ID || missing[0].Lease.Note != "its source lists it no more" {
		t.Errorf("recorded %+v", missing)
	}
	w.wantTold(notice.LeasesMissing, 1)
	w.compare()
	if r := w.compare(); r.Missing != 1 || len(w.eventsOf(audit.LeaseMissing)) != 1 {
		t.Errorf("later: %+v", r)
	}
	if _, err := w.deliver("short"); err != nil { // the grant lives, and a new one can be had
		t.Error(err)
	}
}

// vanishOne ends a credential at a source, behind our back.
func (s *source) vanishOne(id cred.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for handle, m := range s.made {
		if m.lease == id {
			m.revoked = true
			s.made[handle] = m
		}
	}
}

// What was lost in one round and is there in the next is not ended: a list may be of a moment ago.
func TestReconcileComesBack(t *testing.T) {
	w := newReconciling(t)
	got := w.short()
	id := got.Redeemed.Lease.ID
	for range 3 {
		w.sources["short"].vanishOne(id)
		w.compare()
		w.sources["short"].comeBack(id)
		w.compare()
	}
	w.wantState(w.lease(got.Grant.ID), cred.LeaseIssued)
	if len(w.eventsOf(audit.LeaseMissing)) != 0 {
		t.Error("it is recorded as missing")
	}
}

func (s *source) comeBack(id cred.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for handle, m := range s.made {
		if m.lease == id {
			m.revoked = false
			s.made[handle] = m
		}
	}
}

// What nobody can end is no stray, as the list names it, and is not missed where the list lacks it.
func TestReconcileWhatNobodyCanEnd(t *testing.T) {
	w := newReconciling(t)
	w.change = func(c *Config) { c.Issuers["short"] = lasting{c.Issuers["short"].(fakeRenewer)} }
	w.start()
	w.reconciler = w.newReconciler()
	got, err := w.deliver("short")
	w.must(err)
	for range 3 {
		if r := w.compare(); r.Listed != 1 || r.Ours != 1 || r.Strays != 0 {
			t.Errorf("found %+v", r)
		}
		w.clock.advance(time.Minute)
	}
	w.sources["short"].vanishOne(got.Redeemed.Lease.ID)
	for range 3 {
		if r := w.compare(); r.Missing != 0 || r.Strays != 0 {
			t.Errorf("when it is gone: %+v", r)
		}
	}
	w.wantState(w.lease(got.Grant.ID), cred.LeaseIssued)
}

// lasting names what it issues, and can't end it.
type lasting struct{ fakeRenewer }

func (i lasting) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	c, l, err := i.fakeRenewer.Issue(ctx, spec)
	l.Revocable, l.Renewable = false, false
	return c, l, err
}

// A list that lacks most of what it should have ends nothing: people are told once, each time anew, and once
// it is whole again all is as before.
func TestReconcileMassLoss(t *testing.T) {
	w := newReconciling(t)
	var ids []cred.LeaseID
	for range 2 * massLoss {
		ids = append(ids, w.short().Redeemed.Lease.ID)
	}
	lose := func(n int) {
		for i, id := range ids {
			w.sources["short"].comeBack(id)
			if i < n {
				w.sources["short"].vanishOne(id)
			}
		}
	}
	for times := 1; times <= 2; times++ {
		lose(massLoss + 1)
		w.compare()
		for range 2 {
			r := w.compare()
			if want := "its list lacks 21 of the 40 credentials"; r.Missing != 0 || !strings.HasPrefix(r.Problem, want) || r.Ours != 2*massLoss || r.Listed != massLoss-1 {
				t.Errorf("found %+v, want the problem %q", r, want)
			}
		}
		w.wantTold(notice.LeasesMissing, times)
		if e := w.lastOf(audit.LeaseDoubted); len(w.eventsOf(audit.LeaseDoubted)) != times || e.Detail["issuer"] != "short" ||
			fmt.Sprint(e.Detail["missing"], " of ", e.Detail["issued"]) != "21 of 40" {
			t.Errorf("recorded %d times, %v", len(w.eventsOf(audit.LeaseDoubted)), e.Detail)
		}
		lose(0)
		if r := w.compare(); r.Problem != "" || r.Missing != 0 || r.Listed != 2*massLoss {
			t.Errorf("when they are back: %+v", r)
		}
	}
	if n := len(w.eventsOf(audit.LeaseMissing)); n != 0 {
		t.Fatalf("%d leases were ended", n)
	}
	lose(massLoss) // half of them
	w.compare()
	if r := w.compare(); r.Missing != massLoss || r.Problem != "" {
		t.Errorf("half of them are gone: %+v", r)
	}
	if n := len(w.eventsOf(audit.LeaseMissing)); n != massLoss {
		t.Errorf("%d leases were ended", n)
	}
}

// A source that does not answer changes nothing, and the report says so.
func TestReconcileProblem(t *testing.T) {
	w := newReconciling(t)
	got := w.short()
	w.compare()
	w.sources["short"].vanishOne(got.Redeemed.Lease.ID)
	w.compare()
	w.sources["short"].plan("list", notDone, notDone)
	for range 2 {
		if r := w.compare(); r.Problem != "the source is not there" || r.Listed != 0 {
			t.Errorf("found %+v", r)
		}
	}
	if n := strings.Count(w.log.String(), "does not list"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	w.wantState(w.lease(got.Grant.ID), cred.LeaseIssued)
	if r := w.compare(); r.Problem != "" || r.Missing != 1 {
		t.Errorf("found %+v", r)
	}
}

// What dies in the middle of ending what is missing is taken up by the next broker.
func TestReconcileDiesAtEachStep(t *testing.T) {
	dieAtEachStep(t, "short", func(w *world) func() {
		got := w.short()
		w.sources["short"].vanishOne(got.Redeemed.Lease.ID)
		r := w.newReconciler()
		w.must(r.round(context.Background()))
		return func() { _ = r.round(context.Background()) }
	}, noneLives)
}

// Run compares by itself.
func TestRunReconciles(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		w.sources["short"].others = []string{"theirs"}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(19 * time.Minute)
		if r := w.found(); r.Listed != 1 || r.Strays != 0 {
			t.Errorf("found %+v", r)
		}
		time.Sleep(2 * time.Minute)
		if r := w.found(); r.Strays != 1 {
			t.Errorf("found %+v", r)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.check()
		w.close()
	})
}
