package broker

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// rotating is a world with roots to rotate.
type rotating struct {
	*world
	root  *fakeRoot // of the root "db-root", of the issuer "vault"
	roots []Root

	mu      sync.Mutex
	notices map[string]notice.Notice // by ID; guarded by mu
}

func newRotating(t testing.TB, change ...func(*Root)) *rotating {
	t.Helper()
	w := newWorld(t)
	r := withRoots(w, change...)
	t.Cleanup(func() {
		if wrong := r.root.mistakes(); len(wrong) > 0 {
			t.Errorf("at the source: %q", wrong)
		}
	})
	return r
}

func withRoots(w *world, change ...func(*Root)) *rotating {
	r := &rotating{world: w, root: newFakeRoot(), notices: map[string]notice.Notice{}}
	r.root.now, r.root.process = w.now, func() *process { return w.process }
	root := Root{Name: "db-root", Rotator: r.root, Issuer: "vault"}
	for _, c := range change {
		c(&root)
	}
	r.roots = []Root{root}
	w.change = func(c *Config) {
		c.Roots, c.Sign, c.Notify = r.roots, w.signer.Receipt, r.notify
	}
	w.start()
	return r
}

func (r *rotating) notify(_ store.Tx, n notice.Notice) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notices[n.ID] = n
	return nil
}

// told returns the notices of a kind.
func (r *rotating) told(kind notice.Kind) (all []notice.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.notices {
		if n.Kind == kind {
			all = append(all, n)
		}
	}
	return all
}

func (r *rotating) begin() cred.Rotation {
	r.t.Helper()
	rot, err := r.Rotate(context.Background(), as(security), "db-root", "leaked")
	r.must(err)
	return rot
}

func (r *rotating) advance() {
	r.t.Helper()
	r.must(r.AdvanceRotations(context.Background()))
}

func (r *rotating) get(id cred.RotationID) cred.Rotation {
	r.t.Helper()
	rot, err := r.GetRotation(context.Background(), auditor, id)
	r.must(err)
	return rot
}

// finish lets time pass until a rotation is over, and holds each moment to the invariant.
func (r *rotating) finish(id cred.RotationID) cred.Rotation {
	r.t.Helper()
	for range 60 {
		r.advance()
		rot := r.get(id)
		r.holds(rot)
		if rot.Over() {
			return rot
		}
		r.clock.advance(max(rot.NextAt.Sub(r.now()), time.Millisecond))
	}
	rot := r.get(id)
	r.t.Fatalf("the rotation never ends: it is %s at %s (%s)", rot.State(), rot.Step(), rot.Why)
	return rot
}

// holds is the invariant: a root works, or people have been told, or the rotation is in the middle of a
// step that finds that out.
func (r *rotating) holds(rot cred.Rotation) {
	r.t.Helper()
	finding := rot.State() == cred.RotationRunning && slices.Contains([]cred.RotationStep{cred.StepSwitch, cred.StepVerify, cred.StepUndo}, rot.Step())
	switch {
	case r.root.lost() && !rot.Alarmed && !finding:
		r.t.Errorf("no root works, and nobody was told: the rotation is %s at %q", rot.State(), rot.Step())
	case rot.Over() && !r.root.works():
		r.t.Errorf("the rotation is %s, and the root in use does not work", rot.State())
	case rot.Alarmed && len(r.told(notice.RotationStuck)) == 0:
		r.t.Errorf("an alarm that nobody got")
	}
}

// steps returns the entries of a rotation, as "step outcome".
func (r *rotating) steps(id cred.RotationID) (all []string) {
	r.t.Helper()
	for _, e := range r.eventsOf(audit.RotationStep) {
		if e.Rotation.ID == string(id) {
			all = append(all, fmt.Sprintf("%s %s", e.Rotation.Step, e.Detail["outcome"]))
		}
	}
	return all
}

var goodSteps = []string{
	"intent begun", "check begun", "check done", "prepare begun", "prepare done", "switch begun", "switch done", "verify begun", "verify done", "drain done", "retire begun", "retire done",
}

