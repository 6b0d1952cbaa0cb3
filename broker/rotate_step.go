package broker

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"
	"unicode"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// claim is a step that is ours to do until its rotation's NextAt.
type claim struct {
	cred.Rotation
	root  Root
	known bool      // the root is configured
	until time.Time // by the machine's clock: when an act has to be over, so that its outcome is written while the step is ours
}

// claimStep records that a step is about to be done here, if it is due and nobody else does it. The
// first time it is the intent, which the log has before the source is asked for a change.
func (b *Broker) claimStep(ctx context.Context, id cred.RotationID) (c claim, ok bool, err error) {
	until := time.Now().Add(b.actTimeout()) // before the claim is made, which may take a while
	var end ending                          // of the claims before, which had none of their own
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		ok = false
		r, err := getRotation(tx, id)
		if err != nil {
			return err
		}
		now := b.now()
		if r.State() != cred.RotationRunning || now.Before(r.NextAt) {
			return nil
		}
		c = claim{Rotation: r, until: until}
		c.root, c.known = b.root(r.Root)
		if end = unanswered(r); end.alarm != "" {
			if err := b.recordStep(ctx, tx, c, answer{err: errUnanswered}, end, now); err != nil {
				return err
			}
		}
		if c.Rotation, err = end.next.Begin(now, now.Add(b.claimFor(r))); err != nil {
			return err
		}
		if err := putRotation(tx, c.Rotation); err != nil {
			return err
		}
		c.Rev++
		ok = true
		if c.Attempt > 1 || !actsAtSource(c.Step()) {
			return nil
		}
		return tx.Append(rotationEvent(ctx, c.root, c.Rotation, string(c.Step()), outcomeBegun, now, nil))
	})
	if err != nil {
		return c, false, notRecorded(err)
	}
	if ok && end.alarm != "" {
		b.tell(ctx, c, answer{err: errUnanswered}, end)
	}
	b.rotations.changed(cred.GrantID(id))
	return c, ok, nil
}

// actsAtSource reports whether a step does something that the log has to know of beforehand: Check and
// Verify may mint a trial credential, the others change the root. What a drain ends has entries of its own.
func actsAtSource(step cred.RotationStep) bool { return step != cred.StepDrain }

// answer is what came of a step.
type answer struct {
	rotation issuer.Rotation // as the rotator left it; without an ID: it said nothing
	findings []cred.Finding
	detail   map[string]any // for the log
	text     string         // for people
	err      error
}

// Bounds of what is kept of an answer, in bytes: an entry of the log has to hold it.
const (
	maxFindings    = 32
	maxFindingName = 128
	maxFindingText = 512
	maxWhy         = 1 << 10
	maxRootName    = 512
)

// bounded is an answer of which an entry can tell. What is cut is text for people: a source's name of a
// root stays whole in the journal.
func (a answer) bounded() answer {
	var findings []cred.Finding
	for _, f := range a.findings[:min(len(a.findings), maxFindings)] {
		f.Name, f.Text = inOneLine(f.Name, maxFindingName), inOneLine(f.Text, maxFindingText)
		findings = append(findings, f)
	}
	a.findings, a.text = findings, inOneLine(a.text, maxWhy)
	if e, ours := errors.AsType[*cred.Error](a.err); ours && len(e.Public) > maxWhy {
		short := *e
		short.Public, short.Err = inOneLine(e.Public, maxWhy), a.err
		a.err = &short
	}
	return a
}

// inOneLine is a text of at most so many bytes without line breaks and other control characters.
func inOneLine(text string, most int) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, cut(text, most))
}

// actTimeout is how long a claim and its act may take. What is left of the claim is for the outcome.
func (b *Broker) actTimeout() time.Duration { return b.cfg.RotateTimeout * 3 / 4 }

var errRootGone = &cred.Error{
	Kind: cred.Unavailable, Op: "rotation", Reason: "ROOT_UNKNOWN",
	Public: "the root is not configured any more, and its rotation stands half-way; configure it again until it is over",
}

