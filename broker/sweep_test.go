package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

func TestSweepEndsGrants(t *testing.T) {
	w := newWorld(t)
	g, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db", IdempotencyKey: "k"})
	w.must(err)
	_, err = w.redeem("db", w.token(g))
	w.must(err)
	w.clock.advance(15*time.Minute - time.Millisecond)
	w.sweep()
	if len(w.eventsOf(audit.GrantExpired, audit.LeaseExpired)) != 0 {
		t.Error("something ended before its time")
	}
	w.clock.advance(time.Millisecond)
	w.sweep()
	got, leases, err := w.GetGrant(t.Context(), runner, g.ID)
	w.must(err)
	if got.State() != cred.GrantExpired {
		t.Errorf("the grant is %s", got.State())
	}
	w.wantState(leases[0], cred.LeaseExpired)
	again, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db", IdempotencyKey: "k"})
	w.must(err)
	if again.ID == g.ID {
		t.Error("the retry key outlived its grant")
	}
	before := len(w.events())
	w.sweep()
	if len(w.events()) != before {
		t.Error("the second turn did something")
	}
	w.clock.advance(15 * time.Minute)
	w.sweep()
	if third, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db", IdempotencyKey: "k"}); err != nil || third.ID == again.ID {
		t.Errorf("the key's second grant: %v", err)
	}
}

// A credential that would outlive its grant is revoked at the grant's end.
func TestSweepEndsLeasesWithTheirGrant(t *testing.T) {
	for target, name := range map[string]string{"long": "long", "endless": "endless"} {
		t.Run(target, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant(target)
			_, err := w.redeem(target, tok)
			w.must(err)
			w.clock.advance(15*time.Minute - time.Millisecond)
			w.sweep()
			w.wantLive(name, 1)
			w.clock.advance(time.Millisecond)
			w.sweep()
			w.wantLive(name, 0)
			w.wantState(w.lease(g.ID), cred.LeaseRevoked)
		})
	}
}

// A grant that was revoked is forgotten at its own end: its retry key goes, and proxies need not
// remember it.
func TestSweepForgetsRevoked(t *testing.T) {
	w := newWorld(t)
	g, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db", IdempotencyKey: "k"})
	w.must(err)
	_, _, err = w.Revoke(t.Context(), runner, g.ID, "")
	w.must(err)
	if past, err := w.liveRevocations(t.Context()); err != nil || len(past) != 1 {
		t.Errorf("%v, %v", past, err)
	}
	w.clock.advance(15 * time.Minute)
	w.sweep()
	if past, err := w.liveRevocations(t.Context()); err != nil || len(past) != 0 {
		t.Errorf("%v, %v", past, err)
	}
	again, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db", IdempotencyKey: "k"})
	w.must(err)
	if again.ID == g.ID {
		t.Error("the retry key outlived its grant")
	}
	if got, _, _ := w.GetGrant(t.Context(), runner, g.ID); got.State() != cred.GrantRevoked {
		t.Errorf("the grant is %s", got.State())
	}
}

// The sweep leaves an intent alone as long as somebody may be issuing it.
func TestSweepAndIntents(t *testing.T) {
	for target, want := range map[string]cred.LeaseState{"db": cred.LeaseRevoked, "plain": cred.LeaseUnknown} {
		t.Run(target, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant(target)
			w.process.left.Store(1 << 40)
			name := sourceOf(target)
			w.sources[name].during = func(_ issuer.Spec, minted bool) {
				if minted {
					w.process.left.Store(0) // the process dies at its next step
				}
			}
			if w.process.run(func() { _, _ = w.redeem(target, tok) }) {
				t.Fatal("it lived")
			}
			w.sources[name].during = nil
			w.start()
			w.wantState(w.lease(g.ID), cred.LeaseIntent)
			w.wantLive(name, 1)
			w.clock.advance(20*time.Second - time.Millisecond)
			w.sweep()
			w.wantState(w.lease(g.ID), cred.LeaseIntent)
			_, err := w.redeem(target, tok)
			refusedAs(t, err, cred.Unavailable, "REDEEM_IN_PROGRESS")
			w.clock.advance(time.Millisecond)
			w.sweep()
			w.wantState(w.lease(g.ID), want)
			w.check()
			if _, err := w.redeem(target, tok); err != nil {
				t.Errorf("the next try: %v", err)
			}
		})
	}
}

// An abandoned intent does not keep its redeemer waiting for the sweep.
func TestRedeemSettlesAbandoned(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	w.process.left.Store(8)
	if w.process.run(func() { _, _ = w.redeem("db", tok) }) {
		t.Fatal("it lived")
	}
	w.start()
	w.wantState(w.lease(g.ID), cred.LeaseIntent)
	w.clock.advance(20 * time.Second)
	_, err := w.redeem("db", tok)
	w.must(err)
	w.wantLive("vault", 1)
}

