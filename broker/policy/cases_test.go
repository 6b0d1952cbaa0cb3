package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

const casedRules = `
targets:
  - { name: db, credential: { issuer: vault } }
  - { name: api, credential: { issuer: vault }, http: { upstream: "https://api.example.com" } }
rules:
  - name: main
    who: principal.provider == "ci" && principal.claims.ref == "refs/heads/main"
    may: [{ target: db, scopes: [read] }]
    ttl: 15m
  - name: people
    who: principal.provider == "okta" && "leads" in principal.groups && now < timestamp("2030-01-01T00:00:00Z")
    may: [{ target: api, params: { region: { one_of: [eu] } } }]
    ttl: 1h
    approval: { all_of: [{ group: security, count: 2 }], any_of: [{ group: a }, { group: b }], within: 2h }
`

// identifyFor stands in for the providers' own reading of claims.
func identifyFor(provider string, claims map[string]any) (cred.Principal, error) {
	if provider == "none" {
		return cred.Principal{}, &cred.Error{Kind: cred.Invalid, Public: "there is no such provider"}
	}
	sub, _ := claims["sub"].(string)
	return cred.Principal{Provider: provider, Subject: sub, Kind: cred.KindPerson, Claims: claims}, nil
}

// testCase decides one case, written without its list.
func testCase(t *testing.T, text string) CaseResult {
	t.Helper()
	cases, problems := ParseCases("cases.yaml", []byte("cases:\n  - name: it\n    "+strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")+"\n"))
	if len(problems) > 0 || len(cases) != 1 {
		t.Fatal(problems)
	}
	return compiled(t, casedRules).Test(cases[0], identifyFor, noon)
}

func TestCases(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []Mismatch
	}{
		{"as expected", `
who: { provider: ci, claims: { ref: refs/heads/main } }
wants: { target: db, scopes: [read], ttl: 10m }
expects: { decision: allowed, rule: main, ttl: 10m, deliver: direct }`, nil},
		{"every difference", `
who: { provider: ci, claims: { ref: refs/heads/main } }
wants: { target: db, scopes: [read] }
expects: { decision: pending, rule: mean, ttl: 10m, deliver: proxy, exempt: break_glass, approval: { all_of: [{ group: leads }] } }`, []Mismatch{
			{"decision", "pending", "allowed"},
			{"rule", "mean", "main"},
			{"approval", "1 of leads", "nobody"},
			{"exempt", "break_glass", ""},
			{"ttl", "10m", "15m"},
			{"deliver", "proxy", "direct"},
		}},
		{"a refusal with its reason", `
who: { provider: ci, claims: { ref: refs/heads/dev } }
wants: { target: db }
expects: { decision: denied, rule: main, reason: NO_RULE_MATCHES }`, nil},
		{"another reason", `
who: { provider: ci, claims: { ref: refs/heads/main } }
wants: { target: db, scopes: [write] }
expects: { decision: denied, reason: NO_RULE_MATCHES }`, []Mismatch{{"reason", "NO_RULE_MATCHES", "SCOPE_NOT_ALLOWED"}}},
		{"approval, in any order", `
who: { provider: okta, principal: { subject: ann, groups: [leads] } }
wants: { target: api, params: { region: eu } }
expects: { decision: pending, approval: { any_of: [{ group: b }, { group: a }], all_of: [{ group: security, count: 2 }] } }`, nil},
		{"another count", `
who: { provider: okta, principal: { subject: ann, groups: [leads] } }
wants: { target: api, params: { region: eu } }
expects: { decision: pending, approval: { all_of: [{ group: security }] } }`, []Mismatch{
			{"approval", "1 of security", "2 of security and (1 of a or 1 of b)"},
		}},
		{"at another time", `
who: { provider: okta, principal: { subject: ann, groups: [leads] } }
wants: { target: api, params: { region: eu }, at: "2031-01-01T00:00:00Z" }
expects: { decision: pending }`, []Mismatch{{"decision", "pending", "denied"}}},
		{"no groups is not unknown groups", `
who: { provider: okta, principal: { subject: ann, groups: [] } }
wants: { target: api }
expects: { decision: denied, rule: people }`, nil},
		{"nobody", `
who: { provider: none, claims: {} }
wants: { target: db }
expects: { decision: denied }`, []Mismatch{{"who", "an identity", "none: there is no such provider"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, testCase(t, c.text).Wrong); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCaseWho: a case's caller is what is written, its agent and the kinds of claims included.
func TestCaseWho(t *testing.T) {
	cases, problems := ParseCases("cases.yaml", []byte(`
cases:
  - name: all of it
    who:
      provider: okta
      principal: { subject: ann, name: Ann, kind: agent, groups: [], claims: { n: 7, h: 0x10, f: 1.5, b: true, z: null, l: [a, 1], m: { k: v } } }
      actor: { provider: ci, claims: { sub: bot } }
    wants: { target: db, scopes: [a], params: { p: v }, ttl: 1m, reason: why, binding: dpop }
    expects: { decision: denied }
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	who, err := cases[0].Who.principal(identifyFor)
	if err != nil {
		t.Fatal(err)
	}
	want := cred.Principal{
		Provider: "okta", Subject: "ann", Name: "Ann", Kind: cred.KindAgent, Groups: []string{},
		Claims: map[string]any{"n": 7.0, "h": 16.0, "f": 1.5, "b": true, "z": nil, "l": []any{"a", 1.0}, "m": map[string]any{"k": "v"}},
		Actor:  &cred.Principal{Provider: "ci", Subject: "bot", Kind: cred.KindPerson, Claims: map[string]any{"sub": "bot"}},
	}
	if diff := cmp.Diff(want, who); diff != "" {
		t.Error(diff)
	}
	request := cred.Request{Target: "db", Scopes: []string{"a"}, Params: map[string]string{"p": "v"}, TTL: 60e9, Reason: "why", Binding: cred.BindDPoP}
	if diff := cmp.Diff(request, cases[0].Wants.request()); diff != "" {
		t.Error(diff)
	}
}

func TestCaseProblems(t *testing.T) {
	_, problems := ParseCases("cases.yaml", []byte(`cases:
  - name: twice
    who: { provider: ci }
    wants: { target: db, at: noon }
    expects: { decision: allowed, reason: NO_RULE_MATCHES }
  - name: twice
    who: { provider: ci, claims: [a], principal: { subject: x } }
    wants: { target: db, scope: [read] }
    expects: { decision: denied, ttl: 1h }
  - name: third
    who: { provider: ci, principal: { subject: x, groups: leads, claims: [] }, actor: { provider: ci } }
    expects: { decision: perhaps }
  - name: fourth
    who: { provider: ci, principal: { subject: x, groups: leads } }
    wants: { target: db }
    expects: { decision: allowed, approval: { all_of: [] } }
  - name: fifth
    who: { provider: ci, claims: text }
    wants: { target: db }
    expects: { decision: denied }
`))
	want := []string{
		`3:10: cases[0].who: must have either claims or principal`,
		`4:30: cases[0].wants.at: must be a time such as 2026-03-02T09:00:00+01:00`,
		`5:43: cases[0].expects.reason: is for refusals`,
		`6:11: cases[1].name: the name "twice" is used twice`,
		`7:10: cases[1].who: must have either claims or principal`,
		`8:26: cases[1].wants.scope: unknown key (did you mean "scopes"?)`,
		`9:14: cases[1].expects: a refusal has no ttl, no deliver and no exempt`,
		`10:5: cases[2].wants.target: is missing`,
		`11:74: cases[2].who.principal.claims: must be a mapping`,
		`11:87: cases[2].who.actor: must have either claims or principal`,
		`12:26: cases[2].expects.decision: is not a value that this key can have (possible are allowed, pending, denied)`,
		`14:59: cases[3].who.principal.groups: must be a list (write [] for none, and leave it out where groups are unknown)`,
		`16:45: cases[3].expects.approval: is for the decision pending`,
		`18:34: cases[4].who.claims: must be a mapping`,
	}
	var got []string
	for _, p := range problems {
		got = append(got, strings.TrimPrefix(p.String(), "cases.yaml:"))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, empty := range []string{"cases: []", "{}", "cases: [1]", "cases: text", "", "["} {
		if cases, problems := ParseCases("cases.yaml", []byte(empty)); len(problems) == 0 || cases != nil {
			t.Errorf("%q is taken: %v", empty, cases)
		}
	}
}

// FuzzParseCases: whatever is read as cases can be decided.
func FuzzParseCases(f *testing.F) {
	f.Add("cases:\n  - name: a\n    who: { provider: ci, claims: { ref: x, n: 1e400, h: 0x1, s: .inf } }\n    wants: { target: db }\n    expects: { decision: denied }\n")
	f.Add("cases: [{ name: a, who: { provider: okta, principal: { subject: s, groups: [leads] } }, wants: { target: api }, expects: { decision: pending } }]")
	set := compiled(f, casedRules)
	f.Fuzz(func(t *testing.T, text string) {
		cases, problems := ParseCases("cases.yaml", []byte(text))
		if (len(problems) == 0) != (len(cases) > 0) {
			t.Fatalf("%d cases and %d problems", len(cases), len(problems))
		}
		for _, c := range cases {
			r := set.Test(c, identifyFor, noon)
			if r.Name != c.Name || r.Line < 1 {
				t.Errorf("the result is %+v", r)
			}
			_ = fmt.Sprint(r.Wrong)
		}
	})
}
