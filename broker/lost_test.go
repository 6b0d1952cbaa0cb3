package broker

import (
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// losing is a source that can't find what an attempt made of which no answer came.
type losing struct{ issuer.Issuer }

func (losing) Lost(asked time.Time) (time.Time, string) {
	return asked.Add(time.Hour), "it ends by itself"
}

// What a killed broker may have made at such a source stays on record until the last end that it can
// have, beyond the end of its grant.
func TestLostStaysUntilItsEnd(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *Config) { c.Issuers["plain"] = losing{c.Issuers["plain"]} }
	w.start()
	g, tok := w.grant("plain")
	died := false
	for n := int64(0); n < 20 && !died; n++ { // until it dies between the intent and the outcome
		w.process.left.Store(n)
		if !w.process.run(func() { _, _ = w.redeem("plain", tok) }) {
			died = len(w.leasesOf(g.ID)) == 1 && w.lease(g.ID).State() == cred.LeaseIntent
			w.start()
		}
	}
	if !died {
		t.Fatal("it never died between the intent and the outcome")
	}
	w.clock.advance(time.Minute)
	w.sweep()
	l := w.lease(g.ID)
	w.wantState(l, cred.LeaseUnknown)
	if want := l.CreatedAt.Add(w.cfg.IssueTimeout + time.Hour); !l.NotAfter.Equal(want) || l.Note != "it ends by itself" {
		t.Errorf("it is unknown until %s (%s), want %s", l.NotAfter, l.Note, want)
	}
	if e := w.lastOf(audit.LeaseUnknown); !e.Lease.NotAfter.Equal(l.NotAfter) {
		t.Errorf("recorded %+v", e.Lease)
	}
	w.clock.advance(30 * time.Minute) // the grant is over
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseUnknown)
	w.clock.advance(time.Hour)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseExpired)
}
