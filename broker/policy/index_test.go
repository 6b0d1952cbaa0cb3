package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

// TestFirstRuleDecidesAcrossIndexes: rules that different indexes hold, and none, are tried in file order.
func TestFirstRuleDecidesAcrossIndexes(t *testing.T) {
	s := compiled(t, `
targets: [ { name: t, credential: { issuer: i } } ]
rules:
  - { name: by-claim, who: principal.claims.a == "1", may: [ { target: t } ], ttl: 1m }
  - { name: by-subject, who: principal.subject == "s", may: [ { target: t } ], ttl: 1m }
  - { name: by-claim-too, who: principal.claims.a == "2", may: [ { target: t } ], ttl: 1m }
  - { name: by-none, who: principal.name.startsWith("n"), may: [ { target: t } ], ttl: 1m }
  - { name: by-subject-too, who: principal.subject == "r", may: [ { target: t } ], ttl: 1m }
`)
	for _, c := range []struct{ claim, subject, name, want string }{
		{"1", "s", "n", "by-claim"}, {"2", "s", "n", "by-subject"}, {"2", "r", "n", "by-claim-too"}, {"3", "r", "n", "by-none"}, {"3", "r", "x", "by-subject-too"},
	} {
		who := cred.Principal{Subject: c.subject, Name: c.name, Claims: map[string]any{"a": c.claim}}
		if d := s.Decide(who, cred.Request{Target: "t"}, noon); d.Rule != c.want {
			t.Errorf("%+v: rule %q", c, d.Rule)
		}
	}
}

// TestOffersLeaveOutWhatIsDenied: a target is not offered to whom a deny rule refuses all of it.
func TestOffersLeaveOutWhatIsDenied(t *testing.T) {
	s := compiled(t, `
targets: [ { name: all, credential: { issuer: i } }, { name: some, credential: { issuer: i } }, { name: asked, credential: { issuer: i } } ]
deny:
  - { name: a, who: principal.subject == "x", may: [ { target: all } ] }
  - { name: b, who: principal.subject == "x", may: [ { target: some, scopes: [write] } ] }
  - { name: c, who: 'principal.subject == "x" && request.reason == ""', may: [ { target: asked } ] }
rules: [ { name: r, who: "true", may: [ { target: "*" } ], ttl: 1m } ]
`)
	for subject, want := range map[string][]string{"x": {"asked", "some"}, "y": {"all", "asked", "some"}} {
		var got []string
		for _, o := range s.Offers(cred.Principal{Subject: subject}, noon) {
			got = append(got, o.Target.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", subject, diff)
		}
	}
}
