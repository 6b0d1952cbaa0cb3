// Package issuertest is the contract that every issuer passes. An issuer's own test describes its
// source in a Harness and calls Test; what the suite then does, it does to the real issuer and,
// where there is one, to the real source, with a Front between the two that breaks connections.
package issuertest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// patience bounds what should take milliseconds, so that a hang is a failure and not a stuck run.
const patience = 30 * time.Second

// Harness describes one issuer to the suite.
type Harness struct {
	// New returns a fresh issuer that reaches its source at a base URL: Source, or a Front before it.
	New func(t *testing.T, baseURL string) issuer.Issuer
	// Source is the base URL of the source, http only. Empty for an issuer that dials nobody, which
	// is then spared the faults.
	Source string
	// Spec returns a fresh specification that the source grants, with an ID of its own.
	Spec func(notAfter time.Time) issuer.Spec
	// Works spends the credential at the source; an error means that it was refused.
	Works func(ctx context.Context, c cred.Credential) error
	// Alive counts the credentials that live at the source.
	Alive func(ctx context.Context) (int, error)
	// UnknownHandle is a handle of the right form that the source does not know.
	UnknownHandle string
	// NotRevocable declares that the source can't end a credential early.
	NotRevocable bool
	// Brief returns, for an issuer.Renewer, a fresh specification whose credential ends within seconds
	// unless it is renewed; nil for a source that renews nothing.
	Brief func(notAfter time.Time) issuer.Spec
	// Stands declares that nothing is made at Issue: what is given out stands at the source already.
	Stands bool
}

// Test holds an issuer to the contract of issuer.Issuer and, where it is one, of issuer.Reserver,
// issuer.Unfindable, issuer.Renewer and issuer.Lister. Who reserves nothing and asks a source is Unfindable.
func Test(t *testing.T, h Harness) {
	t.Run("issues", h.testIssue)
	t.Run("refuses what has ended", h.testEnded)
	t.Run("issues concurrently", h.testConcurrent)
	if h.NotRevocable {
		t.Run("refuses to revoke", h.testRefusesRevoke)
	} else {
		t.Run("revokes", h.testRevoke)
		t.Run("revokes the unknown", h.testRevokeUnknown)
		t.Run("reservation is harmless", h.testReserve)
	}
	if h.Source != "" {
		t.Run("keeps the deadline", h.testDeadline)
		t.Run("source is not there", h.testRefusedConnection)
		t.Run("faults", h.testFaults)
		t.Run("loses", h.testLost)
	}
	h.testLifecycle(t)
}

func (h Harness) testIssue(t *testing.T) {
	ctx, iss, before := h.start(t)
	spec := h.reserved(t, ctx, iss)
	c, l, err := iss.Issue(ctx, spec)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	if err := h.Works(ctx, c); err != nil {
		t.Errorf("the credential does not work: %v", err)
	}
	h.checkLease(t, spec, c, l)
	if n := h.alive(t, ctx); !h.Stands && n != before+1 {
		t.Errorf("%d credentials live at the source, want %d", n, before+1)
	}
	h.end(t, ctx, iss, before, l)
}

// checkLease checks the three things that an issuer says of a lease.
func (h Harness) checkLease(t *testing.T, spec issuer.Spec, c cred.Credential, l cred.Lease) {
	t.Helper()
	if len(c.Fields) == 0 || c.Type == "" {
		t.Errorf("the credential has type %q and %d fields", c.Type, len(c.Fields))
	}
	if l.Revocable == h.NotRevocable {
		t.Errorf("Revocable = %v", l.Revocable)
	}
	if l.Revocable && l.Handle == "" {
		t.Error("a revocable lease has no handle")
	}
	if l.NotAfter.IsZero() || (l.NotAfter.After(spec.NotAfter) && l.Note == "") {
		t.Errorf("the lease ends at %v, asked %v, and its note is %q", l.NotAfter, spec.NotAfter, l.Note)
	}
	if c.NotAfter.After(l.NotAfter) {
		t.Errorf("the lease ends at %v, and the credential not before %v", l.NotAfter, c.NotAfter)
	}
	for name, secret := range c.Fields {
		if len(secret.Reveal()) >= 16 && strings.Contains(l.Handle, secret.RevealString()) {
			t.Errorf("the handle holds the credential's %s", name)
		}
	}
}

func (h Harness) testEnded(t *testing.T) {
	ctx, iss, before := h.start(t)
	spec := h.Spec(time.Now().Add(-time.Minute))
	err := h.reserve(ctx, iss, &spec)
	if err == nil {
		_, _, err = iss.Issue(ctx, spec)
	}
	if err == nil {
		t.Fatal("issued a credential that had ended")
	}
	h.checkSaysNoneMade(t, err)
	h.wantAlive(t, ctx, before)
}

