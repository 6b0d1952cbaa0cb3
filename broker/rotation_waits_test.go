package broker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// wantTold wants so many notices of a kind, and returns them, oldest first.
func (r *rotating) wantTold(kind notice.Kind, times int) []notice.Notice {
	r.t.Helper()
	all := r.told(kind)
	slices.SortFunc(all, func(a, b notice.Notice) int { return a.At.Compare(b.At) })
	if len(all) != times {
		r.t.Fatalf("people were told %d times of %s, want %d: %+v", len(all), kind, times, all)
	}
	return all
}

// Who has to do something for a rotation is told once at each step that waits for them, and reminded each
// day: not at each look, and not again by the next process.
func TestRotationWaitsForAPerson(t *testing.T) {
	w := newRotating(t)
	w.root.plan("prepare", slices.Repeat([]fault{waits}, 100)...)
	id := w.begin().ID
	for hour := range 60 {
		w.advance()
		w.wantTold(notice.RotationWaits, 1+hour/24)
		if hour%10 == 5 {
			w.start()
		}
		w.clock.advance(time.Hour)
	}
	w.root.set(func() { w.root.next = map[string][]fault{"retire": {waits, notDone, waits, waits}} })
	w.wantEnd(w.finish(id), cred.RotationDone)
	all := w.wantTold(notice.RotationWaits, 4)
	for i, want := range []struct {
		after time.Duration
		text  string
	}{
		{0, "db-root waits for a person at the step prepare: upload the key."},
		{24 * time.Hour, "db-root still waits for a person at the step prepare: upload the key."},
		{48 * time.Hour, "db-root still waits for a person at the step prepare: upload the key."},
		{60 * time.Hour, "db-root waits for a person at the step retire: upload the key."},
	} {
		n := all[i]
		if !n.At.Equal(noon.Add(want.after)) || n.Target != "rotation:db-root" || n.Reason != "leaked" {
			t.Errorf("the notice %+v, want it after %v", n, want.after)
		}
		for _, part := range []string{"The rotation " + string(id) + " of the root ", want.text, "'daypass rotations show " + string(id) + "'"} {
			if !strings.Contains(n.Text, part) {
				t.Errorf("%q lacks %q", n.Text, part)
			}
		}
	}
	w.wantTold(notice.RotationStuck, 0)
	w.wantSteps(id, "intent begun", "check begun", "check done", "prepare begun", "prepare waits", "prepare done", "switch begun", "switch done", "verify begun", "verify done",
		"drain done", "retire begun", "retire waits", "retire done")
	for _, e := range w.eventsOf(audit.RotationStep) {
		if e.Detail["outcome"] == outcomeWaits && (e.Detail["why"] != "upload the key" || e.Error != nil) {
			t.Errorf("the entry %+v, with the error %+v", e.Detail, e.Error)
		}
	}
}

// What waits for time alone tells nobody for a day, and then once that it does not get on.
func TestRotationWaitsForTime(t *testing.T) {
	for _, act := range []string{"check", "prepare", "switch", "verify", "retire", "undo"} {
		w := newRotating(t)
		w.root.broken = act == "undo"
		w.root.plan(act, slices.Repeat([]fault{waitsForTime}, 80)...)
		id := w.begin().ID
		for hour := range 60 {
			w.advance()
			rot, stuck := w.get(id), 0
			if hour >= 24 {
				stuck = 1
			}
			if string(rot.Step()) != act || !strings.Contains(rot.Why, "in a minute") || len(w.notices) != stuck || len(w.told(notice.RotationStuck)) != stuck {
				t.Fatalf("%s: after %d hours it is at %s (%s), and people were told %v", act, hour, rot.Step(), rot.Why, w.notices)
			}
			w.clock.advance(time.Hour)
		}
	}
}

// dies lets the broker run until it dies, and starts the next one.
func (r *rotating) dies() {
	r.t.Helper()
	if r.process.run(func() { _ = r.AdvanceRotations(r.context()) }) && !r.process.dead.Load() {
		r.t.Fatalf("the broker lives")
	}
	r.start()
}

