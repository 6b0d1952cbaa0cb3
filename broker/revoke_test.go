package broker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

func TestRevoke(t *testing.T) {
	for name, who := range map[string]cred.Principal{"the holder": runner, "security": security} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant("db")
			_, err := w.redeem("db", tok)
			w.must(err)
			got, leases, err := w.Revoke(WithPeer(t.Context(), "192.0.2.9"), who, g.ID, "leaked")
			w.must(err)
			if got.State() != cred.GrantRevoked || got.EndReason != "leaked" || len(leases) != 1 {
				t.Errorf("revoked %+v with %d leases", got, len(leases))
			}
			w.wantState(leases[0], cred.LeaseRevoked)
			w.wantLive("vault", 0)
			e := w.eventsOf(audit.GrantRevoked)
			if len(e) != 1 || e[0].Principal.Subject != who.Subject || e[0].Detail["reason"] != "leaked" || e[0].Peer != "192.0.2.9" {
				t.Errorf("recorded %+v", e)
			}
			again, leases, err := w.Revoke(t.Context(), who, g.ID, "again")
			w.must(err)
			if again.EndReason != "leaked" || len(leases) != 1 || len(w.eventsOf(audit.GrantRevoked)) != 1 {
				t.Error("the second revocation changed something")
			}
			if n := w.sources["vault"].count("revoke"); n != 1 {
				t.Errorf("the source was asked %d times", n)
			}
		})
	}
}

// To everybody else a grant that exists is one that does not.
func TestRevokeOfOthers(t *testing.T) {
	w := newWorld(t)
	g, _ := w.grant("db")
	before := len(w.events())
	for _, who := range []cred.Principal{neighbour, auditor, nosy, edge} {
		got, leases, err := w.Revoke(t.Context(), who, g.ID, "")
		hidden := refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
		_, _, err = w.Revoke(t.Context(), who, "gr_00000000000000000000000000", "")
		missing := refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
		if *hidden != *missing {
			t.Errorf("%v and %v tell the two apart", hidden, missing)
		}
		if got.ID != "" || leases != nil {
			t.Errorf("%s learns of the grant %v", who.Subject, got.ID)
		}
	}
	if len(w.events()) != before {
		t.Error("something was changed")
	}
}

// A grant that ended by itself is no error to revoke, whether the sweep has come by or not.
func TestRevokeOfExpired(t *testing.T) {
	w := newWorld(t)
	swept, _ := w.grant("db")
	w.clock.advance(15 * time.Minute)
	w.sweep()
	g, _, err := w.Revoke(t.Context(), runner, swept.ID, "")
	w.must(err)
	if g.State() != cred.GrantExpired {
		t.Errorf("the grant is %s", g.State())
	}
	unswept, _ := w.grant("db")
	w.clock.advance(15 * time.Minute)
	g, _, err = w.Revoke(t.Context(), runner, unswept.ID, "")
	w.must(err)
	if g.State() != cred.GrantRevoked {
		t.Errorf("the grant is %s", g.State())
	}
}

// What a source can't end is told as it stands.
func TestRevokeUnrevocable(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("fixed")
	_, err := w.redeem("fixed", tok)
	w.must(err)
	_, leases, err := w.Revoke(t.Context(), runner, g.ID, "")
	w.must(err)
	if leases[0].State() != cred.LeaseIssued || leases[0].Revocable || w.sources["fixed"].count("revoke") != 0 {
		t.Errorf("the lease is told as %+v", leases[0])
	}
	w.clock.advance(15 * time.Minute)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseExpired)
}

// A source that fails leaves the lease revoking; the sweep ends it once the source is back.
func TestRevokeWhileTheSourceFails(t *testing.T) {
	for _, f := range []fault{notDone, doneLost} {
		w := newWorld(t)
		g, tok := w.grant("db")
		_, err := w.redeem("db", tok)
		w.must(err)
		w.sources["vault"].plan("revoke", f, notDone)
		_, leases, err := w.Revoke(t.Context(), runner, g.ID, "")
		w.must(err)
		w.wantState(leases[0], cred.LeaseRevoking)
		w.check()
		w.sweep() // too early
		if n := w.sources["vault"].count("revoke"); n != 1 {
			t.Errorf("asked %d times at once", n)
		}
		w.clock.advance(time.Second)
		w.sweep()
		w.wantState(w.lease(g.ID), cred.LeaseRevoking)
		w.clock.advance(time.Second)
		w.sweep()
		w.wantState(w.lease(g.ID), cred.LeaseRevoked)
		w.wantLive("vault", 0)
		if n := w.sources["vault"].count("revoke"); n != 3 {
			t.Errorf("asked %d times", n)
		}
	}
}

