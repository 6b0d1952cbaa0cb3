package cred_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// journal runs a rotation beside a plain model of it.
type journal struct {
	r   cred.Rotation
	now time.Time

	state  string // here begins the model: "pending", a step, or how it ended
	begun  bool
	free   time.Time // when the step may begin
	open   int       // how often it was begun since it had an outcome
	asked  bool      // people were told that it waits for them
	oneWay bool
	proven bool // verified since what is in use was put there
	past   []string
}

// order is what follows what, where all goes well.
var order = []string{"check", "prepare", "switch", "verify", "drain", "retire", "done"}

// TestRotationModel does to a rotation what brokers do, in any order, and holds it to the model.
func TestRotationModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := &journal{now: instant, state: "check", free: instant}
		grant := rapid.SampledFrom([]cred.GrantID{"", "gr_1"}).Draw(t, "grant")
		if grant != "" {
			j.state = "pending"
		}
		j.r = cred.NewRotation("rot_1", "root", eve, "why", grant, instant)
		for range rapid.IntRange(1, 60).Draw(t, "length") {
			j.now = j.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "minutes")) * time.Minute)
			j.turn(t)
			j.check(t)
		}
	})
}

func (j *journal) running() bool { return slices.Contains(order[:6], j.state) || j.state == "undo" }

func (j *journal) turn(t *rapid.T) {
	later := j.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "until")) * time.Minute)
	var next cred.Rotation
	var err error
	var may bool
	switch op := rapid.SampledFrom([]string{"start", "hurry", "refuse", "begin", "begin", "begin", "done", "done", "done", "again", "fail", "resume"}).Draw(t, "op"); op {
	case "start":
		next, err = j.r.Start(later, "window")
		if may = j.state == "pending"; may {
			j.to("check", later)
		}
	case "hurry":
		next, err = j.r.Hurry(j.now)
		may = j.state == "check" && !j.begun && j.now.Before(j.free)
		if may != j.r.Waits(j.now) {
			t.Fatalf("Waits is %v at %s", j.r.Waits(j.now), j.state)
		}
		if may {
			j.free = j.now
		}
	case "refuse":
		next, err = j.r.Refuse(j.now, "no")
		if may = j.state == "pending"; may {
			j.state = "refused"
		}
	case "begin":
		next, err = j.r.Begin(j.now, later)
		if may = j.running() && !j.now.Before(j.free); may {
			j.begun, j.free = true, later
			j.open++
		}
	case "done":
		if j.state == "switch" && j.begun && rapid.Bool().Draw(t, "retire later") {
			j.r.RetireAfter = j.now.Add(5 * time.Minute)
		}
		next, err = j.r.Done(j.now, "text")
		may = j.running() && j.begun
		j.done(may)
	case "again":
		next, err = j.r.Again(later, "busy")
		if may = j.running() && j.begun; may {
			j.free, j.open, j.asked = later, 0, true
			next.AskedAt = j.now
		}
	case "fail":
		next, err = j.r.Fail(j.now, "broken")
		may = j.begun && (j.state == "check" || !j.oneWay && slices.Contains([]string{"prepare", "switch", "verify"}, j.state))
		if may != j.r.MayFail() {
			t.Fatalf("MayFail is %v at %s", j.r.MayFail(), j.state)
		}
		j.fail(may)
	case "resume":
		next, err = j.r.Resume(j.now, later, "gone")
		if may = j.begun && j.state == "undo"; may {
			j.past = append(j.past, "undo impossible")
			j.oneWay = true
			j.to("verify", later)
		}
	}
	if may != (err == nil) || err != nil && cred.KindOf(err) != cred.Conflict {
		t.Fatalf("the model allows it: %v; it ended with %v", may, err)
	}
	if err == nil {
		j.r = next
	}
}

func (j *journal) to(state string, at time.Time) {
	j.state, j.begun, j.free, j.open, j.asked = state, false, at, 0, false
}

func (j *journal) done(may bool) {
	if !may {
		return
	}
	j.past = append(j.past, j.state+" done")
	if j.state == "undo" {
		j.to("failed", time.Time{})
		return
	}
	j.proven = j.state == "verify" || j.proven && j.state != "switch"
	at := j.now
	if j.state == "drain" && j.r.RetireAfter.After(at) {
		at = j.r.RetireAfter
	}
	j.to(order[slices.Index(order, j.state)+1], at)
}

