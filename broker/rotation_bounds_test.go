package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Of two rotations of one issuer that are checked at the same time one goes on, and the other waits, even
// if neither saw the other when it looked.
func TestRotationsOfOneIssuerNeverMeet(t *testing.T) {
	w := newRotating(t)
	ctx := t.Context()
	second := newFakeRoot()
	w.roots = append(w.roots, Root{Name: "late-root", Rotator: second, Issuer: "vault"})
	byTwo(&w.roots[1])
	w.start()
	late, err := w.Rotate(ctx, as(askingLead), "late-root", "") // the earlier one, which is approved later
	w.must(err)
	w.clock.advance(time.Second)
	early := w.begin()
	first, ok, err := w.claimStep(ctx, early.ID)
	if err != nil || !ok {
		t.Fatalf("claim: %v, %v", ok, err)
	}
	answered := w.act(ctx, first) // it saw nothing but a request
	g := w.grantOf(late)
	for _, who := range []cred.Principal{lead, both} {
		_, err := w.review(who, g, true)
		w.must(err)
	}
	if _, err := w.stepRotation(ctx, late.ID); err != nil {
		t.Fatal(err)
	}
	if got := w.get(late.ID); got.Step() != cred.StepPrepare {
		t.Fatalf("the one that was asked for first is at %s (%s)", got.Step(), got.Why)
	}
	on, err := w.concludeStep(ctx, first, answered)
	if got := w.get(early.ID); on || err != nil || got.Step() != cred.StepCheck || !strings.Contains(got.Why, string(late.ID)) {
		t.Errorf("the other one is at %s (%s), %v", got.Step(), got.Why, err)
	}
	w.wantEnd(w.finish(late.ID), cred.RotationDone)
	w.wantEnd(w.finish(early.ID), cred.RotationDone)
	w.wantSteps(early.ID, goodSteps...)
}

// timedRoot notes until when an act may run.
type timedRoot struct {
	*fakeRoot
	until time.Time
}

func (r *timedRoot) Prepare(ctx context.Context, rot issuer.Rotation) (issuer.Rotation, error) {
	r.until, _ = ctx.Deadline()
	return r.fakeRoot.Prepare(ctx, rot)
}

// An act may run for no longer than its claim holds, however late it begins: a process that was held up
// in between must not meet the one that has taken over.
func TestRotationActKeepsWithinItsClaim(t *testing.T) {
	timed := &timedRoot{}
	w := newRotating(t, func(r *Root) { timed.fakeRoot, r.Rotator = r.Rotator.(*fakeRoot), timed })
	id := w.begin().ID
	if _, err := w.stepRotation(t.Context(), id); err != nil { // the check
		t.Fatal(err)
	}
	c, ok, err := w.claimStep(t.Context(), id)
	if err != nil || !ok {
		t.Fatalf("claim: %v, %v", ok, err)
	}
	claimed := time.Now()
	if a := w.act(t.Context(), c); a.err != nil {
		t.Fatal(a.err)
	}
	if latest := claimed.Add(w.actTimeout()); timed.until.IsZero() || timed.until.After(latest) {
		t.Errorf("it may act until %v, and its claim was made for acts until %v", timed.until, latest)
	}
}

// talkingRoot says more than any entry of the log holds.
type talkingRoot struct{ *fakeRoot }

var longText = strings.Repeat("\x01\"long\\", 20_000)

func (r talkingRoot) Check(ctx context.Context, rot issuer.Rotation) ([]cred.Finding, error) {
	findings, err := r.fakeRoot.Check(ctx, rot)
	for n := range 500 {
		findings = append(findings, cred.Finding{Name: fmt.Sprint("finding ", n, longText), OK: true, Text: longText})
	}
	return findings, err
}

func (r talkingRoot) Prepare(ctx context.Context, rot issuer.Rotation) (issuer.Rotation, error) {
	rot, err := r.fakeRoot.Prepare(ctx, rot)
	rot.Old, rot.New = longText, "key-2"
	return rot, err
}

func (r talkingRoot) Verify(context.Context, issuer.Rotation) error {
	return cred.Errorf(cred.Denied, "fake.verify", longText, "no login")
}

// Whatever a source says, its rotation comes to its end.
func TestRotationOfASourceThatTalks(t *testing.T) {
	w := newRotating(t, func(r *Root) { r.Rotator = talkingRoot{r.Rotator.(*fakeRoot)} })
	rot := w.finish(w.begin().ID)
	w.wantEnd(rot, cred.RotationFailed)
	if !strings.Contains(rot.Why, `"long`) || len(rot.Why) > 2<<10 {
		t.Errorf("why has %d bytes: %.40q", len(rot.Why), rot.Why)
	}
	for _, f := range rot.Findings {
		if len(f.Name)+len(f.Text) > 2<<10 {
			t.Errorf("a finding has %d and %d bytes", len(f.Name), len(f.Text))
		}
	}
	for _, e := range w.eventsOf(audit.RotationStep) {
		if e.Rotation.Step == string(cred.StepCheck) && e.Detail["outcome"] != outcomeBegun && e.Detail["findings"] == nil {
			t.Error("the entry of the check has no findings")
		}
	}
}
