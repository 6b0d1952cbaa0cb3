package issuertest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// maxActTries bounds how often one act is tried until it has an answer.
const maxActTries = 40

// RotatorHarness describes one rotator to the suite.
type RotatorHarness struct {
	// New returns a fresh rotator that reaches its source at a base URL: Source, or a Front before it.
	New func(t *testing.T, baseURL string) issuer.Rotator
	// Source is the base URL of the source, http only. Empty for a rotator that dials nobody, which is
	// then spared the faults.
	Source string
	// Fresh brings the source, and whoever uses the root, into a state from which a rotation can start.
	// It is called before each rotation; nil where nothing has to be done.
	Fresh func(t *testing.T)
	// Root tells which root is in use: a text that differs for each root, such as a key's ID or a
	// password's hash.
	Root func(ctx context.Context) (string, error)
	// Works uses the root that is in use at its source; an error means that it was refused.
	Works func(ctx context.Context) error
	// Alive counts the roots that the source accepts: one before a rotation and one after it.
	Alive func(ctx context.Context) (int, error)
	// Secrets returns texts that no error, finding or name may hold. It may be nil.
	Secrets func(ctx context.Context) []string
	// NoWayBack declares that Undo after Switch is refused with kind Invalid: the old root is no more.
	NoWayBack bool
}

// TestRotator holds a rotator to the contract of issuer.Rotator.
func TestRotator(t *testing.T, h RotatorHarness) {
	t.Run("check changes nothing", h.testCheck)
	t.Run("whole order", h.testOrder)
	t.Run("each act twice", h.testTwice)
	t.Run("undo", h.testUndo)
	if h.Source != "" {
		t.Run("keeps the deadline", h.testDeadline)
		t.Run("faults", h.testFaults)
	}
}

// act is one call of a Rotator.
type act struct {
	name string
	do   func(context.Context, issuer.Rotator, issuer.Rotation) (issuer.Rotation, error)
}

// The acts in the order in which the broker calls them.
var acts = []act{
	{"check", func(ctx context.Context, x issuer.Rotator, r issuer.Rotation) (issuer.Rotation, error) {
		_, err := x.Check(ctx, r)
		return r, err
	}},
	{"prepare", func(ctx context.Context, x issuer.Rotator, r issuer.Rotation) (issuer.Rotation, error) {
		return x.Prepare(ctx, r)
	}},
	{"switch", func(ctx context.Context, x issuer.Rotator, r issuer.Rotation) (issuer.Rotation, error) {
		return x.Switch(ctx, r)
	}},
	{"verify", func(ctx context.Context, x issuer.Rotator, r issuer.Rotation) (issuer.Rotation, error) {
		return r, x.Verify(ctx, r)
	}},
	{"retire", func(ctx context.Context, x issuer.Rotator, r issuer.Rotation) (issuer.Rotation, error) {
		return x.Retire(ctx, r)
	}},
}

var undo = act{"undo", func(ctx context.Context, x issuer.Rotator, r issuer.Rotation) (issuer.Rotation, error) {
	return r, x.Undo(ctx, r)
}}

// Where the acts stand in their order.
const (
	atCheck = iota
	atPrepare
	atSwitch
	atVerify
	atRetire
)

// state is what a rotation changes at the source.
type state struct {
	root  string
	alive int
}

func (h RotatorHarness) testCheck(t *testing.T) {
	ctx, direct, r, before := h.start(t)
	for range 2 {
		findings, err := direct.Check(ctx, r)
		if err != nil || len(findings) == 0 {
			t.Fatalf("Check: %v with %d findings", err, len(findings))
		}
		for _, f := range findings {
			if f.Name == "" || f.Text == "" || !f.OK {
				t.Errorf("a finding on a good source: %+v", f)
			}
			h.wantNoSecret(t, ctx, f.Name+f.Text)
		}
		h.wantSame(t, ctx, before)
	}
}

// testOrder does each act with a rotator of its own, as a broker does that ends after each of them.
func (h RotatorHarness) testOrder(t *testing.T) {
	ctx, _, r, before := h.start(t)
	id := r.ID
	for n := range acts {
		r = h.done(t, ctx, h.New(t, h.Source), acts[n], r, 1)
		if r.ID != id {
			t.Errorf("%s changed the rotation's ID to %q", acts[n].name, r.ID)
		}
		if n == atPrepare {
			h.wantWorks(t, ctx, before.root)
		}
	}
	h.wantRotated(t, ctx, before)
	if r.Old == r.New && r.New != "" {
		t.Errorf("the old and the new root are both named %q", r.New)
	}
	h.wantNoSecret(t, ctx, r.Old+" "+r.New)
}

// testTwice does each act twice with the same input, as after a crash before its outcome was stored.
func (h RotatorHarness) testTwice(t *testing.T) {
	ctx, direct, r, before := h.start(t)
	for n := range acts {
		h.done(t, ctx, direct, acts[n], r, 1)
		r = h.done(t, ctx, h.New(t, h.Source), acts[n], r, 2)
	}
	h.wantRotated(t, ctx, before)
}