func (j *journal) fail(may bool) {
	if !may {
		return
	}
	j.past = append(j.past, j.state+" failed")
	if j.state == "check" {
		j.to("failed", time.Time{})
		return
	}
	j.to("undo", j.now)
}

// check holds the rotation, as the store gives it back, against the model.
func (j *journal) check(t *rapid.T) {
	j.r.Notes = map[string]cred.Secret{"note": cred.SecretString("n")}
	if j.r.Over() {
		j.r.Notes = nil
	}
	text, err := j.r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := cred.DecodeRotation(text.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(j.r, r, cmp.AllowUnexported(cred.Rotation{}), cmpopts.EquateEmpty(), cmp.Comparer(func(a, b cred.Secret) bool { return a.RevealString() == b.RevealString() })); diff != "" {
		t.Fatalf("stored and read (-in +out):\n%s", diff)
	}
	want, step := j.state, ""
	if j.running() {
		want, step = "running", j.state
	}
	if string(r.State()) != want || string(r.Step()) != step || r.OneWay != j.oneWay || r.Over() != slices.Contains([]string{"refused", "failed", "done"}, j.state) {
		t.Fatalf("it is %s at %q, one way %v, want %s", r.State(), r.Step(), r.OneWay, j.state)
	}
	if step != "" && (!r.NextAt.Equal(j.free) || j.begun != (r.Attempt > 0) || j.begun == r.BegunAt.IsZero()) {
		t.Fatalf("the step is due at %v, begun %d times, want %v", r.NextAt, r.Attempt, j.free)
	}
	if r.Open != j.open || r.AskedAt.IsZero() == j.asked {
		t.Fatalf("it was begun %d times without an outcome, and asked for at %v, want %d and %v", r.Open, r.AskedAt, j.open, j.asked)
	}
	var past []string
	for _, p := range r.Past {
		past = append(past, string(p.Step)+" "+string(p.Outcome))
		if p.Attempts < 1 || p.BegunAt.IsZero() || p.EndedAt.Before(p.BegunAt) {
			t.Fatalf("the record %+v", p)
		}
	}
	if !slices.Equal(past, j.past) {
		t.Fatalf("it remembers %q, want %q", past, j.past)
	}
	if r.State() == cred.RotationDone && (!j.proven || r.SwitchedAt.IsZero()) || r.Step() == cred.StepRetire && !j.proven {
		t.Fatal("the old root goes before the new one is proven")
	}
	if (r.Step() == cred.StepVerify || r.OneWay) && r.SwitchedAt.IsZero() || r.Over() && r.EndedAt.IsZero() {
		t.Fatalf("times are missing: %+v", r)
	}
}

// A copy of a rotation does not change when the other one goes on.
func TestRotationIsAValue(t *testing.T) {
	r := cred.NewRotation("rot_1", "root", eve, "why", "", instant)
	var kept []cred.Rotation
	for range 5 {
		var err error
		if r, err = r.Begin(r.NextAt, r.NextAt); err != nil {
			t.Fatal(err)
		}
		if r, err = r.Done(r.NextAt, ""); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, r)
	}
	for i, k := range kept {
		other, err := k.Begin(k.NextAt, k.NextAt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Done(k.NextAt, "another"); err != nil {
			t.Fatal(err)
		}
		if i > 0 && len(k.Past) != i+1 || slices.ContainsFunc(r.Past, func(p cred.RotationRecord) bool { return p.Text == "another" }) {
			t.Errorf("records leak from copy to copy: %+v", r.Past)
		}
	}
}

func TestDecodeRotationRefuses(t *testing.T) {
	for _, text := range []string{
		`{`, `{"state":"running"}`, `{"state":"running","step":"dance"}`, `{"state":"done","step":"check"}`, `{"state":"lost"}`, `{}`,
	} {
		if _, err := cred.DecodeRotation([]byte(text)); err == nil {
			t.Errorf("%s is a rotation", text)
		}
	}
}

func TestRotationSteps(t *testing.T) {
	steps := cred.RotationSteps()
	steps[0] = "changed"
	if cred.RotationSteps()[0] != cred.StepCheck || len(steps) != 6 {
		t.Errorf("steps %v", cred.RotationSteps())
	}
	if id := cred.NewRotationID(instant); len(id) != 30 || id[:4] != "rot_" {
		t.Errorf("id %q", id)
	}
}
