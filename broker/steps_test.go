package broker

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// dieAtEachStep runs do in worlds of their own, with a process that dies at its first step, its
// second, and so on until it lives, and holds each to the invariant, after its recovery too.
func dieAtEachStep(t *testing.T, target string, prepare func(w *world) func(), wantLive func(w *world) int) {
	t.Helper()
	name := sourceOf(target)
	for n := int64(0); ; n++ {
		if n > 40 {
			t.Fatal("it never lives")
		}
		w := newWorld(t)
		do := prepare(w)
		w.process.left.Store(n)
		lived := w.process.run(do)
		w.sources[name].during = nil
		w.start()
		w.check()
		for range 2 {
			w.clock.advance(20 * time.Second)
			w.sweep()
		}
		w.check()
		unknown := 0
		_, leases := w.replay()
		for _, l := range leases {
			switch l.State() {
			case cred.LeaseUnknown:
				unknown++
			case cred.LeaseIntent, cred.LeaseRevoking:
				t.Errorf("%s dies at %v: after the recovery the lease is %s", target, w.process.at.Load(), l.State())
			}
		}
		if got, want := len(w.sources[name].live()), wantLive(w); got > want+unknown {
			t.Errorf("%s, step %d: %d credentials live, want %d and %d unknown", target, n, got, want, unknown)
		}
		if target != "plain" && target != "endless" && unknown > 0 {
			t.Errorf("%s, step %d: a lease is unknown", target, n)
		}
		if lived {
			return
		}
	}
}

func noneLives(*world) int { return 0 }

// A process that dies anywhere in a redemption leaves nothing that nobody knows of.
func TestRedeemDiesAtEachStep(t *testing.T) {
	for _, target := range []string{"db", "plain", "endless", "long"} {
		dieAtEachStep(t, target, func(w *world) func() {
			_, tok := w.grant(target)
			return func() { _, _ = w.redeem(target, tok) }
		}, func(w *world) int { return 1 }) // the outcome is on record, and the grant lives
	}
}

func TestRedeemAgainDiesAtEachStep(t *testing.T) {
	for _, target := range []string{"db", "plain", "endless", "long"} {
		dieAtEachStep(t, target, func(w *world) func() {
			_, tok := w.grant(target)
			_, err := w.redeem(target, tok)
			w.must(err)
			return func() { _, _ = w.redeem(target, tok) }
		}, func(w *world) int { return 1 })
	}
}

// Once a revocation is on record, a death ends nothing but the wait.
func TestRevokeDiesAtEachStep(t *testing.T) {
	for _, target := range []string{"db", "plain", "endless", "long"} {
		dieAtEachStep(t, target, func(w *world) func() {
			g, tok := w.grant(target)
			_, err := w.redeem(target, tok)
			w.must(err)
			return func() { _, _, _ = w.Revoke(context.Background(), runner, g.ID, "") }
		}, func(w *world) int {
			if w.revoked() {
				return 0
			}
			return 1
		})
	}
}

// revoked reports whether any grant is revoked.
func (w *world) revoked() bool {
	grants, _ := w.replay()
	for _, g := range grants {
		if g.State() == cred.GrantRevoked {
			return true
		}
	}
	return false
}

// A grant that is revoked while its credential is made, by a process that dies at any step after.
func TestRevokedRedeemDiesAtEachStep(t *testing.T) {
	for _, target := range []string{"db", "plain", "endless", "long"} {
		dieAtEachStep(t, target, func(w *world) func() {
			g, tok := w.grant(target)
			name := sourceOf(target)
			return func() {
				w.sources[name].during = func(_ issuer.Spec, minted bool) {
					if minted {
						_, _, _ = w.Revoke(context.Background(), runner, g.ID, "")
					}
				}
				_, _ = w.redeem(target, tok)
			}
		}, noneLives)
	}
}

// A sweep that dies anywhere at the end of a grant is taken up by the next one.
func TestSweepDiesAtEachStep(t *testing.T) {
	for _, target := range []string{"db", "plain", "endless", "long"} {
		dieAtEachStep(t, target, func(w *world) func() {
			_, tok := w.grant(target)
			_, err := w.redeem(target, tok)
			w.must(err)
			w.clock.advance(15 * time.Minute)
			return func() { _ = w.Sweep(context.Background()) }
		}, noneLives)
	}
}

// After a death right after the record of a revocation the next start revokes at once.
func TestRevocationGoesOnAtOnce(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	w.process.left.Store(2) // the transaction begins, and has ended
	if w.process.run(func() { _, _, _ = w.Revoke(context.Background(), runner, g.ID, "") }) {
		t.Fatal("it lived")
	}
	w.start()
	w.wantState(w.lease(g.ID), cred.LeaseRevoking)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseRevoked)
	w.wantLive("vault", 0)
}

// Callers and sweeps at the same time keep the invariant, too.
func TestAllAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var wg sync.WaitGroup
	ready := make(chan struct{})
	for n := range 8 {
		target := []string{"db", "plain", "endless", "long"}[n%4]
		g, err := w.Exchange(ctx, as(runner), cred.Request{Target: target, IdempotencyKey: target}) // two share a grant
		w.must(err)
		tok := w.token(g)
		wg.Go(func() {
			<-ready
			for i := range 6 {
				r, err := w.redeem(target, tok)
				if k := cred.KindOf(err); err != nil && k != cred.Unavailable && k != cred.Denied && k != cred.Expired {
					t.Errorf("redeem: %v", err)
				}
				if err == nil && r.Lease.State() != cred.LeaseIssued {
					t.Errorf("redeemed a lease that is %s", r.Lease.State())
				}
				if err := w.Sweep(ctx); err != nil {
					t.Errorf("sweep: %v", err)
				}
				w.clock.advance(time.Second)
				if i == 4 && n < 4 {
					if _, _, err := w.Revoke(ctx, runner, g.ID, ""); err != nil {
						t.Errorf("revoke: %v", err)
					}
				}
			}
		})
	}
	close(ready)
	wg.Wait()
	w.clock.advance(time.Minute)
	w.sweep()
	for name, source := range w.sources {
		for id := range source.live() {
			t.Errorf("lease %s lives at %s after its grant was revoked", id, name)
		}
	}
}