// Records that can't be settled neither stop the sweep nor hide what is due behind them.
func TestSweepBehindTheStuck(t *testing.T) {
	w := newWorld(t)
	w.must(w.sealed.Update(t.Context(), func(tx store.Tx) error {
		for i := range 2*sweepPage + 3 {
			l := cred.NewLease(cred.LeaseID(fmt.Sprintf("le_%04d", i)), "gr_gone", "holder", "vault", "", noon, noon)
			value, err := json.Marshal(l)
			w.must(err)
			w.must(tx.Put(store.Record{Key: leaseKey(l), Due: noon, Value: value}))
		}
		return nil
	}))
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	w.clock.advance(15 * time.Minute)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseExpired)
	w.must(w.sealed.Update(t.Context(), func(tx store.Tx) error { // the log does not know them
		var keys []store.Record
		for r, err := range tx.Scan(store.Query{Table: store.Leases, Prefix: "gr_gone/"}) {
			w.must(err)
			keys = append(keys, store.Record{Key: r.Key, Rev: r.Rev})
		}
		for _, r := range keys {
			w.must(tx.Put(r))
		}
		return nil
	}))
}

// A source that hangs does not hold up the leases of another, however many of its own are due.
func TestSweepBesideAHangingSource(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		w.sources["endless"].hang()
		hung := w.redeemed("endless", 100)
		healthy := w.redeemed("long", 3)
		time.Sleep(16 * time.Minute)
		began := time.Now()
		w.sweep()
		if took := time.Since(began); took > laneWait+15*time.Second {
			t.Errorf("the sweep took %v", took)
		}
		asked := 0
		for _, id := range hung {
			if w.lease(id).State() == cred.LeaseRevoking {
				asked++
			}
		}
		if asked != lanePlaces {
			t.Errorf("the source that hangs was asked for %d leases, want %d", asked, lanePlaces)
		}
		w.wantEndedBy(began.Add(laneWait), healthy)
		w.close()
	})
}

// While a source hangs with many leases, Run ends and renews those of others in time, ends grants, and
// goes on with the hanging source once it answers.
func TestRunBesideAHangingSource(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		answers := w.sources["endless"].hang()
		hung := w.redeemed("endless", 50)
		time.Sleep(14 * time.Minute)
		renewed, err := w.deliver("short")
		w.wantDelivered(renewed, err)
		for range 2 {
			late := w.redeemed("long", 2)
			time.Sleep(15 * time.Minute)
			due := time.Now()
			time.Sleep(laneWait + 2*time.Second)
			w.wantEndedBy(due.Add(laneWait+time.Second), late)
			for _, id := range late {
				if g, _, err := w.GetGrant(ctx, runner, id); err != nil || g.State() != cred.GrantExpired {
					t.Errorf("the grant is %s, %v", g.State(), err)
				}
			}
		}
		if l, end := w.lease(renewed.Grant.ID), renewed.Grant.NotAfter; l.EndedAt.Before(end) || l.EndedAt.After(end.Add(laneWait+time.Second)) {
			t.Errorf("the lease that is renewed ended at %v, its grant at %v", l.EndedAt, end)
		}
		answers()
		time.Sleep(2 * time.Minute)
		for _, id := range hung {
			w.wantState(w.lease(id), cred.LeaseRevoked)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.check()
		w.close()
	})
}

// A lock ends what the sources that answer let it end, and does not wait for each lease at one that hangs.
func TestLockBesideAHangingSource(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		w.sources["endless"].hang()
		w.redeemed("endless", 100)
		healthy := w.redeemed("long", 3)
		began := time.Now()
		_, n, err := w.Lock(t.Context(), security, Lock{Subject: runner.Subject, Reason: "an incident"}, 0)
		w.must(err)
		if took := time.Since(began); n != 103 || took > laneWait+15*time.Second {
			t.Errorf("ended %d grants in %v", n, took)
		}
		w.wantEndedBy(began.Add(laneWait), healthy)
		w.close()
	})
}

// redeemed makes grants, each with its lease, a millisecond apart.
func (w *world) redeemed(target string, n int) (ids []cred.GrantID) {
	w.t.Helper()
	for range n {
		g, tok := w.grant(target)
		_, err := w.redeem(target, tok)
		w.must(err)
		ids = append(ids, g.ID)
		time.Sleep(time.Millisecond)
	}
	return ids
}

// wantEndedBy wants leases to be revoked by an instant.
func (w *world) wantEndedBy(by time.Time, ids []cred.GrantID) {
	w.t.Helper()
	for _, id := range ids {
		l := w.lease(id)
		w.wantState(l, cred.LeaseRevoked)
		if l.EndedAt.After(by) {
			w.t.Errorf("a lease ended %v late", l.EndedAt.Sub(by))
		}
	}
}

// Run sweeps by itself until its context ends.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		g, _ := w.grant("db")
		w.store.plan(works, notDone) // the first try at the grant's end fails
		_, err := w.Exchange(ctx, as(runner), cred.Request{Target: "absent"})
		refusedAs(t, err, cred.NotFound, "TARGET_UNKNOWN")
		time.Sleep(15*time.Minute + 3*time.Second)
		if got, _, err := w.GetGrant(ctx, runner, g.ID); err != nil || got.State() != cred.GrantExpired {
			t.Errorf("the grant is %s, %v", got.State(), err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.check()
		w.close()
	})
}
