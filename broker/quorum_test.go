package broker

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// TestQuorum lets people ask, agree, refuse, come for what was approved, take it back and wait, in any
// order, with processes that die at any step and a store that fails. What the log tells after each
// step is held against the rule in plain words: nothing is granted without the people that it takes,
// by or for one of those who agreed, twice, after its deadline, or once somebody refused.
func TestQuorum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "daypass")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c := &clock{at: noon}
		s := &story{t: t, world: buildWorld(t, dir, c.now)}
		s.clock = c
		defer func() { _ = s.disk.Close() }()
		p := &panel{story: s}
		for range rapid.IntRange(1, 30).Draw(t, "length") {
			if do := p.draw(); !s.process.run(do) {
				s.start()
			}
			s.check()
			p.checkQuorum()
		}
		s.recover()
		p.checkQuorum()
	})
}

// panel is a story about approvals.
type panel struct {
	*story
	asked []cred.Grant
}

var panelists = []cred.Principal{lead, second, guard, both, nosy, runner}

func (p *panel) draw() func() {
	t := p.t
	key := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key")
	n := rapid.IntRange(0, 2).Draw(t, "request, from the last")
	who := rapid.SampledFrom(panelists).Draw(t, "who")
	ctx := context.Background()
	pick := func() (cred.Grant, bool) {
		if n >= len(p.asked) {
			return cred.Grant{}, false
		}
		return p.asked[len(p.asked)-1-n], true
	}
	switch rapid.IntRange(0, 11).Draw(t, "step") {
	case 0, 1:
		return func() {
			want := deploy
			want.IdempotencyKey = key
			g, err := p.Exchange(ctx, as(who), want)
			if p.told(err); err == nil {
				p.asked = append(p.asked, g)
			}
		}
	case 2, 3, 4, 5:
		approve := rapid.IntRange(0, 5).Draw(t, "refuses at zero") > 0
		return func() {
			if g, ok := pick(); ok {
				_, err := p.Review(ctx, p.signedIn(who), g.ID, g.Digest, cred.Verdict{Approve: approve})
				p.told(err)
			}
		}
	case 6, 7:
		return func() {
			if g, ok := pick(); ok {
				_, err := p.Claim(ctx, as(g.Holder), g.ID, deploy)
				p.told(err)
			}
		}
	case 8:
		return func() {
			if g, ok := pick(); ok {
				_, _, err := p.Revoke(ctx, g.Holder, g.ID, "")
				p.told(err)
			}
		}
	case 9:
		return func() { p.told(p.Sweep(ctx)) }
	case 10:
		d := rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Minute, 59 * time.Minute}).Draw(t, "advance")
		return func() { p.clock.advance(d) }
	default:
		steps := rapid.Int64Range(0, 6).Draw(t, "dies after")
		return func() { p.process.left.Store(steps) }
	}
}

// checkQuorum reads the log with no help of the code under test.
func (p *panel) checkQuorum() {
	p.world.t.Helper()
	type request struct {
		by       string
		deadline time.Time
		agreed   []audit.Approval
		refused  bool
		granted  int
	}
	all := map[cred.GrantID]*request{}
	for i, e := range p.events() {
		switch e.Kind {
		case audit.ExchangePending:
			all[e.Grant] = &request{by: e.Principal.Subject, deadline: e.Time.Add(time.Hour)}
		case audit.RequestReviewed:
			r := all[e.Grant]
			r.refused = r.refused || !e.Approvals[0].Approve
			r.agreed = append(r.agreed, e.Approvals[0])
		case audit.ExchangeGranted:
			r := all[e.Grant]
			switch {
			case r == nil:
				p.t.Fatalf("entry %d: granted without a request", i)
			case r.granted > 0:
				p.t.Fatalf("entry %d: granted twice", i)
			case r.refused:
				p.t.Fatalf("entry %d: granted after a refusal", i)
			case !e.Time.Before(r.deadline):
				p.t.Fatalf("entry %d: granted at %s, after %s", i, e.Time, r.deadline)
			case !suffices(r.by, r.agreed):
				p.t.Fatalf("entry %d: granted on the word of %+v", i, r.agreed)
			}
			r.granted++
		}
	}
}

// suffices reports whether a lead and another person of the security team agreed, neither of them who
// asks.
func suffices(by string, agreed []audit.Approval) bool {
	is := func(a audit.Approval, group string) bool {
		return a.Approve && a.By.Subject != by && slices.Contains(a.By.Groups, group)
	}
	for _, one := range agreed {
		for _, other := range agreed {
			if one.By.Subject != other.By.Subject && is(one, "leads") && is(other, "secteam") {
				return true
			}
		}
	}
	return false
}
