package broker

import (
	"context"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

func TestLock(t *testing.T) {
	agent := person("bot")
	agent.Kind = cred.KindAgent
	acting := runner
	acting.Subject, acting.Actor = "job-3", &agent
	for name, test := range map[string]struct {
		lock   Lock
		covers map[string]bool // "subject target"
	}{
		"a subject":             {Lock{Subject: "job-1"}, map[string]bool{"job-1 db": true, "job-1 plain": true}},
		"a subject of another":  {Lock{Subject: "job-1", Issuer: "https://other.example.com"}, nil},
		"an agent":              {Lock{Subject: "bot"}, nil},
		"a target":              {Lock{Target: "db"}, map[string]bool{"job-1 db": true, "job-2 db": true}},
		"a subject at a target": {Lock{Subject: "job-2", Target: "plain"}, map[string]bool{"job-2 plain": true}},
		"everything":            {Lock{}, map[string]bool{"job-1 db": true, "job-1 plain": true, "job-2 db": true, "job-2 plain": true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx := t.Context()
			live := map[string]cred.Grant{}
			for _, who := range []cred.Principal{runner, neighbour} {
				for _, target := range []string{"db", "plain"} {
					g, err := w.Exchange(ctx, as(who), cred.Request{Target: target})
					w.must(err)
					live[who.Subject+" "+target] = g
				}
			}
			_, err := w.RedeemGrant(ctx, runner, live["job-1 db"].ID)
			w.must(err)
			test.lock.Reason = "stolen"
			l, n, err := w.Lock(ctx, security, test.lock, 0)
			w.must(err)
			if n != len(test.covers) {
				t.Errorf("%d grants ended, want %d", n, len(test.covers))
			}
			for key, g := range live {
				got, _, err := w.GetGrant(ctx, auditor, g.ID)
				w.must(err)
				if ended := got.State() == cred.GrantRevoked; ended != test.covers[key] {
					t.Errorf("%s is %s", key, got.State())
				}
				_, err = w.Exchange(ctx, as(g.Holder), cred.Request{Target: g.Want.Target})
				if refused := cred.KindOf(err) == cred.Denied && err != nil; refused != test.covers[key] {
					t.Errorf("%s: asked again: %v", key, err)
				}
				_, err = w.RedeemGrant(ctx, g.Holder, g.ID)
				if refused := cred.KindOf(err) == cred.Denied && err != nil; refused != test.covers[key] {
					t.Errorf("%s: redeemed: %v", key, err)
				}
			}
			if test.covers["job-1 db"] {
				for _, l := range w.leasesOf(live["job-1 db"].ID) {
					w.wantState(l, cred.LeaseRevoked)
				}
			}
			w.start() // locks survive a restart
			all, err := w.ListLocks(ctx, auditor)
			w.must(err)
			if len(all) != 1 || !all[0].Enforced || all[0].SetBy.Subject != "guard" {
				t.Errorf("locks %+v", all)
			}
			_, err = w.Unlock(ctx, security, l.ID, "found")
			w.must(err)
			if e := w.lastOf(audit.LockLifted); e.Detail["why"] != "found" || e.Detail["lock"] != l.ID {
				t.Errorf("recorded %+v", e)
			}
			if _, err := w.Exchange(ctx, as(runner), cred.Request{Target: "db"}); err != nil {
				t.Errorf("after it was lifted: %v", err)
			}
		})
	}
}

func TestLockRefuses(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	_, _, err := w.Lock(ctx, auditor, Lock{Reason: "r"}, 0)
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	l, _, err := w.Lock(ctx, security, Lock{Target: "db", Reason: "r"}, time.Minute)
	w.must(err)
	_, err = w.Unlock(ctx, auditor, l.ID, "")
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	_, err = w.ListLocks(ctx, nosy)
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	_, err = w.Unlock(ctx, security, "lk_none", "")
	refusedAs(t, err, cred.NotFound, "LOCK_UNKNOWN")
	_, err = w.Exchange(ctx, as(runner), cred.Request{Target: "db"})
	refusedAs(t, err, cred.Denied, "LOCKED")
	if e := w.lastOf(audit.ExchangeDenied); e.Error.Reason != "LOCKED" {
		t.Errorf("recorded %+v", e.Error)
	}
	w.clock.advance(time.Minute)
	if _, err := w.Exchange(ctx, as(runner), cred.Request{Target: "db"}); err != nil {
		t.Errorf("after its end: %v", err)
	}
	w.sweep()
	if n := w.count(store.Locks); n != 0 || len(w.eventsOf(audit.LockLifted)) != 1 {
		t.Errorf("%d locks are left", n)
	}
}

// A lock that can't be read locks everything, until somebody lifts it.
func TestUnreadableLock(t *testing.T) {
	w := newWorld(t)
	key := store.Key{Table: store.Locks, ID: "lk_broken"}
	w.must(w.sealed.Update(t.Context(), func(tx store.Tx) error {
		return tx.Put(store.Record{Key: key, Value: []byte("{")})
	}))
	_, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db"})
	refusedAs(t, err, cred.Unavailable, "LOCK_UNREADABLE")
	if e := w.lastOf(audit.ExchangeDenied); e.Error.Reason != "LOCK_UNREADABLE" {
		t.Errorf("recorded %+v", e.Error)
	}
	_, err = w.Unlock(t.Context(), security, "lk_broken", "broken")
	w.must(err)
	if _, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db"}); err != nil {
		t.Error(err)
	}
}

// A process that dies anywhere in locking leaves what is locked without a grant that lives, once the
// next one has swept.
func TestLockDiesAtEachStep(t *testing.T) {
	dieAtEachStep(t, "db", func(w *world) func() {
		for range 2 {
			_, tok := w.grant("db")
			_, err := w.redeem("db", tok)
			w.must(err)
		}
		return func() { _, _, _ = w.Lock(context.Background(), security, Lock{Target: "db", Reason: "r"}, 0) }
	}, func(w *world) int {
		if w.count(store.Locks) == 0 {
			return 2 // it died before the lock was there
		}
		return 0
	})
}
