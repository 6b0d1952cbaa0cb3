package broker

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// newWaiting has a root whose rotation was approved after its window, and so waits for the next one.
func newWaiting(t *testing.T) (*rotating, cred.Rotation) {
	t.Helper()
	w, rot := newAsked(t)
	w.approve(rot)
	if rot = w.get(rot.ID); !rot.Waits(w.now()) {
		t.Fatalf("it stands as %+v", rot)
	}
	return w, rot
}

// newAsked has one whose window has passed while it waits for approval.
func newAsked(t *testing.T) (*rotating, cred.Rotation) {
	t.Helper()
	w := newRotating(t, byTwo)
	nightly(t, w)
	w.clock.advance(14*time.Hour + 45*time.Minute)
	w.advance()
	w.clock.advance(30 * time.Minute)
	return w, w.only()
}

func (r *rotating) hurry() error {
	_, err := r.Rotate(r.context(), as(security), "db-root", "it is known to others")
	return err
}

// intents returns the outcomes of the entries about how rotations came about.
func (r *rotating) intents() (all []string) {
	r.t.Helper()
	for _, e := range r.stepEvents("intent") {
		all = append(all, e["outcome"].(string))
	}
	return all
}

// wantHurried wants the one rotation to have been hurried, once, and to end well.
func (r *rotating) wantHurried(id cred.RotationID) {
	r.t.Helper()
	if rot := r.only(); rot.ID != id || rot.Waits(r.now()) {
		r.t.Errorf("it stands as %+v", rot)
	}
	r.wantEnd(r.finish(id), cred.RotationDone)
	if got, want := r.intents(), []string{"asked", "begun", "hurried"}; !slices.Equal(got, want) {
		r.t.Errorf("the entries %q, want %q", got, want)
	}
	var by []audit.Event
	for _, e := range r.eventsOf(audit.RotationStep) {
		if e.Detail["outcome"] == outcomeHurried {
			by = append(by, e)
		}
	}
	if len(by) != 1 || by[0].Principal.Subject != security.Subject || by[0].Detail["reason"] != "it is known to others" || by[0].Rotation.ID != string(id) {
		r.t.Errorf("the entries %+v", by)
	}
}

// Whatever comes of it that somebody asks for a rotation, it takes one transaction.
func TestRotateTakesOneTransaction(t *testing.T) {
	for name, c := range map[string]struct {
		open   func(t *testing.T) *rotating
		reason string // of the refusal; empty: none
		intent []string
	}{
		"begun":   {func(t *testing.T) *rotating { return newRotating(t) }, "", []string{"begun"}},
		"asked":   {func(t *testing.T) *rotating { return newRotating(t, byTwo) }, "", []string{"asked"}},
		"hurried": {func(t *testing.T) *rotating { w, _ := newWaiting(t); return w }, "", []string{"asked", "begun", "hurried"}},
		"refused": {func(t *testing.T) *rotating { w, _ := newAsked(t); return w }, "ROTATION_OPEN", []string{"asked"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := c.open(t)
			w.store.plan(works, notDone, notDone)
			err := w.hurry()
			if c.reason == "" {
				w.must(err)
			} else {
				refusedAs(t, err, cred.Conflict, c.reason)
			}
			if left := len(w.store.next); left != 2 {
				t.Errorf("it took %d transactions", 3-left)
			}
			if got := w.intents(); !slices.Equal(got, c.intent) {
				t.Errorf("the entries %q, want %q", got, c.intent)
			}
		})
	}
}

// Of many who ask at once, one hurries what waits, and the others are told that it is under way.
func TestHurryConcurrently(t *testing.T) {
	w, rot := newWaiting(t)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = w.hurry() })
	}
	wg.Wait()
	hurried := 0
	for _, err := range errs {
		if err == nil {
			hurried++
			continue
		}
		refusedAs(t, err, cred.Conflict, "ROTATION_OPEN")
	}
	if hurried != 1 {
		t.Errorf("%d were told that they hurried it", hurried)
	}
	w.wantHurried(rot.ID)
}

