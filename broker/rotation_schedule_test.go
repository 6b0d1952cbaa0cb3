package broker

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
)

// every is a schedule without windows.
func every(d time.Duration) func(*Root) {
	return func(r *Root) { r.Schedule = func(last time.Time) time.Time { return last.Add(d) } }
}

// live lets hours pass, with a turn in each minute.
func (r *rotating) live(hours int) {
	r.t.Helper()
	for range hours * 60 {
		r.advance()
		r.sweep()
		r.clock.advance(time.Minute)
	}
}

// starts returns when the rotations of a root were asked for, oldest first.
func (r *rotating) starts(root string) (all []time.Time) {
	r.t.Helper()
	list, err := r.ListRotations(r.context(), auditor, 0)
	r.must(err)
	for _, rot := range slices.Backward(list) {
		if rot.Root == root {
			all = append(all, rot.CreatedAt)
		}
	}
	return all
}

func (r *rotating) wantStarts(want ...time.Duration) {
	r.t.Helper()
	got := r.starts("db-root")
	if len(got) != len(want) {
		r.t.Fatalf("it was rotated at %v, want after %v", got, want)
	}
	for i, at := range got {
		if off := at.Sub(noon.Add(want[i])); off < 0 || off > 2*time.Minute {
			r.t.Errorf("rotation %d began at %v, want after %v", i, at, want[i])
		}
	}
}

// A root that was never rotated is due at once, and then each time its schedule says so. One that was
// rotated by hand counts.
func TestScheduledRotation(t *testing.T) {
	w := newRotating(t, every(4*time.Hour))
	roots, err := w.ListRoots(t.Context(), auditor)
	if err != nil || roots[0].DueAt.After(w.now()) {
		t.Errorf("due %v, %v", roots[0].DueAt, err)
	}
	w.live(6)
	w.begin()
	w.live(6)
	w.wantStarts(0, 4*time.Hour, 6*time.Hour, 10*time.Hour)
	list, err := w.ListRotations(t.Context(), auditor, 0)
	w.must(err)
	if rot := list[0]; rot.State() != cred.RotationDone || rot.By.Kind != cred.KindWorkload || rot.By.Provider != "daypass" {
		t.Errorf("%+v", rot)
	}
	if roots, err = w.ListRoots(t.Context(), auditor); err != nil || !roots[0].DueAt.Equal(list[0].EndedAt.Add(4*time.Hour)) {
		t.Errorf("due %v, %v", roots[0].DueAt, err)
	}
}

// A scheduled rotation that fails alarms people, and is not tried before it is due again, an hour later
// at the earliest.
func TestScheduledRotationFails(t *testing.T) {
	for due, want := range map[time.Duration][]time.Duration{
		2 * time.Hour: {0, 2 * time.Hour, 4 * time.Hour},
		time.Minute:   {0, time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour},
	} {
		w := newRotating(t, every(due))
		w.root.forbids = true
		w.live(5)
		w.wantStarts(want...)
		if n := len(w.told(notice.RotationFailed)); n != len(want) {
			t.Errorf("%d notices of %d failures", n, len(want))
		}
	}
}

// What somebody asked for in vain postpones nothing.
func TestFailureByHandPostponesNothing(t *testing.T) {
	w := newRotating(t, every(4*time.Hour))
	w.live(2)
	w.root.set(func() { w.root.forbids = true })
	w.begin()
	w.live(1)
	w.root.set(func() { w.root.forbids = false })
	w.live(3)
	w.wantStarts(0, 2*time.Hour, 4*time.Hour)
}

// A scheduled rotation asks for approval like every other. Nobody is kept from agreeing: it is the
// broker that asks.
func TestScheduledRotationAsks(t *testing.T) {
	w := newRotating(t, byTwo, every(4*time.Hour))
	w.advance()
	rot := w.only()
	if rot.State() != cred.RotationPending {
		t.Fatalf("it is %s", rot.State())
	}
	w.approve(rot)
	w.wantEnd(w.finish(rot.ID), cred.RotationDone)
	w.clock.advance(time.Minute)
	w.live(10) // nobody agrees to the next one within its hour
	w.wantStarts(0, 4*time.Hour, 9*time.Hour)
}