func (h Harness) testConcurrent(t *testing.T) {
	const many = 8
	ctx, iss, before := h.start(t)
	prints, leases := make([]cred.Fingerprint, many), make([]cred.Lease, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			spec := h.Spec(h.later())
			if err := h.reserve(ctx, iss, &spec); err != nil {
				t.Errorf("Reserve: %v", err)
				return
			}
			c, l, err := iss.Issue(ctx, spec)
			if err == nil {
				err = h.Works(ctx, c)
			}
			if err != nil {
				t.Errorf("issuing at the same time: %v", err)
			}
			prints[i], leases[i] = c.Fingerprint(), l
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	slices.SortFunc(prints, func(a, b cred.Fingerprint) int { return bytes.Compare(a[:], b[:]) })
	if n := len(slices.Compact(prints)); !h.Stands && n != many {
		t.Errorf("%d different credentials of %d", n, many)
	}
	if h.NotRevocable {
		return
	}
	for i := range many {
		wg.Go(func() { h.revoke(t, ctx, iss, leases[i].Handle) })
	}
	wg.Wait()
	h.wantAlive(t, ctx, before)
}

func (h Harness) testRefusesRevoke(t *testing.T) {
	ctx, iss, _ := h.start(t)
	_, l, err := iss.Issue(ctx, h.reserved(t, ctx, iss))
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	if err := iss.Revoke(ctx, cred.Lease{Handle: l.Handle}); cred.KindOf(err) != cred.Invalid {
		t.Errorf("Revoke of what can't be revoked: %v, want kind invalid", err)
	}
}

func (h Harness) testRevoke(t *testing.T) {
	ctx, iss, before := h.start(t)
	c, l, err := iss.Issue(ctx, h.reserved(t, ctx, iss))
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	if err := h.Works(ctx, c); err != nil {
		t.Fatalf("the credential does not work: %v", err)
	}
	h.revoke(t, ctx, iss, l.Handle)
	if err := h.Works(ctx, c); err == nil {
		t.Error("the credential still works when Revoke has returned")
	}
	h.wantAlive(t, ctx, before)
	h.revoke(t, ctx, iss, l.Handle) // a second time
	h.revoke(t, ctx, h.New(t, h.Source), l.Handle)
}

func (h Harness) testRevokeUnknown(t *testing.T) {
	ctx, iss, before := h.start(t)
	h.revoke(t, ctx, iss, h.UnknownHandle)
	h.wantAlive(t, ctx, before)
}

func (h Harness) testReserve(t *testing.T) {
	ctx, iss, before := h.start(t)
	r, ok := iss.(issuer.Reserver)
	if !ok {
		t.Skip("not a Reserver")
	}
	handle, err := r.Reserve(ctx, h.Spec(h.later()))
	if err != nil || handle == "" {
		t.Fatalf("Reserve: %q, %v", handle, err)
	}
	h.wantAlive(t, ctx, before)
	h.revoke(t, ctx, iss, handle)
	h.revoke(t, ctx, iss, handle)
	h.wantAlive(t, ctx, before)
}

// start returns a context with a deadline, a fresh issuer and how many credentials live now.
func (h Harness) start(t *testing.T) (context.Context, issuer.Issuer, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx, h.New(t, h.Source), h.alive(t, ctx)
}

func (h Harness) later() time.Time { return time.Now().Add(10 * time.Minute) }

// reserved returns a specification, with its handle where the issuer reserves.
func (h Harness) reserved(t *testing.T, ctx context.Context, iss issuer.Issuer) issuer.Spec {
	t.Helper()
	spec := h.Spec(h.later())
	if err := h.reserve(ctx, iss, &spec); err != nil {
		t.Fatalf("Reserve: %v", err)
	}
	return spec
}

func (h Harness) reserve(ctx context.Context, iss issuer.Issuer, spec *issuer.Spec) (err error) {
	if r, ok := iss.(issuer.Reserver); ok {
		spec.Handle, err = r.Reserve(ctx, *spec)
	}
	return err
}

// revoke revokes by nothing but the handle and wants success.
func (h Harness) revoke(t *testing.T, ctx context.Context, iss issuer.Issuer, handle string) {
	t.Helper()
	if err := iss.Revoke(ctx, cred.Lease{Handle: handle}); err != nil {
		t.Errorf("Revoke: %v", err)
	}
}

// end revokes a lease where that is possible and wants the source as it was.
func (h Harness) end(t *testing.T, ctx context.Context, iss issuer.Issuer, before int, l cred.Lease) {
	t.Helper()
	if h.NotRevocable {
		return
	}
	h.revoke(t, ctx, iss, l.Handle)
	h.wantAlive(t, ctx, before)
}

func (h Harness) alive(t *testing.T, ctx context.Context) int {
	t.Helper()
	n, err := h.Alive(ctx)
	if err != nil {
		t.Fatalf("can't count what lives at the source: %v", err)
	}
	return n
}

func (h Harness) wantAlive(t *testing.T, ctx context.Context, want int) {
	t.Helper()
	if n := h.alive(t, ctx); n != want {
		t.Errorf("%d credentials live at the source, want %d", n, want)
	}
}

// saysNoneMade reports whether an error of Issue promises that no credential was made.
func saysNoneMade(err error) bool {
	return cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued)
}

func (h Harness) checkSaysNoneMade(t *testing.T, err error) {
	t.Helper()
	h.checkError(t, err)
	if !saysNoneMade(err) {
		t.Errorf("the error leaves open whether a credential was made: %v", err)
	}
}

// checkError checks that an error is ours and that its public text tells nothing of the inside.
func (h Harness) checkError(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	switch {
	case !ok:
		t.Errorf("the error is no *cred.Error: %v", err)
	case e.Kind == cred.Internal || e.Public == "":
		t.Errorf("the error says nothing to people: %v", err)
	case h.Source != "" && strings.Contains(e.Public, strings.TrimPrefix(h.Source, "http://")):
		t.Errorf("the public text names the source's address: %q", e.Public)
	case e.Err != nil && len(e.Err.Error()) > 20 && strings.Contains(e.Public, e.Err.Error()):
		t.Errorf("the public text holds the private cause: %q", e.Public)
	}
}
