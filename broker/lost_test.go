package broker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// losing is a source that can't find what an attempt made of which no answer came. It lives so long, where
// that is known.
type losing struct {
	issuer.Issuer
	life time.Duration
}

func (l losing) Lost(asked time.Time) (time.Time, string) {
	if l.life == 0 {
		return time.Time{}, "nobody knows when it ends"
	}
	return asked.Add(l.life), "it ends by itself"
}

// lose has a broker die between the intent and the outcome at such a source, and starts another.
func (w *world) lose(life time.Duration) cred.GrantID {
	w.t.Helper()
	w.change = func(c *Config) { c.Issuers["plain"] = losing{c.Issuers["plain"], life} }
	w.start()
	g, tok := w.grant("plain")
	for n := range int64(20) {
		w.process.left.Store(n)
		if !w.process.run(func() { _, _ = w.redeem("plain", tok) }) {
			w.start()
			if all := w.leasesOf(g.ID); len(all) == 1 && all[0].State() == cred.LeaseIntent {
				return g.ID
			}
		}
	}
	w.t.Fatalf("it never died between the intent and the outcome")
	return ""
}

// What a killed broker may have made at such a source stays on record until the last end that it can
// have, beyond the end of its grant.
func TestLostStaysUntilItsEnd(t *testing.T) {
	w := newWorld(t)
	id := w.lose(time.Hour)
	w.clock.advance(time.Minute)
	w.sweep()
	l := w.lease(id)
	w.wantState(l, cred.LeaseUnknown)
	if want := l.CreatedAt.Add(w.cfg.IssueTimeout + time.Hour); !l.NotAfter.Equal(want) || l.Note != "it ends by itself" {
		t.Errorf("it is unknown until %s (%s), want %s", l.NotAfter, l.Note, want)
	}
	if e := w.lastOf(audit.LeaseUnknown); !e.Lease.NotAfter.Equal(l.NotAfter) {
		t.Errorf("recorded %+v", e.Lease)
	}
	w.clock.advance(30 * time.Minute) // the grant is over
	w.sweep()
	w.wantState(w.lease(id), cred.LeaseUnknown)
	w.clock.advance(time.Hour)
	w.sweep()
	w.wantState(w.lease(id), cred.LeaseExpired)
}

// Where nothing bounds how long it lives it stays on record, and its source, which can't find it, is not
// asked.
func TestLostWithoutAnEndStays(t *testing.T) {
	w := newWorld(t)
	id := w.lose(0)
	w.clock.advance(time.Minute)
	w.sweep()
	if e := w.lastOf(audit.LeaseUnknown); !e.Lease.NotAfter.IsZero() {
		t.Errorf("recorded %+v", e.Lease)
	}
	w.clock.advance(10 * 365 * 24 * time.Hour)
	w.sweep()
	all := w.unknown()
	if len(all) != 1 || all[0].Grant != id || !all[0].End().IsZero() || all[0].Note != "nobody knows when it ends" {
		t.Errorf("unknown are %+v", all)
	}
	if n := w.sources["plain"].count("revoke"); n != 0 {
		t.Errorf("its source was asked %d times", n)
	}
}

// outliving is a source that can't end what may have been made under a reservation, and tells how long it
// may live.
type outliving struct {
	fakeReserver
	until time.Time
}

func (i outliving) Revoke(ctx context.Context, l cred.Lease) error {
	err := i.fakeReserver.Revoke(ctx, l)
	if err == nil {
		err = cred.Errorf(cred.Invalid, "fake.revoke", "it may live on", "no lease")
	}
	return &issuer.LivesError{Until: i.until, Err: err}
}

// What a reservation may have made is on record until the last end that it can have, beyond the end of its
// grant, also where the source answers only after that.
func TestOutlivesItsReservation(t *testing.T) {
	for name, answers := range map[string][]fault{"at once": nil, "after the grant's end": {notDone}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.change = func(c *Config) {
				c.Issuers["vault"] = outliving{c.Issuers["vault"].(fakeReserver), noon.Add(time.Hour)}
			}
			w.start()
			g, tok := w.grant("db") // for a quarter of an hour
			w.sources["vault"].plan("issue", doneLost)
			w.sources["vault"].plan("revoke", answers...)
			if _, err := w.redeem("db", tok); cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
				t.Fatal(err)
			}
			if answers == nil {
				w.wantState(w.lease(g.ID), cred.LeaseUnknown)
			}
			w.clock.advance(20 * time.Minute)
			w.sweep()
			l := w.lease(g.ID)
			w.wantState(l, cred.LeaseUnknown)
			e := w.eventsOf(audit.LeaseUnknown)
			if !l.NotAfter.Equal(noon.Add(time.Hour)) || len(e) != 1 || !e[0].Lease.NotAfter.Equal(l.NotAfter) || l.Note != "it may live on" {
				t.Errorf("it is unknown until %s (%s), recorded %+v", l.NotAfter, l.Note, e)
			}
			w.clock.advance(40 * time.Minute)
			w.sweep()
			w.wantState(w.lease(g.ID), cred.LeaseExpired)
		})
	}
}