// act does a step. One that acts at the source has its own time and goes on while the broker stops, which
// waits for it: a source that is hung up on may stop half-way, with a root that nobody knows.
func (b *Broker) act(ctx context.Context, c claim) (a answer) {
	if !c.known {
		return answer{err: errRootGone}
	}
	if actsAtSource(c.Step()) {
		defer b.tellWhenAwaited(ctx, c)()
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithDeadline(ctx, c.until)
	defer cancel()
	at, r := c.atSource(), c.root.Rotator
	switch c.Step() {
	case cred.StepCheck:
		return b.check(ctx, c)
	case cred.StepPrepare:
		a.rotation, a.err = r.Prepare(ctx, at)
	case cred.StepSwitch:
		a.rotation, a.err = r.Switch(ctx, at)
	case cred.StepVerify:
		a.err = r.Verify(ctx, at)
	case cred.StepDrain:
		return b.drain(ctx, c)
	case cred.StepRetire:
		a.rotation, a.err = r.Retire(ctx, at)
	case cred.StepUndo:
		a.err = r.Undo(ctx, at)
	}
	return a
}

// atSource is what a rotator is told of the rotation.
func (c claim) atSource() issuer.Rotation {
	return issuer.Rotation{
		ID: string(c.ID), Attempt: c.Attempt, Began: c.BegunAt, Old: c.Old, New: c.New, Notes: maps.Clone(c.Notes), RetireAfter: c.RetireAfter,
	}
}

// concludeStep writes what came of a step, with its entries, in one transaction. Where it can't be
// written, or somebody else has taken the step over meanwhile, the step counts as one whose outcome
// nobody knows, and is begun again. It reports whether the next step may be due now.
func (b *Broker) concludeStep(ctx context.Context, c claim, a answer) (on bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.RotateTimeout/4)
	defer cancel()
	now := b.now()
	a = a.bounded()
	foreseen, err := b.ending(ctx, c, a, now)
	if err != nil {
		return false, err
	}
	var end ending
	taken := false
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		current, err := getRotation(tx, c.ID)
		if err != nil {
			return err
		}
		if err := b.raiseStepAlarm(ctx, tx, c, a.err, now); err != nil {
			return err
		}
		if taken = current.Rev != c.Rev; taken {
			return nil
		}
		if end, err = b.afterCheck(tx, c, foreseen, now); err != nil {
			return err
		}
		if err := putRotation(tx, end.next); err != nil {
			return err
		}
		if err := b.recordStep(ctx, tx, c, a, end, now); err != nil || !end.next.Over() {
			return err
		}
		return b.endRotationGrant(ctx, tx, end.next)
	})
	b.tellStepAlarmLost(ctx, c, a.err, err)
	if err != nil {
		return false, notRecorded(err)
	}
	if taken {
		b.cfg.Logger.InfoContext(ctx, "somebody else has taken over a step of a rotation", "rotation", c.ID, "step", c.Step())
		return false, nil
	}
	b.tell(ctx, c, a, end)
	b.rotations.changed(cred.GrantID(c.ID))
	if end.next.Over() && end.next.Grant != "" {
		b.waiters.changed(end.next.Grant)
	}
	return !end.next.Over() && !b.now().Before(end.next.NextAt), nil
}

// recordStep writes the entries of what came of a step, and has people told.
func (b *Broker) recordStep(ctx context.Context, tx store.Tx, c claim, a answer, end ending, now time.Time) error {
	for _, outcome := range end.outcomes {
		if err := tx.Append(end.event(ctx, c, a, outcome, now)); err != nil {
			return err
		}
	}
	return b.notifyRotation(tx, c, end, now)
}

// ending is what a step's answer leads to, with the receipt where that is the end.
func (b *Broker) ending(ctx context.Context, c claim, a answer, now time.Time) (ending, error) {
	r := c.Rotation
	if a.rotation.ID == string(r.ID) {
		r.Old, r.New, r.Notes, r.RetireAfter = a.rotation.Old, a.rotation.New, a.rotation.Notes, a.rotation.RetireAfter.UTC().Truncate(time.Millisecond)
	}
	if a.findings != nil {
		r.Findings = a.findings
	}
	end, err := endOf(r, a, now)
	if err != nil || end.next.State() != cred.RotationDone {
		return end, err
	}
	g, err := b.approvalOf(ctx, r)
	if err != nil {
		return end, err
	}
	if end.next.Receipt, err = b.cfg.Sign(receipt(end.next, g)); err != nil {
		a.err = cred.Errorf(cred.Unavailable, "rotation.receipt", "the old root is gone, and the receipt of that could not be signed yet", "%w", err)
		return endOf(r, a, now)
	}
	return end, nil
}