// Who asks while the last approval comes in hurries what waits since, or is told that it is still asked for;
// there is never a second rotation.
func TestHurryBesideTheApproval(t *testing.T) {
	w, rot := newAsked(t)
	g := w.grantOf(rot)
	_, err := w.review(lead, g, true)
	w.must(err)
	errs := make([]error, 4)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := w.review(both, g, true); err != nil {
			t.Error(err)
		}
	})
	for i := range errs {
		wg.Go(func() { errs[i] = w.hurry() })
	}
	wg.Wait()
	if slices.Contains(errs, nil) {
		w.wantHurried(rot.ID)
		return
	}
	for _, err := range errs {
		refusedAs(t, err, cred.Conflict, "ROTATION_OPEN")
	}
	w.must(w.hurry())
	w.wantHurried(rot.ID)
}

// A broker that dies while somebody hurries a rotation, or a store that fails, leaves it hurried and on
// record, or neither.
func TestHurryCrashes(t *testing.T) {
	for name, fail := range map[string]func(w *rotating){
		"before the write": func(w *rotating) { w.process.left.Store(0) },
		"after the write":  func(w *rotating) { w.process.left.Store(1) },
		"not written":      func(w *rotating) { w.store.plan(notDone) },
		"answer lost":      func(w *rotating) { w.store.plan(doneLost) },
	} {
		t.Run(name, func(t *testing.T) {
			w, rot := newWaiting(t)
			fail(w)
			err := diskFull()
			if w.process.run(func() { err = w.hurry() }) {
				refusedAs(t, err, cred.Unavailable, "NOT_RECORDED")
			}
			w.start()
			waits := w.only().Waits(w.now())
			if onRecord := slices.Contains(w.intents(), "hurried"); onRecord == waits {
				t.Errorf("on record: %v; it waits: %v", onRecord, waits)
			}
			switch err := w.hurry(); {
			case waits:
				w.must(err)
			default:
				refusedAs(t, err, cred.Conflict, "ROTATION_OPEN")
			}
			w.wantHurried(rot.ID)
		})
	}
}

// A schedule hurries nothing that waits for its window.
func TestScheduleHurriesNothing(t *testing.T) {
	w, rot := newWaiting(t)
	_, err := w.recordRotation(t.Context(), w.roots[0], as(w.self()), "by its schedule", false)
	refusedAs(t, err, cred.Conflict, "ROTATION_OPEN")
	if !w.get(rot.ID).Waits(w.now()) {
		t.Error("it was hurried")
	}
}

// Nobody hurries what a lock forbids.
func TestHurryRefused(t *testing.T) {
	w, rot := newWaiting(t)
	_, _, err := w.Lock(t.Context(), security, Lock{Target: "rotation:db-root", Reason: "not now"}, 0)
	w.must(err)
	refusedAs(t, w.hurry(), cred.Denied, "LOCKED")
	w.advance()
	if !w.get(rot.ID).Waits(w.now()) {
		t.Error("it was begun")
	}
}

// An ID token that counts once is spent by what begins a rotation and by what hurries one.
func TestRotateSpendsItsToken(t *testing.T) {
	for name, open := range map[string]func() *rotating{
		"begun":   func() *rotating { return newRotating(t) },
		"hurried": func() *rotating { w, _ := newWaiting(t); return w },
	} {
		w := open()
		who := as(security)
		who.once = []onceToken{{hashOf("people", "i", "jti-1"), w.now().Add(24 * time.Hour)}}
		rot, err := w.Rotate(t.Context(), who, "db-root", "")
		w.must(err)
		w.wantEnd(w.finish(rot.ID), cred.RotationDone)
		_, err = w.Rotate(t.Context(), who, "db-root", "")
		refusedAs(t, err, cred.Unauthenticated, "TOKEN_REPLAYED")
		if w.only().ID != rot.ID {
			t.Errorf("%s: another was begun", name)
		}
	}
}
