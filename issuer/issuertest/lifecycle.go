package issuertest

import (
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

// slack is how much the ends of leases may differ where a source counts in whole seconds.
const slack = 2 * time.Second

// testLifecycle holds an issuer to issuer.Renewer and issuer.Lister, where it is one.
func (h Harness) testLifecycle(t *testing.T) {
	iss := h.New(t, h.Source)
	if _, ok := iss.(issuer.Renewer); ok {
		t.Run("renews", h.testRenew)
		t.Run("renews what it does not know", h.testRenewUnknown)
		t.Run("renews while it revokes", h.testRenewRevoked)
	}
	if _, ok := iss.(issuer.Lister); ok {
		t.Run("lists", h.testLive)
	}
	if h.Source == "" {
		return
	}
	for _, fault := range []Fault{NotDone, DoneLost} {
		if _, ok := iss.(issuer.Renewer); ok && h.Brief != nil {
			eachRequest(t, "renew", fault, h.faultAtRenew)
		}
		if _, ok := iss.(issuer.Lister); ok {
			eachRequest(t, "list", fault, h.faultAtLive)
		}
	}
	t.Run("life keeps the deadline", h.testLifecycleDeadline)
}

// brief issues a credential that ends before it was asked to, unless it is renewed.
func (h Harness) brief(t *testing.T, ctx context.Context, iss issuer.Issuer) (issuer.Spec, cred.Credential, cred.Lease) {
	t.Helper()
	if h.Brief == nil {
		t.Skip("nothing that it issues can be renewed")
	}
	spec := h.Brief(h.later())
	if err := h.reserve(ctx, iss, &spec); err != nil {
		t.Fatalf("Reserve: %v", err)
	}
	c, l, err := iss.Issue(ctx, spec)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	if !l.Renewable || !l.NotAfter.Before(spec.NotAfter.Add(-slack)) {
		t.Fatalf("renewable %v, it ends %v, asked was %v", l.Renewable, l.NotAfter, spec.NotAfter)
	}
	return spec, c, l
}

func (h Harness) testRenew(t *testing.T) {
	ctx, iss, before := h.start(t)
	spec, c, l := h.brief(t, ctx, iss)
	first := l.NotAfter
	for range 2 { // the second time as after an answer that was lost
		l.NotAfter = h.renewed(t, ctx, iss, l, spec.NotAfter)
	}
	if end, err := iss.(issuer.Renewer).Renew(ctx, l, first); err != nil || end.Before(l.NotAfter.Add(-slack)) {
		t.Errorf("renewed until an instant before its end: %v, %v, it ended %v", end, err, l.NotAfter)
	}
	for time.Now().Before(first.Add(slack)) {
		if err := h.Works(ctx, c); err != nil {
			t.Fatalf("%v before its first end, renewed until %v: %v", time.Until(first), l.NotAfter, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.end(t, ctx, iss, before, l)
	if err := h.Works(ctx, c); err == nil && !h.NotRevocable {
		t.Error("the credential still works when Revoke has returned")
	}
	h.wantGone(t, ctx, iss, l, spec.NotAfter)
}

// renewed renews by what the broker has stored and wants a later end, but none after what was asked.
func (h Harness) renewed(t *testing.T, ctx context.Context, iss issuer.Issuer, l cred.Lease, until time.Time) time.Time {
	t.Helper()
	end, err := iss.(issuer.Renewer).Renew(ctx, cred.Lease{Handle: l.Handle, NotAfter: l.NotAfter}, until)
	if err != nil {
		t.Errorf("Renew: %v", err)
		return l.NotAfter
	}
	if end.After(until) || end.Before(l.NotAfter.Add(-slack)) || end.Before(until.Add(-slack)) && !end.After(l.NotAfter) {
		t.Errorf("renewed until %v, asked was %v, it ended %v", end, until, l.NotAfter)
	}
	return end
}

// wantGone renews what is no more.
func (h Harness) wantGone(t *testing.T, ctx context.Context, iss issuer.Issuer, l cred.Lease, until time.Time) {
	t.Helper()
	end, err := iss.(issuer.Renewer).Renew(ctx, cred.Lease{Handle: l.Handle}, until)
	if err == nil {
		t.Fatalf("renewed what was revoked, until %v", end)
	}
	if k := cred.KindOf(err); k != cred.NotFound && k != cred.Invalid {
		t.Errorf("renewed what was revoked: %v, want kind not_found or invalid", err)
	}
	h.checkError(t, err)
}

func (h Harness) testRenewUnknown(t *testing.T) {
	ctx, iss, before := h.start(t)
	r := iss.(issuer.Renewer)
	if _, err := r.Renew(ctx, cred.Lease{}, h.later()); cred.KindOf(err) != cred.Invalid {
		t.Errorf("renewed without a handle: %v, want kind invalid", err)
	}
	if h.Brief == nil {
		return
	}
	_, err := r.Renew(ctx, cred.Lease{Handle: h.UnknownHandle}, h.later())
	if cred.KindOf(err) != cred.NotFound {
		t.Errorf("renewed what the source does not know: %v, want kind not_found", err)
	} else {
		h.checkError(t, err)
	}
	_, _, l := h.brief(t, ctx, iss)
	if _, err := r.Renew(ctx, cred.Lease{Handle: l.Handle}, time.Now().Add(-time.Minute)); cred.KindOf(err) != cred.Invalid {
		t.Errorf("renewed until an instant that has passed: %v, want kind invalid", err)
	}
	h.end(t, ctx, iss, before, l)
}

// testRenewRevoked renews and revokes at once. Whichever is first, nothing lives in the end.
func (h Harness) testRenewRevoked(t *testing.T) {
	if h.NotRevocable {
		t.Skip("nothing can be revoked")
	}
	ctx, iss, before := h.start(t)
	for range 8 {
		spec, c, l := h.brief(t, ctx, iss)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := iss.(issuer.Renewer).Renew(ctx, l, spec.NotAfter); err != nil {
					h.checkError(t, err)
				}
			})
		}
		wg.Go(func() { h.revoke(t, ctx, iss, l.Handle) })
		wg.Wait()
		if err := h.Works(ctx, c); err == nil {
			t.Error("the credential works although it was revoked while it was renewed")
		}
		h.wantGone(t, ctx, iss, l, spec.NotAfter)
	}
	h.wantAlive(t, ctx, before)
}

func (h Harness) faultAtRenew(t *testing.T, fault Fault, n int) (came bool) {
	ctx, direct, before := h.start(t)
	spec, c, l := h.brief(t, ctx, direct)
	front := NewFront(t, h.Source)
	iss := h.New(t, front.URL)
	front.Break(fault, n)
	end, err := iss.(issuer.Renewer).Renew(ctx, l, spec.NotAfter)
	came = front.Seen() >= n
	front.Break(None, 0)
	switch {
	case err == nil && (end.After(spec.NotAfter) || !end.After(l.NotAfter)):
		t.Errorf("renewed until %v, asked was %v, it ended %v", end, spec.NotAfter, l.NotAfter)
	case err != nil && cred.KindOf(err) != cred.Unavailable:
		t.Errorf("%v, want kind unavailable", err)
	case err != nil:
		h.checkError(t, err)
		h.renewed(t, ctx, iss, l, spec.NotAfter)
	}
	if err := h.Works(ctx, c); err != nil {
		t.Errorf("the credential does not work: %v", err)
	}
	h.end(t, ctx, direct, before, l)
	return came
}

func (h Harness) testLive(t *testing.T) {
	ctx, iss, before := h.start(t)
	lister := iss.(issuer.Lister)
	c, l, err := iss.Issue(ctx, h.reserved(t, ctx, iss))
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	name := lister.NameOf(cred.Lease{Handle: l.Handle})
	if name == "" && l.Revocable {
		t.Error("a lease that can be revoked has no name")
	}
	names := h.live(t, ctx, iss)
	if name != "" && !slices.Contains(names, name) {
		t.Errorf("%q lives and is not among %q", name, names)
	}
	for field, secret := range c.Fields {
		if shown := strings.Join(names, "\n"); len(secret.Reveal()) >= 16 && strings.Contains(shown, secret.RevealString()) {
			t.Errorf("the names show the credential's %s", field)
		}
	}
	if unknown := lister.NameOf(cred.Lease{Handle: h.UnknownHandle}); unknown != "" && slices.Contains(names, unknown) {
		t.Errorf("%q is listed and does not exist", unknown)
	}
	if got := lister.NameOf(cred.Lease{}); got != "" {
		t.Errorf("a lease without a handle has the name %q", got)
	}
	h.end(t, ctx, iss, before, l)
	if !h.NotRevocable && name != "" && slices.Contains(h.live(t, ctx, iss), name) {
		t.Errorf("%q is listed and was revoked", name)
	}
}

func (h Harness) live(t *testing.T, ctx context.Context, iss issuer.Issuer) []string {
	t.Helper()
	names, err := iss.(issuer.Lister).Live(ctx)
	if err != nil {
		t.Fatalf("Live: %v", err)
	}
	return names
}

// faultAtLive wants all names or an error: a list that is cut short says of what lives that it does not.
func (h Harness) faultAtLive(t *testing.T, fault Fault, n int) (came bool) {
	ctx, direct, before := h.start(t)
	_, l, err := direct.Issue(ctx, h.reserved(t, ctx, direct))
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	front := NewFront(t, h.Source)
	iss := h.New(t, front.URL)
	front.Break(fault, n)
	names, err := iss.(issuer.Lister).Live(ctx)
	came = front.Seen() >= n
	front.Break(None, 0)
	name := iss.(issuer.Lister).NameOf(l)
	switch {
	case err == nil && name != "" && !slices.Contains(names, name):
		t.Errorf("%q lives and is not among %q", name, names)
	case err != nil:
		h.checkError(t, err)
		if len(names) > 0 {
			t.Errorf("a part of the list came with an error: %q", names)
		}
	}
	h.end(t, ctx, direct, before, l)
	return came
}

// testLifecycleDeadline lets the source fall silent and wants an answer by the deadline.
func (h Harness) testLifecycleDeadline(t *testing.T) {
	ctx, direct, _ := h.start(t)
	front := NewFront(t, h.Source)
	acts := map[string]func(context.Context, issuer.Issuer) error{}
	if _, ok := direct.(issuer.Renewer); ok && h.Brief != nil {
		_, _, l := h.brief(t, ctx, direct)
		acts["Renew"] = func(ctx context.Context, iss issuer.Issuer) error {
			_, err := iss.(issuer.Renewer).Renew(ctx, l, h.later())
			return err
		}
		defer h.revoke(t, ctx, direct, l.Handle)
	}
	if _, ok := direct.(issuer.Lister); ok {
		acts["Live"] = func(ctx context.Context, iss issuer.Issuer) error {
			_, err := iss.(issuer.Lister).Live(ctx)
			return err
		}
	}
	front.Break(Silent, 0)
	for name, act := range acts {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		began := time.Now()
		err := act(short, h.New(t, front.URL))
		cancel()
		if cred.KindOf(err) != cred.Unavailable || errors.Is(err, context.Canceled) {
			t.Errorf("%s at a silent source: %v, want kind unavailable", name, err)
		} else {
			h.checkError(t, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %v with a deadline of 300ms", name, took)
		}
	}
}
