package broker

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// checkRenewals wants no renewal to be asked for beyond a grant's end, and nothing to live longer.
func (w *world) checkRenewals() {
	w.t.Helper()
	grants, _ := w.replay()
	s := w.sources["short"]
	for _, m := range s.live() {
		if g := grants[m.grant]; m.notAfter.After(g.NotAfter) {
			w.t.Errorf("a credential lives until %s, and its grant until %s", m.notAfter, g.NotAfter)
		}
	}
	for id, until := range s.renewals() {
		if until.After(grants[id].NotAfter) {
			w.t.Errorf("a renewal was asked for until %s, and its grant ends %s", until, grants[id].NotAfter)
		}
	}
}

// renewals returns until when renewals were asked for.
func (s *source) renewals() map[cred.GrantID]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.asked)
}

// wantRenewals wants the log's entries about renewals to be these.
func (w *world) wantRenewals(want ...audit.Kind) {
	w.t.Helper()
	var got []audit.Kind
	for _, e := range w.eventsOf(audit.LeaseRenewing, audit.LeaseRenewed, audit.LeaseNotRenewed) {
		got = append(got, e.Kind)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("the renewals are recorded as %v, want %v", got, want)
	}
}

// short delivers a credential that lives four minutes under a grant of fifteen.
func (w *world) short() Delivered {
	w.t.Helper()
	got, err := w.deliver("short")
	w.wantDelivered(got, err)
	if l := got.Redeemed.Lease; !l.Renewable || !l.NotAfter.Equal(noon.Add(4*time.Minute)) {
		w.t.Fatalf("the lease %+v", l)
	}
	return got
}

// sweepFor lets time pass, with a sweep each second.
func (w *world) sweepFor(d time.Duration) {
	w.t.Helper()
	for range int(d / time.Second) {
		w.clock.advance(time.Second)
		w.sweep()
	}
}

func TestRenewedWhileTheGrantLives(t *testing.T) {
	w := newWorld(t)
	got := w.short()
	w.clock.advance(160*time.Second - time.Millisecond) // a little less than two thirds of its life
	w.sweep()
	if n := w.sources["short"].count("renew"); n != 0 {
		t.Fatalf("renewed %d times before its time", n)
	}
	w.clock.advance(time.Millisecond)
	w.sweep()
	l := w.lease(got.Grant.ID)
	if want := noon.Add(400 * time.Second); !l.NotAfter.Equal(want) || !l.AskedUntil.IsZero() || l.State() != cred.LeaseIssued {
		t.Errorf("renewed: %+v, want it until %s", l, want)
	}
	if e := w.lastOf(audit.LeaseRenewed); !e.Lease.NotAfter.Equal(l.NotAfter) || e.Lease.ID != l.ID || e.Grant != got.Grant.ID {
		t.Errorf("recorded %+v", e.Lease)
	}
	w.wantRenewals(audit.LeaseRenewing, audit.LeaseRenewed)
	w.sweepFor(15*time.Minute - 161*time.Second)
	w.checkRenewals()
	if l := w.lease(got.Grant.ID); !l.NotAfter.Equal(got.Grant.NotAfter) {
		t.Errorf("near the grant's end it ends %s", l.NotAfter)
	}
	if n := w.sources["short"].count("renew"); n < 4 || n > 8 {
		t.Errorf("renewed %d times in 15 minutes", n)
	}
	w.wantLive("short", 1)
	w.sweepFor(2 * time.Second)
	w.wantLive("short", 0)
	if l := w.lease(got.Grant.ID); !l.Final() {
		t.Errorf("at the grant's end its lease is %s", l.State())
	}
}

// A lease of a grant that is over or locked is not renewed.
func TestNotRenewedWhen(t *testing.T) {
	for name, end := range map[string]func(w *world, g cred.Grant){
		"the grant is revoked": func(w *world, g cred.Grant) {
			_, _, err := w.Revoke(context.Background(), runner, g.ID, "")
			w.must(err)
		},
		"the target is locked": func(w *world, _ cred.Grant) {
			_, _, err := w.Lock(context.Background(), security, Lock{Target: "short", Reason: "an incident"}, 0)
			w.must(err)
		},
		"a lock is not yet enforced": func(w *world, _ cred.Grant) {
			w.store.plan(works, notDone) // it is written, and ends nothing
			_, _, err := w.Lock(context.Background(), security, Lock{Target: "short", Reason: "an incident"}, 0)
			w.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			got := w.short()
			end(w, got.Grant)
			w.clock.advance(3 * time.Minute)
			w.sweep()
			if n := w.sources["short"].count("renew"); n != 0 {
				t.Errorf("renewed %d times", n)
			}
			w.sweep()
			w.wantLive("short", 0)
		})
	}
}

