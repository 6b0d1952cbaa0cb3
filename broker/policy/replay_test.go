package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// The rules as they were, and as they are to be.
const (
	rulesBefore = `
targets: [{ name: db, credential: { issuer: vault } }, { name: api, credential: { issuer: vault } }, { name: old, credential: { issuer: vault } }]
rules:
  - { name: team, who: '"team" in principal.groups', may: [{ target: db, scopes: [read, write] }, { target: old }], ttl: 1h }
  - { name: asks, who: '"team" in principal.groups', may: [{ target: api }], ttl: 1h, approval: { all_of: [{ group: leads }], within: 1h } }
`
	rulesAfter = `
targets: [{ name: db, credential: { issuer: vault } }, { name: api, credential: { issuer: vault } }]
rules:
  - { name: readers, who: '"team" in principal.groups', may: [{ target: db, scopes: [read] }], ttl: 1h }
  - { name: writers, who: '"team" in principal.groups', may: [{ target: db, scopes: [write] }], ttl: 1h, approval: { all_of: [{ group: leads }], within: 1h } }
  - { name: dropper, who: '"team" in principal.groups', may: [{ target: db, scopes: [drop] }], ttl: 1h }
  - { name: gives, who: '"team" in principal.groups', may: [{ target: api }], ttl: 1h }
  - { name: asks, who: '"team" in principal.groups', may: [{ target: api, scopes: [two] }], ttl: 1h, approval: { all_of: [{ group: leads, count: 2 }], within: 1h } }
`
)

// recordedBy is the record of what a rule set says now.
func recordedBy(s *Set, who cred.Principal, want cred.Request, at time.Time) Recorded {
	d := s.Decide(who, want, at)
	return Recorded{
		Who: who, Want: want, At: at, Allowed: d.Allowed,
		Rule: d.Private.Rule, Reason: d.Private.Reason, Demand: d.Demand, Exempt: d.Exempt,
	}
}

func TestReplay(t *testing.T) {
	before, after := compiled(t, rulesBefore), compiled(t, rulesAfter)
	ann := cred.Principal{Provider: "okta", Issuer: "https://okta.example.com", Subject: "ann", Groups: []string{"team"}}
	nobody := cred.Principal{Provider: "okta", Issuer: "https://okta.example.com", Subject: "bob", Groups: []string{}}
	two := cred.Demand{AllOf: []cred.Quorum{{Group: "leads", Count: 1}}, Within: time.Hour}
	for _, c := range []struct {
		name string
		who  cred.Principal
		want cred.Request
		old  func(Recorded) Recorded
		is   Difference
	}{
		{"allowed by a rule of another name", ann, cred.Request{Target: "db", Scopes: []string{"read"}}, nil, OtherRule},
		{"allowed, and now asked", ann, cred.Request{Target: "db", Scopes: []string{"write"}}, nil, NewlyAsked},
		{"refused, and now allowed", ann, cred.Request{Target: "db", Scopes: []string{"drop"}}, nil, NewlyAllowed},
		{"the target is gone", ann, cred.Request{Target: "old"}, nil, NewlyRefused},
		{"asked, and now not", ann, cred.Request{Target: "api"}, nil, NoLongerAsked},
		{"refused, and now asked", ann, cred.Request{Target: "api", Scopes: []string{"two"}}, nil, NewlyAsked},
		{"refused both times, by whichever rule", nobody, cred.Request{Target: "db"}, nil, Same},
		{"more people are asked", ann, cred.Request{Target: "api", Scopes: []string{"two"}}, func(r Recorded) Recorded {
			r.Allowed, r.Rule, r.Demand = true, "asks", &two
			return r
		}, AskedOtherwise},
		{"a standing approval is people's word", ann, cred.Request{Target: "api", Scopes: []string{"two"}}, func(r Recorded) Recorded {
			r.Allowed, r.Rule, r.Exempt = true, "asks", "standing/sa_1"
			return r
		}, Same},
		{"a standing approval that is not needed any more", ann, cred.Request{Target: "api"}, func(r Recorded) Recorded {
			r.Allowed, r.Rule, r.Exempt = true, "asks", "standing/sa_1"
			return r
		}, NoLongerAsked},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := recordedBy(before, c.who, c.want, noon)
			if c.old != nil {
				r = c.old(r)
			}
			d, got := after.Replay(r)
			if got != c.is {
				t.Errorf("%s, want %s; now %s by %q", got, c.is, d.Outcome(), d.Private.Rule)
			}
		})
	}
}

// TestReplayOfItself: what a rule set said is what it says again.
func TestReplayOfItself(t *testing.T) {
	sets := []*Set{compiled(t, rulesBefore), compiled(t, rulesAfter), compiled(t, casedRules)}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(sets).Draw(t, "set")
		who := cred.Principal{
			Provider: rapid.SampledFrom([]string{"okta", "ci"}).Draw(t, "provider"), Subject: "s",
			Groups: rapid.SampledFrom([][]string{nil, {}, {"team"}, {"leads"}}).Draw(t, "groups"),
			Claims: map[string]any{"ref": rapid.SampledFrom([]string{"refs/heads/main", "x"}).Draw(t, "ref")},
		}
		want := cred.Request{
			Target: rapid.SampledFrom([]string{"db", "api", "old", "none"}).Draw(t, "target"),
			Scopes: rapid.SliceOfN(rapid.SampledFrom([]string{"read", "write", "drop", "two"}), 0, 2).Draw(t, "scopes"),
			Params: rapid.SampledFrom([]map[string]string{nil, {"region": "eu"}, {"region": "us"}}).Draw(t, "params"),
		}
		at := noon.Add(time.Duration(rapid.IntRange(0, 100_000).Draw(t, "hours")) * time.Hour)
		if _, got := s.Replay(recordedBy(s, who, want, at)); got != Same {
			t.Errorf("a decision replayed on its own rules is %s", got)
		}
	})
}
