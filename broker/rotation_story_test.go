package broker

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// TestRotationStories rotates a root with failures of the source and of the store, with processes that
// die at any step, in any order. At each moment a root works, or people know, or the rotation is about to
// find out; the log has each step once, in an order that makes sense; and when the failures are over
// each rotation ends.
func TestRotationStories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "daypass")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c := &clock{at: noon}
		w := buildWorld(t, dir, c.now)
		w.clock = c
		defer func() { _ = w.disk.Close() }()
		approval := rapid.Bool().Draw(t, "approval")
		r := withRoots(w, func(root *Root) {
			if approval {
				byTwo(root)
			}
		})
		s := &rotationStory{r, t}
		r.root.single = rapid.Bool().Draw(t, "one root at a time")
		for range rapid.IntRange(1, 30).Draw(t, "length") {
			if do := s.draw(); !s.process.run(do) || s.process.dead.Load() {
				s.start()
			}
			s.check()
		}
		s.end()
	})
}

type rotationStory struct {
	*rotating
	t *rapid.T
}

func (s *rotationStory) draw() func() {
	ctx := context.Background()
	switch rapid.IntRange(0, 9).Draw(s.t, "step") {
	case 0, 1:
		return func() { _, _ = s.Rotate(ctx, as(askingLead), "db-root", "") }
	case 2:
		who := rapid.SampledFrom([]cred.Principal{lead, both, askingLead, nosy}).Draw(s.t, "who")
		approve := rapid.IntRange(0, 5).Draw(s.t, "verdict") > 0
		return func() { s.judge(who, approve) }
	case 3, 4, 5:
		return func() { _ = s.AdvanceRotations(ctx) }
	case 6:
		d := rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second, 2 * time.Minute, 15 * time.Minute}).Draw(s.t, "advance")
		return func() { s.clock.advance(d) }
	case 7:
		steps := rapid.Int64Range(0, 30).Draw(s.t, "dies after")
		return func() { s.process.left.Store(steps) }
	case 8:
		broken := rapid.Bool().Draw(s.t, "broken")
		if !broken {
			return func() { s.root.set(func() { s.root.broken = false }) }
		}
		return func() { s.breakNew() }
	default:
		return s.fault()
	}
}

// breakNew lets the new root fail to work; once it is proven it does not break by itself any more.
func (s *rotationStory) breakNew() {
	for _, rot := range s.all() {
		if !rot.Over() && (rot.Step() == cred.StepDrain || rot.Step() == cred.StepRetire) {
			return
		}
	}
	s.root.set(func() { s.root.broken = s.root.broken || s.root.inUse == "old" })
}

// judge gives a verdict on what waits.
func (s *rotationStory) judge(who cred.Principal, approve bool) {
	for _, rot := range s.all() {
		if rot.State() == cred.RotationPending {
			_, _ = s.Review(context.Background(), s.signedIn(who), rot.Grant, s.grantOf(rot).Digest, cred.Verdict{Approve: approve})
		}
	}
}

func (s *rotationStory) fault() func() {
	f := rapid.SampledFrom([]fault{notDone, doneLost, doneOddly, refusedOff, waits}).Draw(s.t, "fault")
	act := rapid.SampledFrom([]string{"check", "prepare", "switch", "verify", "retire", "undo", "store"}).Draw(s.t, "act")
	before := rapid.IntRange(0, 6).Draw(s.t, "writes before it")
	return func() {
		switch {
		case act != "store":
			s.root.plan(act, f)
		case f == notDone || f == doneLost:
			s.store.plan(append(slices.Repeat([]fault{works}, before), f)...)
		}
	}
}

// all returns the rotations, read behind the back of the process that may be about to die.
func (s *rotationStory) all() []cred.Rotation {
	var all []cred.Rotation
	s.must(s.sealed.View(context.Background(), func(tx store.Tx) error {
		for r, err := range pastRotations(tx) {
			s.must(err)
			all = append(all, r)
		}
		return nil
	}))
	return all
}