// testUndo undoes, twice, after each act that may fail for good.
func (h RotatorHarness) testUndo(t *testing.T) {
	for last := atCheck; last <= atVerify; last++ {
		t.Run("after "+acts[last].name, func(t *testing.T) {
			ctx, direct, r, before := h.start(t)
			r = h.upTo(t, ctx, direct, r, last+1)
			if h.NoWayBack && last >= atSwitch {
				err := direct.Undo(ctx, begun(r, 1))
				if cred.KindOf(err) != cred.Invalid {
					t.Fatalf("Undo: %v, want kind invalid", err)
				}
				h.checkError(t, ctx, err)
				h.done(t, ctx, direct, acts[atVerify], r, 1)
				h.wantRotated(t, ctx, before)
				return
			}
			h.done(t, ctx, direct, undo, r, 1)
			h.wantSame(t, ctx, before)
			h.done(t, ctx, h.New(t, h.Source), undo, r, 2)
			h.wantSame(t, ctx, before)
		})
	}
}

// testDeadline lets the source fall silent during each act and wants an answer by the deadline.
func (h RotatorHarness) testDeadline(t *testing.T) {
	for n, a := range append(acts[:len(acts):len(acts)], undo) {
		t.Run(a.name, func(t *testing.T) {
			ctx, direct, r, _ := h.start(t)
			if a.name == undo.name {
				n = atSwitch // what Undo has to do, it has to do after Prepare
			}
			r = h.upTo(t, ctx, direct, r, n)
			front := NewFront(t, h.Source)
			x := h.New(t, front.URL)
			front.Break(Silent, 0)
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := a.do(short, x, begun(r, 1))
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v with a deadline of 300ms", took)
			}
			if front.Seen() == 0 {
				return // nothing to ask the source
			}
			if cred.KindOf(err) != cred.Unavailable {
				t.Fatalf("a silent source gave %v, want kind unavailable", err)
			}
			h.checkError(t, ctx, err)
		})
	}
}

// testFaults breaks each request of each act, in both forms, and wants that the rotation then goes on
// to one new root that works, or is undone.
func (h RotatorHarness) testFaults(t *testing.T) {
	for _, fault := range []Fault{NotDone, DoneLost} {
		h.faultsAtLook(t, atCheck, fault)
		h.faultsAtLook(t, atVerify, fault)
		for _, n := range []int{atPrepare, atSwitch, atRetire} {
			eachRequest(t, acts[n].name, fault, func(t *testing.T, fault Fault, at int) bool { return h.faultAt(t, n, fault, at) })
		}
		eachRequest(t, "prepare, then undo", fault, h.faultThenUndo)
		eachRequest(t, "undo", fault, h.faultAtUndo)
	}
}

// faultsAtLook breaks each request of an act that changes nothing, all in one rotation.
func (h RotatorHarness) faultsAtLook(t *testing.T, n int, fault Fault) {
	_, direct, r, before := h.start(t)
	r = h.upTo(t, t.Context(), direct, r, n)
	now := h.state(t, t.Context())
	eachRequest(t, acts[n].name, fault, func(t *testing.T, fault Fault, at int) bool {
		_, came, err := h.broken(t, t.Context(), acts[n], r, fault, at)
		if err != nil && !again(err) {
			t.Errorf("a connection that broke is taken for an answer: %v", err)
		}
		return came
	})
	h.wantSame(t, t.Context(), now)
	if n == atVerify {
		h.done(t, t.Context(), direct, acts[atRetire], h.done(t, t.Context(), direct, acts[n], r, 2), 1)
		h.wantRotated(t, t.Context(), before)
	}
}

// faultAt breaks one request of an act that changes something, and then lets the rotation go on.
func (h RotatorHarness) faultAt(t *testing.T, n int, fault Fault, at int) (came bool) {
	ctx, direct, r, before := h.start(t)
	r = h.upTo(t, ctx, direct, r, n)
	next, came, err := h.broken(t, ctx, acts[n], r, fault, at)
	switch {
	case err == nil:
		r = next
	case !again(err) && n < atVerify:
		h.done(t, ctx, direct, undo, r, 1)
		h.wantSame(t, ctx, before)
		return came
	default:
		r = h.done(t, ctx, direct, acts[n], r, 2)
	}
	for _, a := range acts[n+1:] {
		r = h.done(t, ctx, direct, a, r, 1)
	}
	h.wantRotated(t, ctx, before)
	return came
}

// faultThenUndo breaks one request of Prepare, whose next try is then given up.
func (h RotatorHarness) faultThenUndo(t *testing.T, fault Fault, at int) (came bool) {
	ctx, direct, r, before := h.start(t)
	next, came, err := h.broken(t, ctx, acts[atPrepare], r, fault, at)
	if err == nil {
		r = next
	}
	h.done(t, ctx, direct, undo, r, 1)
	h.wantSame(t, ctx, before)
	return came
}

func (h RotatorHarness) faultAtUndo(t *testing.T, fault Fault, at int) (came bool) {
	ctx, direct, r, before := h.start(t)
	last := atSwitch
	if h.NoWayBack {
		last = atPrepare
	}
	r = h.upTo(t, ctx, direct, r, last+1)
	_, came, err := h.broken(t, ctx, undo, r, fault, at)
	if err != nil {
		h.done(t, ctx, direct, undo, r, 2)
	}
	h.wantSame(t, ctx, before)
	return came
}

