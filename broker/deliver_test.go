package broker

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// counted is a store that counts how often a caller waits for the disk.
type counted struct {
	store.Store
	updates atomic.Int64
}

func (s *counted) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.updates.Add(1)
	return s.Store.Update(ctx, fn)
}

// deliver delivers to the runner.
func (w *world) deliver(target string) (Delivered, error) {
	return w.Deliver(context.Background(), as(runner), cred.Request{Target: target}, "")
}

// wantDelivered wants a credential that lives under a grant, by a lease that is on record as issued.
func (w *world) wantDelivered(got Delivered, err error) {
	w.t.Helper()
	w.must(err)
	if got.Redeemed == nil || got.Token.IsZero() || got.Redeemed.Grant.ID != got.Grant.ID {
		w.t.Fatalf("delivered %+v", got)
	}
	w.tokens = append(w.tokens, got.Token.RevealString())
	l := got.Redeemed.Lease
	w.wantState(l, cred.LeaseIssued)
	if secret := got.Redeemed.Credential.Fields["token"]; l.Fingerprint != got.Redeemed.Credential.Fingerprint() || secret.IsZero() {
		w.t.Errorf("the lease %+v is not of what was delivered", l)
	}
	if all := w.leasesOf(got.Grant.ID); len(all) == 0 || all[len(all)-1].ID != l.ID || all[len(all)-1].Redeemer != "holder" {
		w.t.Errorf("on record: %+v", all)
	}
}

// A new grant and the intent of its lease are one wait for the disk, the outcome is the second.
func TestDeliverWaitsTwice(t *testing.T) {
	for _, target := range []string{"db", "plain"} { // a source that reserves and one that does not
		t.Run(target, func(t *testing.T) {
			w := newWorld(t)
			disk := &counted{}
			w.change = func(c *Config) { disk.Store, c.Store = c.Store, disk }
			w.start()
			before := disk.updates.Load()
			got, err := w.deliver(target)
			w.wantDelivered(got, err)
			if n := disk.updates.Load() - before; n != 2 {
				t.Errorf("it waited for the disk %d times, want 2", n)
			}
			var kinds []audit.Kind
			for _, e := range w.events()[2:] {
				if e.Grant == got.Grant.ID {
					kinds = append(kinds, e.Kind)
				}
			}
			if want := []audit.Kind{audit.ExchangeGranted, audit.LeaseIntent, audit.LeaseIssued}; !slices.Equal(kinds, want) {
				t.Errorf("recorded %v, want %v", kinds, want)
			}
			w.wantLive(sourceOf(target), 1)
		})
	}
}

func TestDeliverThroughAProxy(t *testing.T) {
	w := newWorld(t)
	got, err := w.deliver("api")
	w.must(err)
	if got.Redeemed != nil || got.Token.IsZero() || len(w.leasesOf(got.Grant.ID)) != 0 || w.sources["vault"].count("reserve") != 0 {
		t.Errorf("delivered %+v", got)
	}
}

// A retry finds the grant and gives up what the first try got.
func TestDeliverRetry(t *testing.T) {
	w := newWorld(t)
	want := cred.Request{Target: "db", IdempotencyKey: "k"}
	first, err := w.Deliver(t.Context(), as(runner), want, "")
	w.wantDelivered(first, err)
	w.clock.advance(time.Millisecond) // IDs of one millisecond are in no order
	again, err := w.Deliver(t.Context(), as(runner), want, "")
	w.wantDelivered(again, err)
	if again.Grant.ID != first.Grant.ID || again.Redeemed.Lease.ID == first.Redeemed.Lease.ID {
		t.Errorf("the retry got %s of %s, the first try %s of %s", again.Redeemed.Lease.ID, again.Grant.ID, first.Redeemed.Lease.ID, first.Grant.ID)
	}
	w.wantLive("vault", 1)
	w.wantState(w.leasesOf(first.Grant.ID)[0], cred.LeaseRevoked)
	if n := w.sources["vault"].count("reserve"); n != 2 {
		t.Errorf("%d reservations, want one for each lease", n)
	}
}