func (r *rotating) wantSteps(id cred.RotationID, want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.steps(id)); diff != "" {
		r.t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func (r *rotating) wantEnd(rot cred.Rotation, want cred.RotationState) {
	r.t.Helper()
	if rot.State() != want {
		r.t.Fatalf("the rotation is %s (%s), want %s", rot.State(), rot.Why, want)
	}
}

// A rotation does each step once, tells the log of each, and leaves a receipt that verifies.
func TestRotation(t *testing.T) {
	w := newRotating(t)
	_, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	began := w.begin()
	rot := w.finish(began.ID)
	w.wantEnd(rot, cred.RotationDone)
	w.wantSteps(rot.ID, goodSteps...)
	if rot.Old != "key-1" || rot.New != "key-2" || rot.Reason != "leaked" || !rot.By.Same(security) || rot.Notes != nil {
		t.Errorf("the rotation %+v", rot)
	}
	if w.root.old || !w.root.works() {
		t.Error("the old root is still there")
	}
	text, err := audit.OpenReceipt([]byte(rot.Receipt), w.signer.VerifierKey())
	w.must(err)
	for _, want := range []string{"root \"db-root\"\n", "id " + string(rot.ID), "by \"people\" \"https://issuer.example.com\" \"guard\"", "old \"key-1\"", "new \"key-2\"", "step verify done 2026-", "state done 2026-"} {
		if !strings.Contains(text, want) {
			t.Errorf("the receipt lacks %q:\n%s", want, text)
		}
	}
	last := w.lastOf(audit.RotationStep)
	if last.Detail["receipt_sha256"] == nil || last.Detail["state"] != "done" {
		t.Errorf("the last entry %+v", last.Detail)
	}
	var names []string
	for _, f := range rot.Findings {
		names = append(names, f.Name+": "+f.Text)
	}
	want := []string{
		"one access key: looked", "who uses it: targets: api, db, glass, hidden, prod, rare; rules: ci, glass, others, prod, rare",
		"credentials that live: 1 issued; with old_leases keep they live until their own end", "no other rotation: no other rotation is under way there",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if len(w.told(notice.RotationDone)) != 1 {
		t.Errorf("notices %v", w.notices)
	}
	if strings.Contains(w.file(), "n0te-of-") || strings.Contains(w.log.String(), "n0te-of-") {
		t.Error("a note is readable")
	}
}

// Each act fails once in each form, and the rotation ends as the contract has it.
func TestRotationFaults(t *testing.T) {
	for _, act := range []string{"check", "prepare", "switch", "verify", "retire", "undo"} {
		for _, f := range []fault{notDone, doneLost, doneOddly, refusedOff, waits} {
			t.Run(fmt.Sprintf("%s %d", act, f), func(t *testing.T) {
				w := newRotating(t)
				want := cred.RotationDone
				if act == "undo" {
					w.root.broken = true
					want = cred.RotationFailed
				}
				if f == refusedOff && act != "retire" {
					want = cred.RotationFailed
				}
				w.root.plan(act, f)
				rot := w.finish(w.begin().ID)
				w.wantEnd(rot, want)
				stuck, failed := len(w.told(notice.RotationStuck)), len(w.told(notice.RotationFailed))
				if want == cred.RotationFailed && (failed != 1 || !w.root.old || w.root.inUse != "old" || w.root.new) {
					t.Errorf("%d notices of the failure; the old root is in use: %v", failed, w.root.inUse)
				}
				if alarm := f == refusedOff && (act == "retire" || act == "undo"); alarm != (stuck > 0) {
					t.Errorf("%d alarms", stuck)
				}
				steps := slices.DeleteFunc(w.steps(rot.ID), func(step string) bool { return f == waits && step == act+" waits" })
				if want == cred.RotationDone && (w.root.old || stuck == 0 && !slices.Equal(steps, goodSteps)) {
					t.Errorf("entries %q", w.steps(rot.ID))
				}
				if asked := len(w.told(notice.RotationWaits)); asked > 1 || (asked == 1) != (f == waits) {
					t.Errorf("people were asked %d times", asked)
				}
				if f != refusedOff && w.root.count(act) != 2 {
					t.Errorf("%s was called %d times", act, w.root.count(act))
				}
			})
		}
	}
}

// A check that forbids the rotation ends it before anything is changed.
func TestRotationForbidden(t *testing.T) {
	w := newRotating(t)
	w.root.forbids = true
	rot := w.finish(w.begin().ID)
	w.wantEnd(rot, cred.RotationFailed)
	w.wantSteps(rot.ID, "intent begun", "check begun", "check failed")
	if !strings.Contains(rot.Why, "one access key") || w.root.count("prepare") != 0 {
		t.Errorf("why %q", rot.Why)
	}
	root, findings, err := w.CheckRotation(t.Context(), as(security), "vault")
	if err != nil || root != "db-root" || findings[0].OK {
		t.Errorf("dry run: %s %+v %v", root, findings, err)
	}
	var dry []any
	for _, e := range w.eventsOf(audit.RotationStep) {
		if e.Detail["dry_run"] == true {
			dry = append(dry, e.Rotation.Step, e.Detail["outcome"], e.Principal.Subject, e.Detail["findings"] != nil)
		}
	}
	if want := []any{"check", "begun", "guard", false, "check", "looked", "guard", true}; !reflect.DeepEqual(dry, want) {
		t.Errorf("the dry run's entries %v, want %v", dry, want)
	}
}

// A dry run that can't be recorded asks no source.
func TestDryRunIsRecordedFirst(t *testing.T) {
	w := newRotating(t)
	w.store.plan(notDone)
	_, _, err := w.CheckRotation(t.Context(), as(security), "vault")
	if cred.KindOf(err) != cred.Unavailable || w.root.count("check") != 0 {
		t.Errorf("%v, and the source was asked %d times", err, w.root.count("check"))
	}
}

// Where a new root does not work and the old one is no more, people are told, and once it works the
// rotation ends well.
func TestRotationWithoutWayBack(t *testing.T) {
	w := newRotating(t)
	w.root.single, w.root.broken = true, true
	id := w.begin().ID
	for range 20 {
		w.advance()
		w.clock.advance(time.Minute)
	}
	rot := w.get(id)
	w.holds(rot)
	if !rot.Alarmed || !rot.OneWay || rot.Step() != cred.StepVerify || len(w.told(notice.RotationStuck)) != 1 {
		t.Fatalf("the rotation %+v, %d alarms", rot, len(w.told(notice.RotationStuck)))
	}
	w.wantSteps(id, "intent begun", "check begun", "check done", "prepare begun", "prepare done", "switch begun", "switch done", "verify begun", "verify failed",
		"undo begun", "undo impossible", "undo stuck", "verify begun")
	w.root.set(func() { w.root.broken = false })
	w.wantEnd(w.finish(id), cred.RotationDone)
	if n := w.root.count("undo"); n != 1 {
		t.Errorf("it was undone %d times", n)
	}
}

// What takes too long alarms people once, and goes on when it can.
func TestRotationStuck(t *testing.T) {
	w := newRotating(t)
	w.root.plan("switch", slices.Repeat([]fault{notDone}, 12)...)
	id := w.begin().ID
	alarmed := time.Duration(0)
	for begun := w.now(); w.now().Before(begun.Add(25 * time.Minute)); w.clock.advance(time.Minute) {
		w.advance()
		if w.get(id).Alarmed && alarmed == 0 {
			alarmed = w.now().Sub(begun)
		}
	}
	if alarmed < stuckAfter || alarmed > stuckAfter+6*time.Minute || len(w.told(notice.RotationStuck)) != 1 {
		t.Errorf("alarmed after %v, %d times", alarmed, len(w.told(notice.RotationStuck)))
	}
	rot := w.finish(id)
	w.wantEnd(rot, cred.RotationDone)
	if !slices.Contains(w.steps(id), "switch stuck") {
		t.Errorf("entries %q", w.steps(id))
	}
}

// A source that never answers a check ends the rotation; nothing was changed.
func TestRotationCheckGivesUp(t *testing.T) {
	w := newRotating(t)
	w.root.plan("check", slices.Repeat([]fault{notDone}, 40)...)
	began := w.now()
	rot := w.finish(w.begin().ID)
	w.wantEnd(rot, cred.RotationFailed)
	if took := rot.EndedAt.Sub(began); took < checkFor || took > checkFor+10*time.Minute {
		t.Errorf("it took %v", took)
	}
	if len(w.told(notice.RotationStuck)) != 1 || len(w.told(notice.RotationFailed)) != 1 {
		t.Errorf("notices %v", w.notices)
	}
}

// A process that dies at any step of a rotation leaves a journal from which the next one goes on.
func TestRotationDiesAtEachStep(t *testing.T) {
	for name, prepare := range map[string]func(w *rotating) cred.RotationState{
		"done": func(*rotating) cred.RotationState { return cred.RotationDone },
		"undone": func(w *rotating) cred.RotationState {
			w.root.broken = true
			return cred.RotationFailed
		},
		"one root at a time": func(w *rotating) cred.RotationState {
			w.root.single = true
			return cred.RotationDone
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := int64(0); ; n++ {
				if n > 120 {
					t.Fatal("it never lives")
				}
				w := newRotating(t)
				want := prepare(w)
				id := w.begin().ID
				w.process.left.Store(n)
				lived := w.process.run(func() { _ = w.AdvanceRotations(context.Background()) }) && !w.process.dead.Load()
				w.start()
				w.holds(w.get(id))
				rot := w.finish(id)
				w.wantEnd(rot, want)
				steps := w.steps(id)
				if slices.Sort(steps); len(slices.Compact(slices.Clone(steps))) != len(steps) {
					t.Errorf("step %d: an entry twice: %q", n, steps)
				}
				if lived {
					return
				}
			}
		})
	}
}

// Failures of the store, in both forms at each write, cost time and no more.
func TestRotationStoreFaults(t *testing.T) {
	for _, f := range []fault{notDone, doneLost} {
		for n := range 16 {
			w := newRotating(t)
			id := w.begin().ID
			w.store.plan(append(slices.Repeat([]fault{works}, n), f)...)
			rot := w.finish(id)
			w.wantEnd(rot, cred.RotationDone)
			w.wantSteps(id, goodSteps...)
		}
	}
}

// Two brokers on one store never do a step at once, nor twice.
func TestRotationByTwoBrokers(t *testing.T) {
	w := newRotating(t)
	first := w.Broker
	w.start()
	second := w.Broker
	id := w.begin().ID
	var wg sync.WaitGroup
	for _, b := range []*Broker{first, second, first, second} {
		wg.Go(func() {
			for range 10 {
				if err := b.AdvanceRotations(t.Context()); err != nil {
					t.Errorf("advance: %v", err)
				}
			}
		})
	}
	wg.Wait()
	rot := w.finish(id)
	w.wantEnd(rot, cred.RotationDone)
	w.wantSteps(id, goodSteps...)
	for _, act := range []string{"check", "prepare", "switch", "verify", "retire"} {
		if n := w.root.count(act); n != 1 {
			t.Errorf("%s was done %d times", act, n)
		}
	}
}

// A broker that is overtaken, because it took longer than it may, writes no outcome.
func TestRotationOvertaken(t *testing.T) {
	w := newRotating(t)
	id := w.begin().ID
	c, ok, err := w.claimStep(t.Context(), id)
	if err != nil || !ok {
		t.Fatalf("claim: %v %v", ok, err)
	}
	if _, again, err := w.claimStep(t.Context(), id); again || err != nil {
		t.Fatalf("a step that is claimed was claimed again: %v", err)
	}
	w.clock.advance(2 * time.Minute)
	rot := w.finish(id)
	w.wantEnd(rot, cred.RotationDone)
	on, err := w.concludeStep(t.Context(), c, answer{})
	if on || err != nil {
		t.Errorf("conclude: %v %v", on, err)
	}
	w.wantSteps(id, goodSteps...)
}

// A root has one rotation at a time, which only the role security begins; auditors look at it.
func TestRotateRights(t *testing.T) {
	w := newRotating(t)
	ctx := t.Context()
	_, err := w.Rotate(ctx, as(auditor), "db-root", "")
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	_, _, err = w.CheckRotation(ctx, as(auditor), "db-root")
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	_, err = w.ListRoots(ctx, nosy)
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	_, err = w.ListRotations(ctx, nosy, 0)
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	_, err = w.Rotate(ctx, as(security), "nothing", "")
	refusedAs(t, err, cred.NotFound, "ROOT_UNKNOWN")
	_, err = w.GetRotation(ctx, auditor, "rot_0")
	refusedAs(t, err, cred.NotFound, "ROTATION_UNKNOWN")
	rot, err := w.Rotate(ctx, as(security), "db", "by a target's name")
	w.must(err)
	_, err = w.GetRotation(ctx, nosy, rot.ID)
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	refusedAs(t, w.WaitRotation(ctx, nosy, rot.ID, nil), cred.Denied, "ROLE_MISSING")
	_, err = w.Rotate(ctx, as(security), "vault", "by the issuer's name")
	if e := refusedAs(t, err, cred.Conflict, "ROTATION_OPEN"); !strings.Contains(e.Public, string(rot.ID)) {
		t.Errorf("it does not name the one that runs: %s", e.Public)
	}
	w.finish(rot.ID)
	w.clock.advance(time.Millisecond) // IDs are in order of time
	again := w.begin()
	all, err := w.ListRotations(ctx, security, 0)
	w.must(err)
	if len(all) != 2 || all[0].ID != again.ID {
		t.Errorf("rotations %+v", all)
	}
	if one, err := w.ListRotations(ctx, security, 1); err != nil || len(one) != 1 {
		t.Errorf("bounded: %+v, %v", one, err)
	}
	roots, err := w.ListRoots(ctx, auditor)
	w.must(err)
	if len(roots) != 1 || roots[0].Last.ID != again.ID || !slices.Contains(roots[0].Targets, "db") || !roots[0].DueAt.IsZero() {
		t.Errorf("roots %+v", roots)
	}
}

// Whoever waits for a rotation is told of each change, and of its end.
func TestWaitRotation(t *testing.T) {
	w := newRotating(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	id := w.begin().ID
	var seen []cred.RotationState
	first := make(chan struct{}, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := w.WaitRotation(ctx, auditor, id, func(r cred.Rotation) error {
			seen = append(seen, r.State())
			first <- struct{}{}
			return nil
		})
		if err != nil {
			t.Errorf("wait: %v", err)
		}
	})
	<-first
	var run sync.WaitGroup
	run.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	wg.Wait()
	cancel()
	run.Wait()
	if len(seen) < 2 || seen[0] != cred.RotationRunning || seen[len(seen)-1] != cred.RotationDone {
		t.Errorf("seen %v", seen)
	}
}

func TestRootsAreChecked(t *testing.T) {
	w := newRotating(t)
	good := w.roots[0]
	for name, change := range map[string]func(*Config){
		"no signer":  func(c *Config) { c.Sign = nil },
		"twice":      func(c *Config) { c.Roots = []Root{good, good} },
		"no name":    func(c *Config) { c.Roots[0].Name = "" },
		"no rotator": func(c *Config) { c.Roots[0].Rotator = nil },
		"leases":     func(c *Config) { c.Roots[0].OldLeases = "burn" },
		"nobody":     func(c *Config) { c.Roots[0].Demand = &cred.Demand{} },
	} {
		cfg := w.cfg
		cfg.Roots = []Root{good}
		change(&cfg)
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%s: it starts", name)
		}
	}
}