// broken does one act through a Front that breaks one request.
func (h RotatorHarness) broken(t *testing.T, ctx context.Context, a act, r issuer.Rotation, fault Fault, at int) (next issuer.Rotation, came bool, err error) {
	t.Helper()
	front := NewFront(t, h.Source)
	x := h.New(t, front.URL)
	front.Break(fault, at)
	next, err = a.do(ctx, x, begun(r, 1))
	came = front.Seen() >= at
	front.Break(None, 0)
	if err != nil {
		h.checkError(t, ctx, err)
	}
	return next, came, err
}

// start returns a context with a deadline, a rotator, a new rotation, and the source's fresh state.
func (h RotatorHarness) start(t *testing.T) (context.Context, issuer.Rotator, issuer.Rotation, state) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	if h.Fresh != nil {
		h.Fresh(t)
	}
	r := issuer.Rotation{ID: strings.ReplaceAll(string(cred.NewRotationID(time.Now())), "_", "-")}
	before := h.state(t, ctx)
	h.wantWorks(t, ctx, before.root)
	if before.alive != 1 {
		t.Fatalf("%d roots live before the rotation, want 1", before.alive)
	}
	return ctx, h.New(t, h.Source), r, before
}

// upTo does the first acts of a rotation, but for Check, which leaves nothing to the others.
func (h RotatorHarness) upTo(t *testing.T, ctx context.Context, x issuer.Rotator, r issuer.Rotation, count int) issuer.Rotation {
	t.Helper()
	for _, a := range acts[min(atPrepare, count):count] {
		r = h.done(t, ctx, x, a, r, 1)
	}
	return r
}

// done does an act as the broker does: again, until it has an answer.
func (h RotatorHarness) done(t *testing.T, ctx context.Context, x issuer.Rotator, a act, r issuer.Rotation, attempt int) issuer.Rotation {
	t.Helper()
	for n := attempt; ; n++ {
		next, err := a.do(ctx, x, begun(r, n))
		if err == nil {
			return next
		}
		h.checkError(t, ctx, err)
		if !again(err) || n > maxActTries || ctx.Err() != nil {
			t.Fatalf("%s, attempt %d: %v", a.name, n, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// begun returns what an act is given: a copy, so that what a failed act has written into the notes is
// lost as it is at the broker.
func begun(r issuer.Rotation, attempt int) issuer.Rotation {
	r.Attempt, r.Began = attempt, time.Now()
	r.Notes = maps.Clone(r.Notes)
	return r
}

// again reports whether the broker calls an act again after an error.
func again(err error) bool {
	return cred.KindOf(err) == cred.Unavailable || cred.KindOf(err) == cred.Pending
}

func (h RotatorHarness) state(t *testing.T, ctx context.Context) state {
	t.Helper()
	root, err := h.Root(ctx)
	if err != nil || root == "" {
		t.Fatalf("can't tell which root is in use: %q, %v", root, err)
	}
	alive, err := h.Alive(ctx)
	if err != nil {
		t.Fatalf("can't count the roots that live: %v", err)
	}
	return state{root, alive}
}

func (h RotatorHarness) wantWorks(t *testing.T, ctx context.Context, root string) {
	t.Helper()
	if now, err := h.Root(ctx); err != nil || now != root {
		t.Errorf("the root in use is %q, %v, want %q", now, err, root)
	}
	if err := h.Works(ctx); err != nil {
		t.Errorf("the root in use does not work: %v", err)
	}
}

// wantSame wants the source as it was.
func (h RotatorHarness) wantSame(t *testing.T, ctx context.Context, before state) {
	t.Helper()
	h.wantWorks(t, ctx, before.root)
	if now := h.state(t, ctx); now.alive != before.alive {
		t.Errorf("%d roots live, want %d", now.alive, before.alive)
	}
}

// wantRotated wants another root, one, that works.
func (h RotatorHarness) wantRotated(t *testing.T, ctx context.Context, before state) {
	t.Helper()
	now := h.state(t, ctx)
	if now.root == before.root {
		t.Errorf("the root in use is still %q", now.root)
	}
	if now.alive != before.alive {
		t.Errorf("%d roots live, want %d", now.alive, before.alive)
	}
	h.wantWorks(t, ctx, now.root)
}

// checkError checks that an error is ours, and that it tells people something but no secrets.
func (h RotatorHarness) checkError(t *testing.T, ctx context.Context, err error) {
	t.Helper()
	Harness{Source: h.Source}.checkError(t, err)
	h.wantNoSecret(t, ctx, fmt.Sprintf("%v %+v", err, err))
}

func (h RotatorHarness) wantNoSecret(t *testing.T, ctx context.Context, text string) {
	t.Helper()
	if h.Secrets == nil {
		return
	}
	for _, secret := range h.Secrets(ctx) {
		if len(secret) >= 8 && strings.Contains(text, secret) {
			t.Errorf("%d characters of text hold a secret", len(text))
		}
	}
}