// What Exchange refuses Deliver refuses, for the same reason, recorded the same, and the source hears
// nothing of it.
func TestDeliverRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		target  string
		who     cred.Principal
		prepare func(w *world)
	}{
		"no such target": {"absent", runner, nil},
		"not allowed":    {"hidden", runner, nil},
		"nobody's rule":  {"db", nosy, nil},
		"a quota":        {"rare", runner, func(w *world) { w.mustDeliver("rare"); w.mustDeliver("rare") }},
		"a lock": {"db", runner, func(w *world) {
			_, _, err := w.Lock(context.Background(), security, Lock{Target: "db", Reason: "an incident"}, 0)
			w.must(err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.prepare != nil {
				c.prepare(w)
			}
			reserved := w.sources["vault"].count("reserve")
			_, want := w.Exchange(t.Context(), as(c.who), cred.Request{Target: c.target})
			first := w.lastOf(audit.ExchangeDenied)
			_, got := w.Deliver(t.Context(), as(c.who), cred.Request{Target: c.target}, "")
			second := w.lastOf(audit.ExchangeDenied)
			if want == nil || got == nil || cred.PublicText(got) != cred.PublicText(want) || cred.KindOf(got) != cred.KindOf(want) {
				t.Errorf("refused with %v, and Exchange with %v", got, want)
			}
			if second.Error == nil || *second.Error != *first.Error || second.Request.Digest != first.Request.Digest {
				t.Errorf("recorded %+v, and for Exchange %+v", second.Error, first.Error)
			}
			if n := w.sources["vault"].count("reserve"); n != reserved {
				t.Errorf("the source was asked to reserve for what is refused")
			}
		})
	}
}

func (w *world) mustDeliver(target string) {
	w.t.Helper()
	got, err := w.deliver(target)
	w.wantDelivered(got, err)
}

// A token that counts once and is spent reserves nothing.
func TestDeliverSpends(t *testing.T) {
	w := newWorld(t)
	who := as(runner)
	who.once = []onceToken{{hashOf("ci", "jti"), noon.Add(time.Hour)}}
	got, err := w.Deliver(t.Context(), who, cred.Request{Target: "db"}, "")
	w.wantDelivered(got, err)
	_, err = w.Deliver(t.Context(), who, cred.Request{Target: "db"}, "")
	refusedAs(t, err, cred.Unauthenticated, "TOKEN_REPLAYED")
	if n := w.sources["vault"].count("reserve"); n != 1 {
		t.Errorf("%d reservations, want one", n)
	}
}

// An approval is used up in the transaction that writes the intent, by ID and by retry.
func TestDeliverClaims(t *testing.T) {
	for name, claim := range map[string]func(w *world, want cred.Request, id cred.GrantID) (Delivered, error){
		"by ID": func(w *world, want cred.Request, id cred.GrantID) (Delivered, error) {
			return w.Deliver(context.Background(), as(runner), want, id)
		},
		"by retry": func(w *world, want cred.Request, _ cred.GrantID) (Delivered, error) {
			return w.Deliver(context.Background(), as(runner), want, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			want := deploy
			want.IdempotencyKey = "k"
			asked, err := w.Deliver(t.Context(), as(runner), want, "")
			w.must(err)
			if asked.Grant.State() != cred.GrantPending || asked.Redeemed != nil || w.sources["vault"].count("reserve") != 0 {
				t.Fatalf("a request was delivered: %+v", asked)
			}
			_, err = w.review(both, asked.Grant, true)
			w.must(err)
			_, err = w.review(lead, asked.Grant, true)
			w.must(err)
			w.store.plan(doneLost) // the answer to the claim is lost, and so is who claimed
			_, err = claim(w, want, asked.Grant.ID)
			if cred.KindOf(err) != cred.Unavailable {
				t.Fatalf("a lost answer is %v", err)
			}
			w.wantState(w.lease(asked.Grant.ID), cred.LeaseIntent)
			w.clock.advance(20 * time.Second)
			got, err := claim(w, want, asked.Grant.ID)
			w.wantDelivered(got, err)
			w.wantLive("vault", 1)
		})
	}
}

// A source that reserves nothing leaves the grant, as it does where a grant is redeemed later.
func TestDeliverReservesNothing(t *testing.T) {
	w := newWorld(t)
	want := cred.Request{Target: "db", IdempotencyKey: "k"}
	w.sources["vault"].plan("reserve", notDone)
	_, err := w.Deliver(t.Context(), as(runner), want, "")
	if cred.KindOf(err) != cred.Unavailable {
		t.Fatalf("got %v", err)
	}
	granted := w.lastOf(audit.ExchangeGranted)
	if len(w.leasesOf(granted.Grant)) != 0 {
		t.Error("there is a lease")
	}
	got, err := w.Deliver(t.Context(), as(runner), want, "")
	w.wantDelivered(got, err)
	if got.Grant.ID != granted.Grant {
		t.Error("the retry made another grant")
	}
}

