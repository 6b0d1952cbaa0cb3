package cred

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// RotationID identifies a rotation: "rot_" and 26 characters that sort by time of creation.
type RotationID string

// NewRotationID returns a fresh RotationID for an instant.
func NewRotationID(now time.Time) RotationID { return RotationID("rot_" + newID(now)) }

// RotationState is where a rotation stands. Only the methods of Rotation change it.
type RotationState string

// The states of a rotation. Refused, Failed and Done are final.
const (
	RotationPending RotationState = "pending" // waits for approval
	RotationRunning RotationState = "running" // one step after the other is done
	RotationRefused RotationState = "refused" // nobody agreed in time, or somebody refused
	RotationFailed  RotationState = "failed"  // given up; the old root is in use
	RotationDone    RotationState = "done"    // the new root is in use and proven, the old one is gone
)

// RotationStep is one step of a running rotation.
type RotationStep string

// The steps, in their order; Undo takes the place of what is left where an earlier one fails.
const (
	StepCheck   RotationStep = "check"   // look whether it can succeed
	StepPrepare RotationStep = "prepare" // make the next root
	StepSwitch  RotationStep = "switch"  // put it into use
	StepVerify  RotationStep = "verify"  // mint and use a fresh credential
	StepDrain   RotationStep = "drain"   // wait for, or revoke, what the old root minted
	StepRetire  RotationStep = "retire"  // end the old root
	StepUndo    RotationStep = "undo"    // put the old root back into use
)

var rotationSteps = []RotationStep{StepCheck, StepPrepare, StepSwitch, StepVerify, StepDrain, StepRetire}

// RotationSteps returns the steps of a rotation that succeeds, in their order.
func RotationSteps() []RotationStep { return slices.Clone(rotationSteps) }

// Finding is one thing that was looked at before a rotation.
type Finding struct {
	Name string `json:"name"` // of the check, such as "one access key"
	OK   bool   `json:"ok"`   // false forbids the rotation
	// Open says that nobody could look, which forbids nothing; Text says what to look at by hand.
	Open bool   `json:"open,omitempty"`
	Text string `json:"text"` // what was found, for people: no secrets
}

// RotationRecord tells of one step that is over.
type RotationRecord struct {
	Step     RotationStep    `json:"step"`
	Outcome  RotationOutcome `json:"outcome"`
	BegunAt  time.Time       `json:"begun_at"`
	EndedAt  time.Time       `json:"ended_at"`
	Attempts int             `json:"attempts"`
	Text     string          `json:"text,omitempty"` // why it failed, or what it found, for people
}

// RotationOutcome is how a step ended.
type RotationOutcome string

// The outcomes of a step.
const (
	StepDone       RotationOutcome = "done"
	StepFailed     RotationOutcome = "failed"     // it can't succeed
	StepImpossible RotationOutcome = "impossible" // of Undo: the old root is no more
)

// Rotation is the journal of one replacement of a root credential by another.
//
// It is a value; its methods return the changed copy, or a Conflict where the state does not allow the
// change.
type Rotation struct {
	ID          RotationID
	Root        string    // the name of the root in the configuration
	By          Principal // who asked
	Reason      string
	Grant       GrantID // the request for its approval; empty where it needs none
	CreatedAt   time.Time
	BegunAt     time.Time // when Step first began; zero: not yet
	Attempt     int       // how often Step has begun
	Open        int       // how often Step has begun since it last had an outcome
	NextAt      time.Time // when Step is due, or tried again
	Why         string    // why it waits, is being undone or ended, for people
	Alarmed     bool      // people have been told that Step does not get on
	AskedAt     time.Time // when people were last told that Step waits for them; zero: not yet
	OneWay      bool      // the old root is no more: nothing is undone, the new one has to work
	Findings    []Finding // of Check
	Old, New    string    // how people know the roots; no secrets
	Notes       map[string]Secret
	SwitchedAt  time.Time
	RetireAfter time.Time // zero: at once
	EndedAt     time.Time
	Receipt     string           // the signed note, once it is done
	Past        []RotationRecord // the steps that are over, in their order

	state RotationState // owner: the methods below
	step  RotationStep  // owner: the methods below; the one that is done next, empty unless running
	Rev   uint64        // owner: the store; zero for a rotation not yet stored
}

// NewRotation returns a rotation that begins at once, or where grant is set once that is approved.
func NewRotation(id RotationID, root string, by Principal, reason string, grant GrantID, now time.Time) Rotation {
	r := Rotation{ID: id, Root: root, By: by, Reason: reason, Grant: grant, CreatedAt: now, NextAt: now, state: RotationPending}
	if grant == "" {
		r.state, r.step = RotationRunning, StepCheck
	}
	return r
}

// State returns where the rotation stands.
func (r Rotation) State() RotationState { return r.state }

// Step returns what is done next, empty for a rotation that does not run.
func (r Rotation) Step() RotationStep { return r.step }

