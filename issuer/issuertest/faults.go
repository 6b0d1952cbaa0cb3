package issuertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// maxRequests bounds how many requests one Reserve and Issue, or one Revoke, may take.
const maxRequests = 32

// testDeadline lets the source fall silent and wants an answer by the deadline.
func (h Harness) testDeadline(t *testing.T) {
	ctx, _, before := h.start(t)
	front := NewFront(t, h.Source)
	iss := h.New(t, front.URL)
	front.Break(Silent, 0)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	spec := h.Spec(h.later())
	began := time.Now()
	err := h.reserve(short, iss, &spec)
	if err == nil {
		_, _, err = iss.Issue(short, spec)
	}
	if err == nil || cred.KindOf(err) != cred.Unavailable {
		t.Errorf("a silent source gave %v, want kind unavailable", err)
	} else {
		h.checkError(t, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v with a deadline of 300ms", took)
	}
	h.wantAlive(t, ctx, before)
}

func (h Harness) testRefusedConnection(t *testing.T) {
	ctx, _, before := h.start(t)
	iss := h.New(t, "http://127.0.0.1:1") // nobody listens
	spec := h.Spec(h.later())
	err := h.reserve(ctx, iss, &spec)
	if err == nil {
		_, _, err = iss.Issue(ctx, spec)
	}
	if cred.KindOf(err) != cred.Unavailable || !errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("nobody listens: %v, want kind unavailable and ErrNotIssued", err)
	}
	h.wantAlive(t, ctx, before)
}

// testFaults breaks each request of an issue, then each of a revocation, in both forms, and wants
// after every step that what the issuer says is true and that nothing is left at the source.
func (h Harness) testFaults(t *testing.T) {
	for _, fault := range []Fault{NotDone, DoneLost} {
		eachRequest(t, "issue", fault, h.faultAtIssue)
		if !h.NotRevocable {
			eachRequest(t, "revoke", fault, h.faultAtRevoke)
		}
	}
}

// eachRequest runs a test with the fault at the first request, the second, and so on, until a run
// ends before the fault came.
func eachRequest(t *testing.T, what string, fault Fault, run func(*testing.T, Fault, int) (came bool)) {
	for n := 1; ; n++ {
		if n > maxRequests {
			t.Fatalf("%s takes more than %d requests", what, maxRequests)
		}
		came := false // as it stays where the test is not run, or ends at once
		t.Run(fmt.Sprintf("%s/%v/request %d", what, fault, n), func(t *testing.T) { came = run(t, fault, n) })
		if !came {
			return
		}
	}
}

func (h Harness) faultAtIssue(t *testing.T, fault Fault, n int) (came bool) {
	ctx, direct, before := h.start(t)
	front := NewFront(t, h.Source)
	iss := h.New(t, front.URL)
	front.Break(fault, n)
	spec := h.Spec(h.later())
	if err := h.reserve(ctx, iss, &spec); err != nil {
		h.checkSaysNoneMade(t, err)
		h.wantAlive(t, ctx, before)
		return front.Seen() >= n
	}
	c, l, err := iss.Issue(ctx, spec)
	came = front.Seen() >= n
	front.Break(None, 0)
	switch {
	case err == nil:
		if err := h.Works(ctx, c); err != nil {
			t.Errorf("Issue said that it went well and the credential does not work: %v", err)
		}
		h.end(t, ctx, iss, before, l)
	case saysNoneMade(err):
		h.checkError(t, err)
		h.wantAlive(t, ctx, before)
	case spec.Handle != "" && h.NotRevocable:
		h.checkError(t, err)
		h.wantNoPretence(t, ctx, direct, before, spec.Handle)
	case spec.Handle != "":
		h.checkError(t, err)
		h.revoke(t, ctx, direct, spec.Handle) // by another process, as after a crash
		h.wantAlive(t, ctx, before)
	default:
		h.checkError(t, err)
		if left := h.alive(t, ctx); left > before+1 {
			t.Errorf("one call left %d credentials", left-before)
		}
	}
	return came
}

// testLost wants an issuer that reserved nothing to say when a credential ends whose making has no outcome,
// and that not to be before its own end.
func (h Harness) testLost(t *testing.T) {
	ctx, iss, before := h.start(t)
	spec := h.reserved(t, ctx, iss)
	if spec.Handle != "" {
		t.Skip("what it lost is revoked by the handle")
	}
	lost, ok := iss.(issuer.Unfindable)
	if !ok {
		t.Fatal("it names nothing beforehand, and does not say when what it lost ends: it is no issuer.Unfindable")
	}
	_, l, err := iss.Issue(ctx, spec)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	end, note := lost.Lost(time.Now())
	if !end.IsZero() && (l.NotAfter.IsZero() || end.Before(l.NotAfter)) || note == "" {
		t.Errorf("what was made ends at %v; had it been lost it would end at %v: %q", l.NotAfter, end, note)
	}
	h.end(t, ctx, iss, before, l)
}

// wantNoPretence revokes by a reservation, as after a crash, what can't be revoked: success is a promise
// that nothing was made.
func (h Harness) wantNoPretence(t *testing.T, ctx context.Context, iss issuer.Issuer, before int, handle string) {
	t.Helper()
	err := iss.Revoke(ctx, cred.Lease{Handle: handle})
	left := h.alive(t, ctx) - before
	switch {
	case left > 1:
		t.Errorf("one call left %d credentials", left)
	case err == nil && left > 0:
		t.Error("Revoke said that nothing is left, and a credential lives")
	case err != nil && cred.KindOf(err) != cred.Invalid:
		t.Errorf("Revoke of what may not be revocable: %v, want kind invalid", err)
	case err != nil:
		h.checkError(t, err)
	}
}

func (h Harness) faultAtRevoke(t *testing.T, fault Fault, n int) (came bool) {
	ctx, direct, before := h.start(t)
	c, l, err := direct.Issue(ctx, h.reserved(t, ctx, direct))
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	front := NewFront(t, h.Source)
	iss := h.New(t, front.URL)
	front.Break(fault, n)
	err = iss.Revoke(ctx, cred.Lease{Handle: l.Handle})
	came = front.Seen() >= n
	front.Break(None, 0)
	if err != nil {
		h.checkError(t, err)
		h.revoke(t, ctx, iss, l.Handle)
	}
	if err := h.Works(ctx, c); err == nil {
		t.Error("the credential still works when Revoke has returned")
	}
	h.wantAlive(t, ctx, before)
	return came
}