// A broker that dies again and again in one step alarms people once that was three times, and then tries
// no more often than whatever else is stuck. Once it lives, the rotation ends well.
func TestRotationEndsItsBroker(t *testing.T) {
	for _, act := range []string{"check", "prepare", "switch", "verify", "retire", "undo"} {
		t.Run(act, func(t *testing.T) {
			w := newRotating(t)
			want := cred.RotationDone
			if act == "undo" {
				w.root.broken, want = true, cred.RotationFailed
			}
			w.root.plan(act, slices.Repeat([]fault{kills}, 6)...)
			id := w.begin().ID
			for deaths := 1; deaths <= 6; deaths++ {
				w.dies()
				rot, alarms, spaced := w.get(id), 0, w.cfg.RotateTimeout
				if deaths > 3 { // the process after the third death has told of it, before it died as well
					alarms, spaced = 1, stuckRetry
				}
				if rot.Alarmed != (alarms > 0) || rot.Attempt != deaths || rot.NextAt.Sub(w.now()) != spaced {
					t.Fatalf("after %d deaths: alarmed %v, %d attempts, the next one in %v", deaths, rot.Alarmed, rot.Attempt, rot.NextAt.Sub(w.now()))
				}
				w.wantTold(notice.RotationStuck, alarms)
				w.clock.advance(spaced - time.Second)
				w.advance()
				if n := w.root.count(act); n != deaths {
					t.Fatalf("the act was begun %d times before it was due", n)
				}
				w.clock.advance(time.Second)
			}
			if rot := w.get(id); !strings.Contains(rot.Why, "the broker ended three times") {
				t.Errorf("it stands because %q", rot.Why)
			}
			w.wantEnd(w.finish(id), want)
			told := w.wantTold(notice.RotationStuck, 1)[0]
			if !strings.Contains(told.Text, "at the step "+act+": the broker ended three times") || !strings.Contains(told.Text, "daypass rotations show "+string(id)) {
				t.Errorf("people were told %q", told.Text)
			}
			var stuck []audit.Event
			for _, e := range w.eventsOf(audit.RotationStep) {
				if e.Detail["outcome"] == outcomeStuck {
					stuck = append(stuck, e)
				}
			}
			if len(stuck) != 1 || stuck[0].Rotation.Step != act || stuck[0].Error == nil || stuck[0].Error.Reason != "NO_OUTCOME" || stuck[0].Detail["attempts"] != float64(3) {
				t.Errorf("the entries %+v", stuck)
			}
		})
	}
}

// Deaths in several steps, or with an outcome between them, are none of one step.
func TestRotationOutlivesDeaths(t *testing.T) {
	w := newRotating(t)
	w.root.plan("prepare", kills, kills)
	w.root.plan("switch", kills, kills, notDone, kills, kills, waitsForTime, kills, kills)
	id := w.begin().ID
	for !w.get(id).Over() {
		w.process.run(func() { _ = w.AdvanceRotations(t.Context()) })
		w.start()
		w.clock.advance(max(w.get(id).NextAt.Sub(w.now()), time.Second))
	}
	w.wantEnd(w.get(id), cred.RotationDone)
	if prepared, switched := w.root.count("prepare"), w.root.count("switch"); prepared != 3 || switched != 9 {
		t.Errorf("it was prepared %d times and switched %d times", prepared, switched)
	}
	w.wantTold(notice.RotationStuck, 0)
	w.wantSteps(id, goodSteps...)
}

// What people can't be told is not on record either, nor is the step claimed of which it tells, and it is
// told as soon as it can be.
func TestRotationTellsOrRecordsNothing(t *testing.T) {
	for kind, faults := range map[notice.Kind][]fault{notice.RotationWaits: {waits}, notice.RotationStuck: {kills, kills, kills}} {
		w := newRotating(t)
		w.root.plan("prepare", append(faults, waits)...)
		id := w.begin().ID
		for range faults {
			if kind == notice.RotationStuck {
				w.dies()
				w.clock.advance(w.cfg.RotateTimeout)
			}
		}
		w.Broker.cfg.Notify = func(store.Tx, notice.Notice) error { return errors.New("no queue") }
		w.advance()
		rot := w.get(id)
		if rot.Attempt != len(faults) || w.root.count("prepare") != len(faults) {
			t.Errorf("%s: the step was claimed %d times, and done %d times", kind, rot.Attempt, w.root.count("prepare"))
		}
		if rot.Alarmed || !rot.AskedAt.IsZero() || slices.Contains(w.steps(id), "prepare waits") || slices.Contains(w.steps(id), "prepare stuck") {
			t.Errorf("%s: it is on record that people were told: %q", kind, w.steps(id))
		}
		w.Broker.cfg.Notify = w.notify
		w.wantEnd(w.finish(id), cred.RotationDone)
		w.wantTold(kind, 1)
	}
}