// Over reports whether the rotation can change no more.
func (r Rotation) Over() bool {
	return r.state == RotationRefused || r.state == RotationFailed || r.state == RotationDone
}

// Start has a rotation whose request was approved begin at an instant; why says what it waits for until
// then.
func (r Rotation) Start(at time.Time, why string) (Rotation, error) {
	if r.state != RotationPending {
		return r, transitionError("rotation", string(r.state), string(RotationRunning))
	}
	r.state, r.step, r.NextAt, r.Why = RotationRunning, StepCheck, at, why
	return r, nil
}

// Waits reports whether a rotation was started for later, and nothing was done for it yet.
func (r Rotation) Waits(now time.Time) bool {
	return r.state == RotationRunning && r.step == StepCheck && r.BegunAt.IsZero() && now.Before(r.NextAt)
}

// Hurry has a rotation that waits begin now.
func (r Rotation) Hurry(now time.Time) (Rotation, error) {
	if !r.Waits(now) {
		return r, transitionError("rotation", string(r.state), "hurried")
	}
	r.NextAt, r.Why = now, ""
	return r, nil
}

// Refuse ends a rotation that nobody approved.
func (r Rotation) Refuse(now time.Time, why string) (Rotation, error) {
	if r.state != RotationPending {
		return r, transitionError("rotation", string(r.state), string(RotationRefused))
	}
	return r.end(RotationRefused, now, why), nil
}

// Begin records that the next step is about to be done by somebody who has until an instant for it;
// nobody else does it before then.
func (r Rotation) Begin(now, until time.Time) (Rotation, error) {
	if r.state != RotationRunning || now.Before(r.NextAt) {
		return r, transitionError("rotation", string(r.state), "begun")
	}
	if r.Attempt == 0 {
		r.BegunAt = now
	}
	r.Attempt++
	r.Open++
	r.NextAt = until
	return r, nil
}

// Done records that the step is done, and goes on to the next one; Retire is not due before
// RetireAfter. After the last one the rotation is done; after Undo it has failed, for the reason for
// which the step before it did.
func (r Rotation) Done(now time.Time, text string) (Rotation, error) {
	if r.state != RotationRunning || r.Attempt == 0 {
		return r, transitionError("rotation", string(r.state), "past "+string(r.step))
	}
	r = r.record(StepDone, now, text)
	switch r.step {
	case StepUndo:
		return r.end(RotationFailed, now, r.failure()), nil
	case StepRetire:
		return r.end(RotationDone, now, ""), nil
	case StepDrain:
		if r.RetireAfter.After(now) {
			return r.to(StepRetire, r.RetireAfter, "the old root is kept until "+r.RetireAfter.UTC().Format(time.RFC3339)), nil
		}
	case StepSwitch:
		r.SwitchedAt = now
	}
	return r.to(rotationSteps[slices.Index(rotationSteps, r.step)+1], now, ""), nil
}

// Again records that the step is to be tried again at an instant, and why.
func (r Rotation) Again(at time.Time, why string) (Rotation, error) {
	if r.state != RotationRunning || r.Attempt == 0 {
		return r, transitionError("rotation", string(r.state), "tried again")
	}
	r.NextAt, r.Why, r.Open = at, why, 0
	return r, nil
}

// Fail records that the step can't succeed. Before anything was changed the rotation has failed; where
// something was, it is undone. What comes after Verify is not undone, nor is Undo, nor anything where
// the old root is no more: those steps are only tried again.
func (r Rotation) Fail(now time.Time, why string) (Rotation, error) {
	switch {
	case !r.MayFail():
		return r, transitionError("rotation", string(r.state), string(RotationFailed))
	case r.step == StepCheck:
		return r.record(StepFailed, now, why).end(RotationFailed, now, why), nil
	}
	return r.record(StepFailed, now, why).to(StepUndo, now, why), nil
}

// MayFail reports whether the step that has begun can be given up.
func (r Rotation) MayFail() bool {
	if r.state != RotationRunning || r.Attempt == 0 {
		return false
	}
	return r.step == StepCheck || !r.OneWay && (r.step == StepPrepare || r.step == StepSwitch || r.step == StepVerify)
}

// Resume goes back to Verify from an Undo that the source can't do: whatever root is in use is the
// only one, and there is no way back any more.
func (r Rotation) Resume(now, at time.Time, why string) (Rotation, error) {
	if r.state != RotationRunning || r.step != StepUndo || r.Attempt == 0 {
		return r, transitionError("rotation", string(r.state), string(StepVerify))
	}
	r = r.record(StepImpossible, now, why)
	r.OneWay = true
	if r.SwitchedAt.IsZero() { // it was, and the answer was lost
		r.SwitchedAt = now
	}
	return r.to(StepVerify, at, why), nil
}

// failure is why the rotation is being undone.
func (r Rotation) failure() string {
	for _, past := range slices.Backward(r.Past) {
		if past.Outcome == StepFailed {
			return past.Text
		}
	}
	return r.Why
}