func (s *rotationStory) check() {
	s.t.Helper()
	if wrong := s.root.mistakes(); len(wrong) > 0 {
		s.t.Fatalf("at the source: %q", wrong)
	}
	open := 0
	works := s.root.works()
	for _, rot := range s.all() {
		s.order(rot)
		if rot.Over() {
			continue
		}
		open++
		finding := slices.Contains([]cred.RotationStep{cred.StepSwitch, cred.StepVerify, cred.StepUndo}, rot.Step())
		works = works || rot.Alarmed || finding
		if rot.Alarmed && len(s.told(notice.RotationStuck)) == 0 {
			s.t.Fatal("an alarm that nobody got")
		}
		if !rot.AskedAt.IsZero() && len(s.told(notice.RotationWaits)) == 0 {
			s.t.Fatal("it waits for people who were not told")
		}
		if rot.Open > maxUnanswered && !rot.Alarmed {
			s.t.Fatalf("the step %s was begun %d times without an outcome, and nobody knows", rot.Step(), rot.Open)
		}
	}
	if !works || open > 1 {
		s.t.Fatalf("the root in use does not work, and nobody knows; %d rotations are open", open)
	}
	s.replay()
}

// order holds the entries of a rotation against its journal.
func (s *rotationStory) order(rot cred.Rotation) {
	var journal, log []string
	for _, p := range rot.Past {
		journal = append(journal, fmt.Sprintf("%s %s", p.Step, p.Outcome))
	}
	begun := map[string]bool{}
	for _, step := range s.steps(rot.ID) {
		name, outcome, _ := strings.Cut(step, " ")
		switch outcome {
		case "done", "failed", "impossible":
			if actsAtSource(cred.RotationStep(name)) && !begun[name] {
				s.t.Fatalf("%q is in the log without its intent", step)
			}
			log = append(log, step)
			begun[name] = false
		case "begun":
			if begun[name] {
				s.t.Fatalf("%q is in the log twice", step)
			}
			begun[name] = true
		}
	}
	if !slices.Equal(journal, log) {
		s.t.Fatalf("the log has %q, the journal %q", log, journal)
	}
	if rot.Grant != "" && rot.State() != cred.RotationPending && rot.State() != cred.RotationRefused {
		s.agreed(rot)
	}
}

// agreed wants the approval of two people, none of whom asked, for a rotation that began.
func (s *rotationStory) agreed(rot cred.Rotation) {
	by := map[string]bool{}
	for _, a := range s.grantOf(rot).Approvals {
		by[a.By.Subject] = a.Verdict.Approve
	}
	if !by["lead"] || !by["both"] || by["asking"] {
		s.t.Fatalf("it began with the approval of %v", by)
	}
	used := 0
	for _, e := range s.eventsOf(audit.ExchangeGranted) {
		if e.Grant == rot.Grant {
			used++
		}
	}
	if used != 1 {
		s.t.Fatalf("its approval was used %d times", used)
	}
}

// end ends all failures and lets time pass.
func (s *rotationStory) end() {
	s.root.set(func() { s.root.next, s.root.broken = map[string][]fault{}, false })
	s.start()
	for range 12 {
		s.clock.advance(11 * time.Minute)
		s.must(s.Sweep(context.Background()))
		s.must(s.AdvanceRotations(context.Background()))
		s.check()
	}
	for _, rot := range s.all() {
		if !rot.Over() {
			s.t.Fatalf("a rotation is %s at %q when all is well: %s", rot.State(), rot.Step(), rot.Why)
		}
		if rot.Grant != "" && !s.grantOf(rot).Over() {
			s.t.Fatalf("the grant of a rotation that is over is %s", s.grantOf(rot).State())
		}
		if (rot.State() == cred.RotationDone) != (rot.Receipt != "") {
			s.t.Fatalf("it is %s, and its receipt %q", rot.State(), rot.Receipt)
		}
	}
	if !s.root.works() {
		s.t.Fatal("in the end no root works")
	}
}