// A source that never answers keeps the lease revoking until the credential's own end and an hour longer:
// that the time is over does not mean that the source has done it.
func TestSourceNeverComesBack(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	for range 200 {
		w.sources["vault"].plan("revoke", notDone)
	}
	_, _, err = w.Revoke(t.Context(), runner, g.ID, "")
	w.must(err)
	for range 15*60 - 1 {
		w.clock.advance(time.Second)
		w.sweep()
	}
	w.wantState(w.lease(g.ID), cred.LeaseRevoking)
	if n := w.sources["vault"].count("revoke"); n < 15 || n > 45 {
		t.Errorf("asked %d times in a quarter of an hour", n)
	}
	for range 60 {
		w.clock.advance(time.Minute)
		w.sweep()
	}
	w.wantState(w.lease(g.ID), cred.LeaseRevoking)
	if n := w.sources["vault"].count("revoke"); n < 75 || n > 105 {
		t.Errorf("asked %d times in an hour and a quarter", n)
	}
	w.clock.advance(time.Minute)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseExpired)
}

// A credential without an end of its own is asked for until its source confirms.
func TestEndlessRevocation(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("endless")
	_, err := w.redeem("endless", tok)
	w.must(err)
	w.sources["endless"].plan("revoke", notDone, notDone)
	_, _, err = w.Revoke(t.Context(), runner, g.ID, "")
	w.must(err)
	w.clock.advance(time.Hour)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseRevoking)
	w.clock.advance(time.Hour)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseRevoked)
	w.wantLive("endless", 0)
}

func TestRevokeStoreFaults(t *testing.T) {
	for _, test := range []struct {
		name string
		plan []fault
		ok   bool
		live int
	}{
		{"not done", []fault{notDone}, false, 1},
		{"done, answer lost", []fault{doneLost}, false, 1},
		{"the claim is not written", []fault{works, notDone}, true, 1},
		{"the end is not written", []fault{works, works, notDone}, true, 0},
		{"the end's answer is lost", []fault{works, works, doneLost}, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant("db")
			_, err := w.redeem("db", tok)
			w.must(err)
			w.store.plan(test.plan...)
			_, _, err = w.Revoke(t.Context(), runner, g.ID, "")
			if test.ok {
				w.must(err)
			} else {
				refusedAs(t, err, cred.Unavailable, "NOT_RECORDED")
			}
			w.wantLive("vault", test.live)
			_, leases, err := w.Revoke(t.Context(), runner, g.ID, "")
			w.must(err)
			w.wantState(leases[0], cred.LeaseRevoked)
			w.wantLive("vault", 0)
		})
	}
}

// The caller's leaving does not stop a revocation once it is on record.
func TestRevokeCallerLeaves(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	ch, leave := w.watchers.join()
	defer leave()
	go func() {
		<-ch // it is on record
		cancel()
	}()
	_, leases, err := w.Revoke(ctx, runner, g.ID, "")
	w.must(err)
	<-ctx.Done()
	w.wantState(leases[0], cred.LeaseRevoked)
}

// Revoking a grant in the middle of its issue leaves the intent to the one who issues.
func TestRevokeLeavesAYoungIntent(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	w.sources["vault"].during = func(_ issuer.Spec, minted bool) {
		if minted {
			_, leases, err := w.Revoke(context.Background(), runner, g.ID, "")
			w.must(err)
			w.wantState(leases[0], cred.LeaseIntent)
		}
	}
	_, err := w.redeem("db", tok)
	refusedAs(t, err, cred.Denied, "GRANT_REVOKED")
	w.wantState(w.lease(g.ID), cred.LeaseRevoked)
}

// A source that hangs is given up in time.
func TestRevokeHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		g, tok := w.grant("db")
		_, err := w.redeem("db", tok)
		w.must(err)
		w.sources["vault"].plan("revoke", hangs)
		began := time.Now()
		swept := make(chan error)
		go func() {
			time.Sleep(10 * time.Second) // of the bubble
			swept <- w.Sweep(context.Background())
		}()
		_, leases, err := w.Revoke(t.Context(), runner, g.ID, "")
		w.must(err)
		w.must(<-swept)
		if n := w.sources["vault"].count("revoke"); n != 1 {
			t.Errorf("the sweep asked beside the caller: %d", n)
		}
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("it took %v", took)
		}
		w.wantState(leases[0], cred.LeaseRevoking)
		time.Sleep(time.Minute)
		w.sweep()
		w.wantState(w.lease(g.ID), cred.LeaseRevoked)
		w.check()
		w.close()
	})
}
