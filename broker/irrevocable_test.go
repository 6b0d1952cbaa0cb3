package broker

import (
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// unknown returns what an auditor sees of leases that may live and can't be revoked.
func (w *world) unknown() []cred.Lease {
	w.t.Helper()
	out, _, err := w.ListLeases(w.context(), auditor, LeaseFilter{State: cred.LeaseUnknown})
	w.must(err)
	return out
}

// wantIrrevocable wants a lease, and no other, to be shown as unknown, without an end.
func (w *world) wantIrrevocable(id cred.GrantID) {
	w.t.Helper()
	all := w.unknown()
	if len(all) != 1 || all[0].Grant != id || !all[0].End().IsZero() || all[0].Note != "the source has given up on it" {
		w.t.Fatalf("unknown are %+v", all)
	}
}

// What its source has given up on ending is shown beyond its own end, and asked about each hour, until the
// source has it no more.
func TestIrrevocable(t *testing.T) {
	w := newReconciling(t)
	short := w.sources["short"]
	g, tok := w.grant("short")
	_, err := w.redeem("short", tok)
	w.must(err)
	short.plan("revoke", givenUp, givenUp, notDone)
	_, leases, err := w.Revoke(t.Context(), runner, g.ID, "")
	w.must(err)
	w.wantState(leases[0], cred.LeaseUnknown)
	if e := w.lastOf(audit.LeaseUnknown); !e.Lease.NotAfter.IsZero() {
		t.Errorf("the log says that it ends at %s", e.Lease.NotAfter)
	}
	for minute := range 2*60 + 59 {
		w.clock.advance(time.Minute)
		w.sweep()
		w.wantIrrevocable(g.ID)
		if want := 1 + (minute+1)/60; short.count("revoke") != want {
			t.Fatalf("asked %d times after %d minutes, want %d", short.count("revoke"), minute+1, want)
		}
		if minute%10 == 0 {
			if r := w.compare(); r.Strays != 0 || r.Ours != 1 || r.Missing != 0 {
				t.Fatalf("the comparison found %+v", r)
			}
		}
	}
	w.clock.advance(time.Minute)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseRevoked)
	w.wantLive("short", 0)
	if n := len(w.eventsOf(audit.LeaseUnknown, audit.LeaseRevoked)); n != 2 {
		t.Errorf("%d entries of it", n)
	}
}

// A source needs time to give up: the lease's own end meanwhile is no proof that it has ended.
func TestIrrevocableAfterItsEnd(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	w.clock.advance(14 * time.Minute)
	for range 10 {
		w.sources["vault"].plan("revoke", notDone)
	}
	w.sources["vault"].plan("revoke", givenUp)
	_, _, err = w.Revoke(t.Context(), runner, g.ID, "")
	w.must(err)
	for range 10 {
		w.wantState(w.lease(g.ID), cred.LeaseRevoking)
		w.clock.advance(time.Minute)
		w.sweep()
	}
	w.wantIrrevocable(g.ID)
	w.clock.advance(24 * time.Hour)
	w.sources["vault"].plan("revoke", notDone)
	w.sweep()
	w.wantIrrevocable(g.ID)
	w.clock.advance(time.Hour)
	w.sweep() // somebody has ended it by hand
	w.wantState(w.lease(g.ID), cred.LeaseRevoked)
}

// A source that says that it can't end a credential at all is not asked again.
func TestUnrevocableIsNotAskedAgain(t *testing.T) {
	w := newWorld(t)
	w.sources["sts"].plan("issue", doneLost)
	g, tok := w.grant("sts")
	if _, err := w.redeem("sts", tok); cred.KindOf(err) != cred.Unavailable {
		t.Fatalf("got %v", err)
	}
	l := w.lease(g.ID)
	w.wantState(l, cred.LeaseUnknown)
	if l.Revocable || irrevocable(l) {
		t.Errorf("the lease is %+v", l)
	}
	w.clock.advance(10 * time.Minute)
	w.sweep()
	if n := w.sources["sts"].count("revoke"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