// ending is where a rotation stands after an answer, and what is to be told of that.
type ending struct {
	next     cred.Rotation
	outcomes []string // of the step, for the log; none: it is tried again
	alarm    string   // what people are told that does not get on; empty: nothing
	ask      string   // what people are told that a person is to do; empty: nothing
}

// Times of rotations.
const (
	checkFor   = time.Hour        // how long a check is tried whose source does not answer; nothing has been changed
	stuckAfter = 15 * time.Minute // how long a step may fail before people are told
	stuckRetry = 10 * time.Minute // between tries at what does not help by itself
	waitRetry  = 30 * time.Second // between looks at what is waited for
	askAgain   = 24 * time.Hour   // between reminders of what waits for a person
	waitsLong  = 24 * time.Hour   // how long a step may wait for time before people are told
)

// endOf decides what an answer leads to, as the contract of issuer.Rotator has it.
func endOf(r cred.Rotation, a answer, now time.Time) (end ending, err error) {
	kind, why, age := kindOfAct(a.err), cred.PublicText(a.err), now.Sub(r.BegunAt)
	switch {
	case a.err == nil:
		end.outcomes = []string{string(cred.StepDone)}
		end.next, err = r.Done(now, a.text)
		return end, err
	case kind == cred.Pending:
		end.next, err = r.Again(now.Add(lookAgain(a.err)), why)
		switch {
		case issuer.WaitsForPerson(a.err):
			end.asked(why, now)
		case r.Step() != cred.StepDrain && age >= waitsLong: // what a drain waits for has a known end
			end.alarmed("it has waited for " + waitsLong.String() + ": " + why)
		}
		return end, err
	case kind == cred.Unavailable && r.Step() == cred.StepCheck && age >= checkFor:
		why = "the check before got no answer for " + checkFor.String() + ", and nothing was changed: " + why
		fallthrough
	case kind != cred.Unavailable && r.MayFail():
		end.outcomes = []string{string(cred.StepFailed)}
		end.next, err = r.Fail(now, why)
		return end, err
	case kind == cred.Unavailable:
		end.next, err = r.Again(now.Add(spacing(a.err, backoff(r.Attempt))), why)
		if age >= stuckAfter {
			end.alarmed(why)
		}
		return end, err
	case kind == cred.Invalid && r.Step() == cred.StepUndo:
		end.outcomes = []string{string(cred.StepImpossible)}
		end.next, err = r.Resume(now, now, why)
		end.alarmed("the new root could not be verified, and there is no way back to the old one: " + why)
		return end, err
	}
	end.next, err = r.Again(now.Add(spacing(a.err, stuckRetry)), why)
	end.alarmed(why)
	return end, err
}

// alarmed notes that people have to be told, once for each step.
func (e *ending) alarmed(why string) {
	if e.next.Alarmed {
		return
	}
	e.next.Alarmed, e.alarm = true, why
	e.outcomes = append(e.outcomes, outcomeStuck)
}

// asked notes that people have to be told of what waits for them: when it begins to, and each day while it
// does. The log has the first.
func (e *ending) asked(ask string, now time.Time) {
	if at := e.next.AskedAt; !at.IsZero() && now.Before(at.Add(askAgain)) {
		return
	}
	if e.next.AskedAt.IsZero() {
		e.outcomes = append(e.outcomes, outcomeWaits)
	}
	e.next.AskedAt, e.ask = now, ask
}

// kindOfAct is the kind of an act's error. One that is not of the contract's type promises nothing.
func kindOfAct(err error) cred.Kind {
	if _, ours := errors.AsType[*cred.Error](err); !ours {
		return cred.Unavailable
	}
	return cred.KindOf(err)
}

// backoff spaces the tries at a source that does not answer: 5 s at first, 5 min at the most.
func backoff(attempt int) time.Duration {
	return min(5*time.Second<<min(attempt-1, 10), 5*time.Minute)
}

// lookAgain is how long until the next look at what is waited for: what the source says, from a second to
// an hour, or else the usual.
func lookAgain(err error) time.Duration {
	asked, said := cred.RetryAfter(err)
	if !said {
		return waitRetry
	}
	return min(max(asked, time.Second), time.Hour)
}

// spacing is how long until the next try: what the source asks for, at least the usual, at most an hour.
func spacing(err error, usual time.Duration) time.Duration {
	asked, _ := cred.RetryAfter(err)
	return max(min(asked, time.Hour), usual)
}