// A lease that ended while no broker ran has ended, and its source is not asked.
func TestNotRenewedAfterItsEnd(t *testing.T) {
	w := newWorld(t)
	got := w.short()
	w.clock.advance(5 * time.Minute)
	w.sweep()
	w.wantState(w.lease(got.Grant.ID), cred.LeaseExpired)
	if n := w.sources["short"].count("renew"); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

// A lease that could be renewed, and that nobody can revoke, does not keep the sweep busy once its grant
// is over.
func TestStandingLeaseOfAGrantThatIsOver(t *testing.T) {
	w := newWorld(t)
	disk := &counted{}
	w.change = func(c *Config) { disk.Store, c.Store = c.Store, disk }
	w.start()
	w.sources["short"].stands = true
	got := w.short()
	_, _, err := w.Revoke(t.Context(), runner, got.Grant.ID, "")
	w.must(err)
	w.clock.advance(3 * time.Minute)
	w.sweep()
	before := disk.updates.Load()
	w.sweep()
	if n := disk.updates.Load() - before; n != 0 {
		t.Errorf("a sweep with nothing to do writes %d times", n)
	}
	w.clock.advance(time.Minute)
	w.sweep()
	w.wantState(w.lease(got.Grant.ID), cred.LeaseExpired)
}

// What a source answers, and what becomes of the lease.
func TestRenewalAnswers(t *testing.T) {
	due := func(t *testing.T) (*world, cred.GrantID) {
		w := newWorld(t)
		got := w.short()
		w.clock.advance(160 * time.Second)
		return w, got.Grant.ID
	}
	t.Run("not renewed", func(t *testing.T) {
		w, id := due(t)
		w.sources["short"].plan("renew", refusedOff)
		w.sweep()
		l := w.lease(id)
		if l.Renewable || l.Note != "this one is not renewed" || !l.End().Equal(noon.Add(4*time.Minute)) {
			t.Errorf("the lease %+v", l)
		}
		if e := w.lastOf(audit.LeaseNotRenewed); e.Lease.Note != l.Note {
			t.Errorf("recorded %+v", e.Lease)
		}
		w.sweepFor(80 * time.Second)
		w.wantState(w.lease(id), cred.LeaseExpired)
		if n := w.sources["short"].count("renew"); n != 1 {
			t.Errorf("asked %d times", n)
		}
		w.wantRenewals(audit.LeaseRenewing, audit.LeaseNotRenewed)
	})
	t.Run("gone", func(t *testing.T) {
		w, id := due(t)
		w.sources["short"].vanish()
		w.sweep()
		w.wantState(w.lease(id), cred.LeaseRevoked)
		if len(w.eventsOf(audit.LeaseMissing)) != 1 || w.sources["short"].count("revoke") != 1 {
			t.Error("it was not recorded as missing, or not revoked to be sure")
		}
		w.wantRenewals(audit.LeaseRenewing)
	})
	t.Run("no longer than this", func(t *testing.T) {
		w, id := due(t)
		w.sources["short"].longest = 4 * time.Minute
		w.sweep()
		if l := w.lease(id); l.Renewable || !l.NotAfter.Equal(noon.Add(4*time.Minute)) {
			t.Errorf("the lease %+v", l)
		}
		w.lastOf(audit.LeaseNotRenewed)
	})
	t.Run("no issuer of renewals", func(t *testing.T) {
		w, id := due(t)
		w.change = func(c *Config) { c.Issuers["short"] = c.Issuers["vault"] }
		w.start()
		w.sweep()
		if l := w.lease(id); l.Renewable {
			t.Errorf("the lease %+v", l)
		}
	})
	t.Run("not there", func(t *testing.T) { // tried again, with time between, and not forgotten
		w, id := due(t)
		for range 100 {
			w.sources["short"].plan("renew", notDone)
		}
		w.sweepFor(3 * time.Minute)
		if n := w.sources["short"].count("renew"); n < 4 || n > 30 {
			t.Errorf("tried %d times in 3 minutes", n)
		}
		l := w.lease(id) // its own end has passed, but one of the tries may have been done
		if l.State() != cred.LeaseIssued || !l.End().Equal(noon.Add(15*time.Minute)) {
			t.Errorf("the lease %+v", l)
		}
		w.wantRenewals(audit.LeaseRenewing) // once, however often it is tried
		w.sources["short"].forget("renew")
		w.sweepFor(time.Minute)
		w.wantState(w.lease(id), cred.LeaseExpired)
		if n := len(w.eventsOf(audit.LeaseMissing)); n != 0 {
			t.Errorf("an end that was to be expected is recorded as missing")
		}
	})
	t.Run("lost", func(t *testing.T) { // renewed, and nobody here knows: it is on record as long as it lives
		w, id := due(t)
		w.sources["short"].plan("renew", doneLost, notDone, notDone, notDone, notDone, notDone, notDone, notDone, notDone)
		w.sweep()
		w.sweepFor(90 * time.Second)
		w.wantLive("short", 1)
		w.wantState(w.lease(id), cred.LeaseIssued)
		w.check()
		w.sources["short"].forget("renew")
		w.sweepFor(time.Minute)
		if l := w.lease(id); !l.NotAfter.After(noon.Add(6*time.Minute)) || !l.AskedUntil.IsZero() {
			t.Errorf("the lease %+v", l)
		}
		w.wantRenewals(audit.LeaseRenewing, audit.LeaseRenewed)
	})
	t.Run("lost, then refused", func(t *testing.T) { // the doubt stays
		w, id := due(t)
		w.sources["short"].plan("renew", doneLost, refusedOff)
		w.sweep()
		w.sweepFor(30 * time.Second)
		if l := w.lease(id); l.Renewable || !l.End().Equal(noon.Add(15*time.Minute)) {
			t.Errorf("the lease %+v", l)
		}
		w.sweepFor(13 * time.Minute)
		w.wantLive("short", 0)
		w.check()
		w.wantRenewals(audit.LeaseRenewing, audit.LeaseNotRenewed)
	})
}

// vanish ends everything at a source, behind our back.
func (s *source) vanish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for handle, m := range s.made {
		m.revoked = true
		s.made[handle] = m
	}
}