func (r Rotation) record(outcome RotationOutcome, now time.Time, text string) Rotation {
	r.Past = append(slices.Clip(slices.Clone(r.Past)), RotationRecord{r.step, outcome, r.BegunAt, now, r.Attempt, text})
	return r
}

func (r Rotation) to(step RotationStep, at time.Time, why string) Rotation {
	r.step, r.NextAt, r.Why = step, at, why
	r.BegunAt, r.Attempt, r.Open = time.Time{}, 0, 0
	r.Alarmed, r.AskedAt = false, time.Time{}
	return r
}

func (r Rotation) end(state RotationState, now time.Time, why string) Rotation {
	r = r.to("", time.Time{}, why)
	r.state, r.EndedAt, r.Notes = state, now, nil
	return r
}

// rotationWire is how a rotation is stored. It exists because state and step are unexported and the
// notes may be secrets.
type rotationWire struct {
	ID          RotationID        `json:"id"`
	Root        string            `json:"root"`
	By          Principal         `json:"by"`
	Reason      string            `json:"reason,omitempty"`
	Grant       GrantID           `json:"grant,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
	BegunAt     time.Time         `json:"begun_at,omitzero"`
	Attempt     int               `json:"attempt,omitempty"`
	Open        int               `json:"open,omitempty"`
	NextAt      time.Time         `json:"next_at,omitzero"`
	Why         string            `json:"why,omitempty"`
	Alarmed     bool              `json:"alarmed,omitempty"`
	AskedAt     time.Time         `json:"asked_at,omitzero"`
	OneWay      bool              `json:"one_way,omitempty"`
	Findings    []Finding         `json:"findings,omitempty"`
	Old         string            `json:"old,omitempty"`
	New         string            `json:"new,omitempty"`
	Notes       map[string][]byte `json:"notes,omitempty"`
	SwitchedAt  time.Time         `json:"switched_at,omitzero"`
	RetireAfter time.Time         `json:"retire_after,omitzero"`
	EndedAt     time.Time         `json:"ended_at,omitzero"`
	Receipt     string            `json:"receipt,omitempty"`
	Past        []RotationRecord  `json:"past,omitempty"`
	State       RotationState     `json:"state"`
	Step        RotationStep      `json:"step,omitempty"`
}

// Encode writes the rotation with its state and its notes, which may be secrets: for a sealed store
// alone. Rev is the store's.
func (r Rotation) Encode() (Secret, error) {
	w := rotationWire{
		ID: r.ID, Root: r.Root, By: r.By, Reason: r.Reason, Grant: r.Grant, CreatedAt: r.CreatedAt, BegunAt: r.BegunAt,
		Attempt: r.Attempt, Open: r.Open, NextAt: r.NextAt, Why: r.Why, Alarmed: r.Alarmed, AskedAt: r.AskedAt, OneWay: r.OneWay,
		Findings: r.Findings, Old: r.Old, New: r.New,
		SwitchedAt: r.SwitchedAt, RetireAfter: r.RetireAfter, EndedAt: r.EndedAt, Receipt: r.Receipt, Past: r.Past, State: r.state, Step: r.step,
	}
	for name, note := range r.Notes {
		if w.Notes == nil {
			w.Notes = map[string][]byte{}
		}
		w.Notes[name] = note.Reveal()
	}
	text, err := json.Marshal(w)
	return NewSecret(text), err
}

// DecodeRotation reads what Encode wrote and refuses a state or step that does not exist.
func DecodeRotation(text []byte) (Rotation, error) {
	var w rotationWire
	if err := json.Unmarshal(text, &w); err != nil {
		return Rotation{}, err
	}
	running := slices.Contains(rotationSteps, w.Step) || w.Step == StepUndo
	switch {
	case w.State == RotationRunning && running:
	case w.Step != "":
		return Rotation{}, fmt.Errorf("cred: a rotation that is %q has no step %q", w.State, w.Step)
	case !slices.Contains([]RotationState{RotationPending, RotationRefused, RotationFailed, RotationDone}, w.State):
		return Rotation{}, fmt.Errorf("cred: unknown rotation state %q", w.State)
	}
	r := Rotation{
		ID: w.ID, Root: w.Root, By: w.By, Reason: w.Reason, Grant: w.Grant, CreatedAt: w.CreatedAt, BegunAt: w.BegunAt,
		Attempt: w.Attempt, Open: w.Open, NextAt: w.NextAt, Why: w.Why, Alarmed: w.Alarmed, AskedAt: w.AskedAt, OneWay: w.OneWay,
		Findings: w.Findings, Old: w.Old, New: w.New,
		SwitchedAt: w.SwitchedAt, RetireAfter: w.RetireAfter, EndedAt: w.EndedAt, Receipt: w.Receipt, Past: w.Past, state: w.State, step: w.Step,
	}
	for name, note := range w.Notes {
		if r.Notes == nil {
			r.Notes = map[string]Secret{}
		}
		r.Notes[name] = NewSecret(note)
	}
	return r, nil
}