// One whose window was missed runs in the next one, and never outside of them.
func TestScheduleWindows(t *testing.T) {
	src := policy.Source{}
	upkeep, problems := policy.CompileUpkeep(src, "rotations[0]", &policy.Schedule{
		Every: 24 * time.Hour, Windows: []policy.Window{{From: "02:00", To: "04:00", Zone: "UTC"}},
	}, nil)
	if problems != nil {
		t.Fatal(problems)
	}
	w := newRotating(t)
	w.roots[0].Schedule = func(last time.Time) time.Time { return upkeep.Next(last, w.now()) }
	w.start()
	w.live(48) // from noon: the windows open after 14 and 38 hours; the second comes before a day is over since the first
	w.wantStarts(14*time.Hour, 38*time.Hour)
	w.clock.advance(16 * time.Hour) // it was down from noon until 4 o'clock
	w.live(24)
	w.wantStarts(14*time.Hour, 38*time.Hour, 86*time.Hour)
	w.wantTold(notice.RotationWaits, 0)
}

// nightly is a schedule with a window from 02:00 to 03:00.
func nightly(t *testing.T, w *rotating) {
	upkeep, problems := policy.CompileUpkeep(policy.Source{}, "rotations[0]", &policy.Schedule{
		Every: 24 * time.Hour, Windows: []policy.Window{{From: "02:00", To: "03:00", Zone: "UTC"}},
	}, nil)
	if problems != nil {
		t.Fatal(problems)
	}
	w.roots[0].Schedule = func(last time.Time) time.Time { return upkeep.Next(last, w.now()) }
	w.start()
}

// What is approved after the window in which it was asked for begins in the next one, unless somebody asks
// for it.
func TestApprovedAfterTheWindow(t *testing.T) {
	for name, c := range map[string]struct { // all after two o'clock
		approved time.Duration
		hurried  time.Duration // zero: nobody asks
		begins   time.Duration
	}{
		"in the window":     {50 * time.Minute, 0, 50 * time.Minute},
		"after it":          {90 * time.Minute, 0, 24 * time.Hour},
		"after it, hurried": {90 * time.Minute, 2 * time.Hour, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRotating(t, byTwo)
			nightly(t, w)
			two := noon.Add(14 * time.Hour)
			at := func(after time.Duration) { w.clock.advance(two.Add(after).Sub(w.now())) }
			at(45 * time.Minute) // a request lives an hour
			w.advance()
			rot := w.only()
			at(c.approved)
			w.approve(rot)
			if late := c.approved > time.Hour; w.get(rot.ID).Waits(w.now()) != late || late && w.root.count("check") > 0 {
				t.Fatalf("it stands as %+v", w.get(rot.ID))
			}
			if c.hurried > 0 {
				at(c.hurried)
				hurried, err := w.Rotate(t.Context(), as(security), "db-root", "it is known to others")
				w.must(err)
				if hurried.ID != rot.ID {
					t.Fatalf("%s was begun beside %s", hurried.ID, rot.ID)
				}
				w.advance()
			}
			for w.root.count("check") == 0 && w.now().Before(two.Add(30*time.Hour)) {
				w.clock.advance(time.Minute)
				w.advance()
			}
			if took := w.now().Sub(two); took < c.begins || took > c.begins+2*time.Minute {
				t.Errorf("it began %v after two o'clock, want %v", took, c.begins)
			}
			w.wantEnd(w.finish(rot.ID), cred.RotationDone)
			want := []string{"asked", "begun"}
			if c.hurried > 0 {
				want = append(want, "hurried")
			}
			if got := w.intents(); !slices.Equal(got, want) {
				t.Errorf("the entries %q, want %q", got, want)
			}
		})
	}
}

// Run does all of it by itself, at its times, and an act that hangs is cut off.
func TestRunRotates(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := withRoots(buildWorld(t, dir, time.Now))
		w.root.plan("switch", notDone)
		w.root.plan("verify", hangs)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		begun := time.Now()
		var last cred.Rotation
		w.must(w.WaitRotation(ctx, auditor, w.begin().ID, func(r cred.Rotation) error {
			last = r
			return nil
		}))
		// 5 s after the switch that failed, and as long after a verification of 3 min, each at the next turn.
		if took := time.Since(begun); last.State() != cred.RotationDone || took < 190*time.Second || took > 194*time.Second {
			t.Errorf("it is %s after %v", last.State(), took)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.check()
		w.close()
	})
}