// forget drops what was planned for a method.
func (s *source) forget(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next[method] = nil
}

// A grant that is revoked while the source renews leaves nothing.
func TestRevokedWhileRenewed(t *testing.T) {
	w := newWorld(t)
	got := w.short()
	w.change = func(c *Config) {
		c.Issuers["short"] = renewing{c.Issuers["short"].(fakeRenewer), func() {
			_, _, err := w.Revoke(context.Background(), runner, got.Grant.ID, "")
			w.must(err)
		}}
	}
	w.start()
	w.clock.advance(3 * time.Minute)
	w.sweep()
	w.wantState(w.lease(got.Grant.ID), cred.LeaseRevoked)
	w.wantLive("short", 0)
	if len(w.eventsOf(audit.LeaseRenewed)) != 0 {
		t.Error("a lease that was revoked is recorded as renewed")
	}
}

// renewing does something before each renewal's answer.
type renewing struct {
	fakeRenewer
	do func()
}

func (r renewing) Renew(ctx context.Context, l cred.Lease, until time.Time) (time.Time, error) {
	end, err := r.fakeRenewer.Renew(ctx, l, until)
	r.do()
	return end, err
}

// A renewal that dies anywhere, with a source or a store that fails in either form, is taken up by the
// next sweep; whatever lives is on record until it ends.
func TestRenewDiesAtEachStep(t *testing.T) {
	for _, f := range []fault{works, notDone, refusedOff, doneLost, doneOddly} {
		dieAtEachStep(t, "short", func(w *world) func() {
			w.short()
			w.sources["short"].plan("renew", f)
			w.clock.advance(160 * time.Second)
			return func() { _ = w.Sweep(context.Background()) }
		}, func(w *world) int {
			w.checkRenewals()
			return 1
		})
	}
	for n := range 4 { // the store fails in the nth write of the sweep
		for _, f := range []fault{notDone, doneLost} {
			w := newWorld(t)
			w.short()
			w.clock.advance(160 * time.Second)
			w.store.plan(append(make([]fault, n), f)...)
			_ = w.Sweep(t.Context())
			w.check()
			w.sweepFor(13 * time.Minute)
			w.checkRenewals()
			w.wantLive("short", 0)
		}
	}
}

