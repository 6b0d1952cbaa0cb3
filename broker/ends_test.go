package broker

import (
	"context"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// twoEnds is a source that tells the holder of a credential another end than the broker, as Google's and
// AWS' do.
type twoEnds struct {
	issuer.Issuer
	credential, lease time.Time
}

func (i twoEnds) Issue(ctx context.Context, s issuer.Spec) (cred.Credential, cred.Lease, error) {
	c, l, err := i.Issuer.Issue(ctx, s)
	c.NotAfter, l.NotAfter = i.credential, i.lease
	return c, l, err
}

// A lease's end, and that of what the broker mints for itself, is the latest at which the credential may
// live; its holder goes by the credential's own.
func TestLeaseEndsWhenItIsSurelyOver(t *testing.T) {
	soon, late := noon.Add(15*time.Minute), noon.Add(time.Hour)
	for name, tc := range map[string]struct{ credential, lease, want time.Time }{
		"the issuer knows better":             {soon, late, late},
		"the credential tells a later end":    {late, soon, late},
		"one that tells none, as static ones": {time.Time{}, late, late},
		"the issuer knows of no end":          {soon, time.Time{}, time.Time{}},
		"neither knows of one":                {time.Time{}, time.Time{}, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.sources["fixed"].endless, w.sources["fixed"].lifeAfter = tc.want.IsZero(), 45*time.Minute
			w.change = func(c *Config) { c.Issuers["fixed"] = twoEnds{c.Issuers["fixed"], tc.credential, tc.lease} }
			w.start()
			g, tok := w.grant("fixed")
			got, err := w.redeem("fixed", tok)
			w.must(err)
			if !got.Credential.NotAfter.Equal(tc.credential) || !got.Lease.NotAfter.Equal(tc.want) {
				t.Errorf("the holder is told %s, the lease ends %s", got.Credential.NotAfter, got.Lease.NotAfter)
			}
			own, err := w.mintOwn("fixed")
			w.must(err)
			if !own.lease.NotAfter.Equal(tc.want) {
				t.Errorf("what the broker has for itself ends %s", own.lease.NotAfter)
			}
			w.clock.advance(59 * time.Minute) // the grant is over
			w.sweep()
			w.wantState(w.lease(g.ID), cred.LeaseIssued)
			w.clock.advance(time.Minute)
			w.sweep()
			want := cred.LeaseExpired
			if tc.want.IsZero() {
				want = cred.LeaseIssued
			}
			w.wantState(w.lease(g.ID), want)
		})
	}
}