// What happens between the reservation and the grant is found by the transaction.
func TestDeliverMeetsChange(t *testing.T) {
	between := func(w *world, do func()) {
		w.change = func(c *Config) { c.Issuers["vault"] = meddler{c.Issuers["vault"].(fakeReserver), do} }
		w.start()
	}
	t.Run("a lock", func(t *testing.T) {
		w := newWorld(t)
		between(w, func() {
			_, _, err := w.Lock(context.Background(), security, Lock{Target: "db", Reason: "an incident"}, 0)
			w.must(err)
		})
		_, err := w.deliver("db")
		refusedAs(t, err, cred.Denied, "LOCKED")
		w.wantLive("vault", 0)
		if w.count(store.Grants) != 0 || w.count(store.Leases) != 0 {
			t.Error("something was granted")
		}
	})
	t.Run("the same try", func(t *testing.T) {
		w := newWorld(t)
		want := cred.Request{Target: "db", IdempotencyKey: "k"}
		var other cred.Grant
		between(w, func() {
			var err error
			other, err = w.Exchange(context.Background(), as(runner), want)
			w.must(err)
		})
		got, err := w.Deliver(t.Context(), as(runner), want, "")
		w.wantDelivered(got, err)
		if got.Grant.ID != other.ID || w.count(store.Grants) != 1 {
			t.Error("one key made two grants")
		}
		w.wantLive("vault", 1)
	})
	t.Run("time", func(t *testing.T) { // nothing is issued for a grant that ended while its source reserved
		w := newWorld(t)
		between(w, func() { w.clock.advance(15 * time.Minute) })
		_, err := w.deliver("db")
		refusedAs(t, err, cred.Expired, "GRANT_EXPIRED")
		w.wantLive("vault", 0)
		w.lastOf(audit.ExchangeGranted) // it was granted, and is on record
	})
}

// meddler does something once, after a reservation.
type meddler struct {
	fakeReserver
	do func()
}

func (m meddler) Reserve(ctx context.Context, spec issuer.Spec) (string, error) {
	handle, err := m.fakeReserver.Reserve(ctx, spec)
	if m.count("reserve") == 1 {
		m.do()
	}
	return handle, err
}

// A standing approval bounds what is reserved and issued.
func TestDeliverStanding(t *testing.T) {
	w := newWorld(t)
	draft := standing()
	draft.NotAfter = noon.Add(10 * time.Minute) // the rule would give half an hour
	s, err := w.Propose(t.Context(), w.signedIn(lead), draft)
	w.must(err)
	_, err = w.ReviewStanding(t.Context(), w.signedIn(guard), s.ID, s.Digest(), cred.Verdict{Approve: true})
	w.must(err)
	got, err := w.Deliver(t.Context(), as(repository), deploy, "")
	w.wantDelivered(got, err)
	if !got.Redeemed.Lease.NotAfter.Equal(draft.NotAfter) || w.sources["vault"].count("reserve") != 1 {
		t.Errorf("the lease ends %s", got.Redeemed.Lease.NotAfter)
	}
	if e := w.eventsOf(audit.ExchangeGranted)[0]; e.Decision.Exempt != "standing/"+s.ID {
		t.Errorf("exempt by %q", e.Decision.Exempt)
	}
}

// A process that dies anywhere in a delivery leaves nothing that nobody knows of.
func TestDeliverDiesAtEachStep(t *testing.T) {
	for _, target := range []string{"db", "plain", "endless", "long"} {
		dieAtEachStep(t, target, func(w *world) func() {
			return func() { _, _ = w.deliver(target) }
		}, func(w *world) int { return 1 })
	}
}

// A store and sources that fail in either form leave no secret with an error, and nothing unknown to
// the log.
func TestDeliverFaults(t *testing.T) {
	for _, target := range []string{"db", "plain", "long"} {
		for _, f := range []fault{notDone, refusedOff, doneLost, doneOddly} {
			w := newWorld(t)
			w.sources[sourceOf(target)].plan("issue", f)
			if got, err := w.deliver(target); err == nil || got.Redeemed != nil || !got.Token.IsZero() {
				t.Errorf("%s: %+v, %v", target, got, err)
			}
			w.check()
		}
		for before := range 2 {
			for _, f := range []fault{notDone, doneLost} {
				w := newWorld(t)
				w.store.plan(append(make([]fault, before), f)...)
				if got, err := w.deliver(target); cred.KindOf(err) != cred.Unavailable || got.Redeemed != nil || !got.Token.IsZero() {
					t.Errorf("%s: %+v, %v", target, got, err)
				}
				w.check()
				w.clock.advance(time.Minute)
				w.sweep()
				w.check()
				if n := len(w.sources[sourceOf(target)].live()); n > 0 {
					t.Errorf("%s: %d live, and nobody has them", target, n)
				}
			}
		}
	}
}