// A source is asked only once the end that it is asked for is on record. A broker that dies before the
// answer is recorded leaves an intent without an outcome; the next one concludes it, and tells no second.
func TestDiedBetweenRenewalsIntentAndOutcome(t *testing.T) {
	died := 0
	for n := int64(0); ; n++ {
		w := newWorld(t)
		got := w.short()
		w.clock.advance(160 * time.Second)
		w.process.left.Store(n)
		if w.process.run(func() { _ = w.Sweep(context.Background()) }) {
			break
		}
		if at := w.process.at.Load(); at != "renew" && at != "renewed" {
			continue
		}
		died++
		w.wantRenewals(audit.LeaseRenewing)
		e := w.lastOf(audit.LeaseRenewing)
		if e.Grant != got.Grant.ID || e.Lease.ID != got.Redeemed.Lease.ID || !e.Lease.NotAfter.Equal(got.Redeemed.Lease.NotAfter) ||
			e.Detail["asked_until"] != got.Grant.NotAfter.Format(time.RFC3339Nano) {
			t.Errorf("recorded %+v, %v", e.Lease, e.Detail)
		}
		asked := w.sources["short"].count("renew")
		w.start()
		w.sweep()
		if n := w.sources["short"].count("renew"); n != asked {
			t.Errorf("asked %d times before it was due", n-asked)
		}
		w.clock.advance(20 * time.Second)
		w.sweep()
		w.wantRenewals(audit.LeaseRenewing, audit.LeaseRenewed)
	}
	if died != 2 {
		t.Errorf("it died %d times while the source was asked, want before and after it renewed", died)
	}
}

// A renewal that dies at each step is done again by the next broker, and lives to its grant's end.
func TestRenewalGoesOnAfterADeath(t *testing.T) {
	for n := int64(0); ; n++ {
		w := newWorld(t)
		got := w.short()
		w.clock.advance(160 * time.Second)
		w.process.left.Store(n)
		lived := w.process.run(func() { _ = w.Sweep(context.Background()) })
		w.start()
		w.sweepFor(15*time.Minute - 165*time.Second)
		l := w.lease(got.Grant.ID)
		if l.State() != cred.LeaseIssued || !l.NotAfter.Equal(got.Grant.NotAfter) {
			t.Errorf("step %d: the lease %+v", n, l)
		}
		w.wantLive("short", 1)
		w.checkRenewals()
		if lived {
			return
		}
	}
}

// Run renews by itself, in time.
func TestRunRenews(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		got, err := w.deliver("short")
		w.wantDelivered(got, err)
		w.sources["short"].plan("renew", hangs)
		for range 14 {
			time.Sleep(time.Minute)
			w.wantLive("short", 1)
		}
		time.Sleep(2 * time.Minute)
		w.wantLive("short", 0)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.check()
		w.close()
	})
}

// Sources round, and grants end between their seconds: a renewal that gains next to nothing is not made.
func TestRenewalGain(t *testing.T) {
	w := newWorld(t)
	g, _ := w.grant("short")
	for _, c := range []struct {
		left time.Duration // of the grant after the lease's end
		want bool
	}{{0, false}, {renewalGain, false}, {renewalGain + time.Millisecond, true}, {-time.Hour, false}} {
		l := cred.NewLease("le_1", g.ID, "holder", "short", "h", noon, g.NotAfter)
		l, err := l.Issued("h", cred.Fingerprint{1}, true, g.NotAfter.Add(-c.left))
		w.must(err)
		l.Renewable = true
		if got := w.renews(l, g); got != c.want {
			t.Errorf("%v before its grant's end: %v", c.left, got)
		}
	}
	g.NotAfter = noon.Add(24 * time.Hour)
	for _, left := range []time.Duration{-time.Second, 0, time.Second, time.Hour} {
		l := cred.Lease{NotAfter: noon.Add(left)}
		at, again := renewalDue(noon, l), renewalRetry(noon, l, g)
		if at.Before(noon.Add(time.Second)) || left > 2*time.Second && !at.Before(l.NotAfter) {
			t.Errorf("with %v left it is due after %v", left, at.Sub(noon))
		}
		if gap := again.Sub(noon); gap < 5*time.Second || gap > time.Minute {
			t.Errorf("with %v left it is tried again after %v", left, gap)
		}
	}
	g.NotAfter = noon.Add(time.Second)
	if at := renewalRetry(noon, cred.Lease{NotAfter: noon}, g); !at.Equal(g.NotAfter) {
		t.Errorf("at the grant's end it is not due, but at %s", at)
	}
}
