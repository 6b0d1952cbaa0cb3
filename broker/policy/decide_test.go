package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// example is the rule set of the design, with a few rules more.
const example = `
targets:
  - name: orders-db
    labels: { tier: production }
    credential: { issuer: prod-vault, path: database/creds/orders-ro }
  - name: orders-test
    credential: { issuer: prod-vault }
  - name: copilot
    http: { upstream: https://api.example.com }
    credential: { issuer: seat }
    mask: { detectors: [secrets] }
  - name: secret-project
    credential: { issuer: prod-vault }
roles:
  auditor: '"audit" in principal.groups'
rules:
  - name: deploys-from-main
    who: principal.provider == "github-actions" && principal.claims.repository_id == "4711" && principal.claims.ref == "refs/heads/main"
    may: [ { target: orders-db, scopes: [read] } ]
    ttl: 15m
  - name: night-deploys
    who: principal.provider == "github-actions" && principal.claims.ref.matches("refs/heads/(main|night)")
    when: now.getHours() < 6 && size(request.reason) > 0
    may: [ { target: "orders-*", scopes: ["read", "write:*"] } ]
    ttl: 30d
  - name: seniors
    who: '"senior-engineers" in principal.groups'
    may: [ { target: copilot, scopes: [production] }, { target: copilot, scopes: [test] } ]
    ttl: 8h
  - name: agents
    who: principal.provider == "okta" && principal.actor.kind == "agent"
    may: [ { target: secret-project } ]
    ttl: 1h
  - name: agents-alone
    who: principal.provider == "robots" && principal.kind == "agent"
    may: [ { target: secret-project } ]
    ttl: 2h
`

func compiled(t testing.TB, text string) *Set {
	t.Helper()
	s, problems := Parse("policy.yaml", []byte(text))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

func job(claims map[string]any) cred.Principal {
	return cred.Principal{Provider: "github-actions", Issuer: "https://ci.example.com", Subject: "repo", Kind: cred.KindWorkload, Claims: claims}
}

func person(groups ...string) cred.Principal {
	return cred.Principal{Provider: "okta", Issuer: "https://idp.example.com", Subject: "u1", Kind: cred.KindPerson, Groups: append([]string{}, groups...)}
}

func TestDecide(t *testing.T) {
	s := compiled(t, example)
	onMain := map[string]any{"repository_id": "4711", "ref": "refs/heads/main"}
	night := noon.Add(-10 * time.Hour)
	agent := person()
	agent.Actor = &cred.Principal{Provider: "robots", Kind: cred.KindAgent}
	stranger := person()
	stranger.Actor = &cred.Principal{Provider: "others", Kind: cred.KindAgent}
	for _, c := range []struct {
		name string
		who  cred.Principal
		want cred.Request
		now  time.Time
		rule string // empty: refused
		ttl  time.Duration
	}{
		{"the first rule that matches", job(onMain), cred.Request{Target: "orders-db", Scopes: []string{"read"}, Reason: "x"}, night, "deploys-from-main", 15 * time.Minute},
		{"no scopes", job(onMain), cred.Request{Target: "orders-db"}, noon, "deploys-from-main", 15 * time.Minute},
		{"a shorter lifetime", job(onMain), cred.Request{Target: "orders-db", TTL: time.Minute}, noon, "deploys-from-main", time.Minute},
		{"a longer lifetime is cut", job(onMain), cred.Request{Target: "orders-db", TTL: time.Hour}, noon, "deploys-from-main", 15 * time.Minute},
		{"a scope of a later rule", job(onMain), cred.Request{Target: "orders-db", Scopes: []string{"write:x"}, Reason: "x"}, night, "night-deploys", 30 * 24 * time.Hour},
		{"scopes of two rules are not added up", job(onMain), cred.Request{Target: "orders-db", Scopes: []string{"read", "write"}, Reason: "x"}, night, "", 0},
		{"a pattern for targets", job(onMain), cred.Request{Target: "orders-test", Reason: "x"}, night, "night-deploys", 30 * 24 * time.Hour},
		{"when is false", job(onMain), cred.Request{Target: "orders-test", Reason: "x"}, noon, "", 0},
		{"a pattern matches the whole text", job(map[string]any{"ref": "refs/heads/main-2"}), cred.Request{Target: "orders-test", Reason: "x"}, night, "", 0},
		{"another ref", job(map[string]any{"repository_id": "4711", "ref": "refs/heads/dev"}), cred.Request{Target: "orders-db"}, noon, "", 0},
		{"a claim is absent", job(map[string]any{"repository_id": "4711"}), cred.Request{Target: "orders-db"}, noon, "", 0},
		{"a claim of another type", job(map[string]any{"repository_id": 4711.0, "ref": "refs/heads/main"}), cred.Request{Target: "orders-db"}, noon, "", 0},
		{"no claims", job(nil), cred.Request{Target: "orders-db"}, noon, "", 0},
		{"two parts of one rule", person("senior-engineers"), cred.Request{Target: "copilot", Scopes: []string{"production", "test"}}, noon, "seniors", 8 * time.Hour},
		{"no groups", person(), cred.Request{Target: "copilot"}, noon, "", 0},
		{"an actor", agent, cred.Request{Target: "secret-project"}, noon, "agents", time.Hour},
		{"an actor that may not", stranger, cred.Request{Target: "secret-project"}, noon, "", 0},
		{"an agent alone", *agent.Actor, cred.Request{Target: "secret-project"}, noon, "agents-alone", 2 * time.Hour},
		{"no actor", person(), cred.Request{Target: "secret-project"}, noon, "", 0},
		{"a target without scopes", agent, cred.Request{Target: "secret-project", Scopes: []string{"read"}}, noon, "", 0},
		{"no such target", job(onMain), cred.Request{Target: "nothing"}, noon, "", 0},
		{"no target", job(onMain), cred.Request{}, noon, "", 0},
		{"nobody", cred.Principal{}, cred.Request{Target: "orders-db"}, noon, "", 0},
		{"a negative lifetime", job(onMain), cred.Request{Target: "orders-db", TTL: -1}, noon, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := s.Decide(c.who, c.want, c.now)
			if d.Allowed != (c.rule != "") || d.TTL != c.ttl || d.Allowed && d.Rule != c.rule {
				t.Errorf("allowed %v by %q for %v, want rule %q for %v\n%s", d.Allowed, d.Rule, d.TTL, c.rule, c.ttl, d.Public)
			}
			if d.PolicyHash != s.Hash() {
				t.Errorf("policy hash %q, want the set's", d.PolicyHash)
			}
			if d.Allowed != (d.Target.Name == c.want.Target && c.want.Target != "") {
				t.Errorf("the decision carries target %q", d.Target.Name)
			}
			if (d.Err("exchange") == nil) != d.Allowed {
				t.Errorf("Err is %v where allowed is %v", d.Err("exchange"), d.Allowed)
			}
		})
	}
}

// TestExplained checks what callers are told and what the log holds, word for word.
func TestExplained(t *testing.T) {
	s := compiled(t, example)
	dev := map[string]any{"repository_id": "4711", "ref": "refs/heads/dev"}
	type told struct{ Rule, Reason, Condition, Public string }
	for _, c := range []struct {
		name    string
		who     cred.Principal
		want    cred.Request
		told    told
		private Finding
	}{
		{
			"the condition that failed", job(dev),
			cred.Request{Target: "orders-db"},
			told{
				"deploys-from-main", ReasonNoRuleMatches, `principal.claims.ref == "refs/heads/main" (was "refs/heads/dev")`,
				`rule "deploys-from-main" does not allow target "orders-db": principal.claims.ref == "refs/heads/main" (was "refs/heads/dev")`,
			},
			Finding{"deploys-from-main", ReasonNoRuleMatches, `principal.claims.ref == "refs/heads/main" (was "refs/heads/dev")`},
		},
		{
			"a claim is absent", job(map[string]any{"ref": "refs/heads/main"}),
			cred.Request{Target: "orders-db", Reason: "x"},
			told{
				"deploys-from-main", ReasonNoRuleMatches, `principal.claims.repository_id == "4711" (claim repository_id is absent)`,
				`rule "deploys-from-main" does not allow target "orders-db": principal.claims.repository_id == "4711" (claim repository_id is absent)`,
			},
			Finding{"deploys-from-main", ReasonNoRuleMatches, `principal.claims.repository_id == "4711" (claim repository_id is absent)`},
		},
		{
			"several conditions", job(dev),
			cred.Request{Target: "orders-test"},
			told{
				"night-deploys", ReasonNoRuleMatches, `principal.claims.ref.matches("refs/heads/(main|night)") (was "refs/heads/dev")`,
				`rule "night-deploys" does not allow target "orders-test": principal.claims.ref.matches("refs/heads/(main|night)") (was "refs/heads/dev"), and 2 more conditions fail`,
			},
			Finding{"night-deploys", ReasonNoRuleMatches, `principal.claims.ref.matches("refs/heads/(main|night)") (was "refs/heads/dev")`},
		},
		{
			"a scope", person("senior-engineers"),
			cred.Request{Target: "copilot", Scopes: []string{"test", "admin"}},
			told{
				"seniors", ReasonScopeNotAllowed, `scope "admin" is not allowed (the rule allows "production", "test")`,
				`rule "seniors" does not allow target "copilot": scope "admin" is not allowed (the rule allows "production", "test"); ask with --scope production or --scope test`,
			},
			Finding{"seniors", ReasonScopeNotAllowed, `scope "admin" is not allowed (the rule allows "production", "test")`},
		},
		{
			"no actor, and the provider is theirs", person(),
			cred.Request{Target: "secret-project"},
			told{
				"agents", ReasonNoRuleMatches, `principal.actor.kind == "agent" (principal.actor.kind is absent)`,
				`rule "agents" does not allow target "secret-project": principal.actor.kind == "agent" (principal.actor.kind is absent)`,
			},
			Finding{"agents", ReasonNoRuleMatches, `principal.actor.kind == "agent" (principal.actor.kind is absent)`},
		},
		{
			"another provider's target is unknown", person(),
			cred.Request{Target: "orders-db"},
			told{"", ReasonTargetUnknown, "", `there is no target "orders-db" that you may ask for; "daypass targets" lists yours`},
			Finding{"deploys-from-main", ReasonNoRuleMatches, `principal.provider == "github-actions" (was "okta")`},
		},
		{
			"a rule without a provider tells nobody", person("juniors"),
			cred.Request{Target: "copilot"},
			told{"", ReasonTargetUnknown, "", `there is no target "copilot" that you may ask for; "daypass targets" lists yours`},
			Finding{"seniors", ReasonNoRuleMatches, `"senior-engineers" in principal.groups (was ["juniors"])`},
		},
		{
			"no such target", person(),
			cred.Request{Target: "nothing"},
			told{"", ReasonTargetUnknown, "", `there is no target "nothing" that you may ask for; "daypass targets" lists yours`},
			Finding{Reason: ReasonTargetUnknown},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := s.Decide(c.who, c.want, noon)
			if diff := cmp.Diff(c.told, told{d.Rule, d.Reason, d.Condition, d.Public}); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.private, d.Private); diff != "" {
				t.Errorf("private (-want +got):\n%s", diff)
			}
			if d.Visible != (c.told.Reason != ReasonTargetUnknown) {
				t.Errorf("visible is %v", d.Visible)
			}
		})
	}
}

// TestForbiddenLooksMissing compares all that a caller may see of a target that is not theirs with
// one that does not exist.
func TestForbiddenLooksMissing(t *testing.T) {
	s := compiled(t, example)
	public := func(target string) Decision {
		d := s.Decide(person(), cred.Request{Target: target, Scopes: []string{"read"}}, noon)
		d.Private, d.Rules = Finding{}, nil
		d.Public = strings.ReplaceAll(d.Public, target, "NAME")
		return d
	}
	if diff := cmp.Diff(public("orders-nothing"), public("orders-db")); diff != "" {
		t.Errorf("a forbidden target differs from a missing one:\n%s", diff)
	}
}

func TestExplainTellsOfEveryRule(t *testing.T) {
	s := compiled(t, example)
	who := job(map[string]any{"repository_id": "4711", "ref": "refs/heads/main"})
	d := s.Explain(who, cred.Request{Target: "orders-db", Scopes: []string{"read"}}, noon)
	want := []RuleResult{
		{Rule: "deploys-from-main", Matched: true, Visible: true},
		{Rule: "night-deploys", Reason: ReasonNoRuleMatches, Visible: true, Failed: []string{
			"now.getHours() < 6 (was false)", `size(request.reason) > 0 (was "")`,
		}},
	}
	if diff := cmp.Diff(want, d.Rules); diff != "" || !d.Allowed {
		t.Errorf("allowed %v, rules (-want +got):\n%s", d.Allowed, diff)
	}
}

// TestValuesShown checks how conditions show what they saw.
func TestValuesShown(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		who   string
		claim any
		want  string
	}{
		{`principal.claims.x == "y"`, "a\nb", `(was "a\nb")`},
		{`principal.claims.x == "y"`, 4711.0, "(was 4711)"},
		{`principal.claims.x == true`, false, "(was false)"},
		{`principal.claims.x == true`, nil, "(was null)"},
		{`principal.claims.x == 1`, map[string]any{"a": 1.0}, "(was a map of 1)"},
		{`principal.claims.x == "y"`, long, `(was "` + long[:maxShown] + `…")`},
		{`"y" in principal.claims.x`, []any{"a", 1.0, true}, `(was ["a", 1, true])`},
		{`principal.claims.x.exists(e, e == "y")`, []any{}, "(was [])"},
		{`principal.claims["x"] == "y"`, "z", `(was "z")`},
		{`principal.claims.x > 3.0`, "z", `(was "z", can't be evaluated: no such overload)`},
		{`principal.claims.x.y.z == "y"`, map[string]any{"y": map[string]any{}}, "(claim x.y.z is absent)"},
		{`!(principal.claims.x == "z" || request.target == "t")`, "z", `(principal.claims.x was "z", request.target was "t")`},
		{`has(principal.claims.y)`, "z", "(was false)"},
		{`[principal].all(p, p.name == "")`, "z", "(can't be evaluated: only its fields have a value)"},
		{`has(principal.actor)`, "z", "(was false)"},
		{`timestamp(principal.claims.x) < now`, "z", ""},
		{`duration(principal.claims.x) < request.ttl`, "5s", `(principal.claims.x was "5s", request.ttl was 0s)`},
	} {
		s := compiled(t, rulesFor(c.who))
		d := s.Decide(cred.Principal{Claims: map[string]any{"x": c.claim}}, cred.Request{Target: "t"}, noon)
		if d.Allowed || !strings.HasSuffix(d.Private.Condition, c.want) || !strings.HasPrefix(d.Private.Condition, c.who) {
			t.Errorf("%s with %v: allowed %v, told %s, want %s", c.who, c.claim, d.Allowed, d.Private.Condition, c.want)
		}
	}
}

// rulesFor returns a rule set of one rule with one expression.
func rulesFor(who string) string {
	return fmt.Sprintf("targets: [{name: t, credential: {issuer: i}}]\nrules: [{name: r, may: [{target: t}], ttl: 1m, who: %q}]\n", who)
}

func TestTooCostly(t *testing.T) {
	items := make([]any, 300)
	for i := range items {
		items[i] = "x"
	}
	s := compiled(t, rulesFor(`principal.claims.x.all(a, principal.claims.x.all(b, a == b))`))
	d := s.Decide(cred.Principal{Claims: map[string]any{"x": items}}, cred.Request{Target: "t"}, noon)
	if d.Allowed || !strings.Contains(d.Private.Condition, "cost") {
		t.Errorf("allowed %v: %s", d.Allowed, d.Private.Condition)
	}
	few := s.Decide(cred.Principal{Claims: map[string]any{"x": items[:3]}}, cred.Request{Target: "t"}, noon)
	if !few.Allowed {
		t.Errorf("three items are refused: %s", few.Private.Condition)
	}
}

func TestRoles(t *testing.T) {
	s := compiled(t, example)
	for _, c := range []struct {
		who  cred.Principal
		role string
		want bool
	}{
		{person("audit"), RoleAuditor, true},
		{person("audits"), RoleAuditor, false},
		{person("audit"), RoleSecurity, false},
		{person("audit"), "", false},
		{cred.Principal{}, RoleAuditor, false},
	} {
		if got := s.HasRole(c.who, c.role); got != c.want {
			t.Errorf("HasRole(%v, %q) = %v", c.who.Groups, c.role, got)
		}
	}
}

func TestOffers(t *testing.T) {
	s := compiled(t, example)
	type offered struct {
		Name   string
		Scopes []string
		MaxTTL time.Duration
	}
	offers := func(who cred.Principal, now time.Time) (all []offered) {
		for _, o := range s.Offers(who, now) {
			all = append(all, offered{o.Target.Name, o.Scopes, o.MaxTTL})
		}
		return all
	}
	onMain := job(map[string]any{"repository_id": "4711", "ref": "refs/heads/main"})
	want := []offered{{"orders-db", []string{"read"}, 15 * time.Minute}}
	if diff := cmp.Diff(want, offers(onMain, noon)); diff != "" {
		t.Errorf("at noon (-want +got):\n%s", diff)
	}
	want = []offered{
		{"orders-db", []string{"read", "write:*"}, MaxTTL}, // that a reason is needed is the request's matter
		{"orders-test", []string{"read", "write:*"}, MaxTTL},
	}
	if diff := cmp.Diff(want, offers(onMain, noon.Add(-10*time.Hour))); diff != "" {
		t.Errorf("at night (-want +got):\n%s", diff)
	}
	if got := offers(person(), noon); got != nil {
		t.Errorf("a person without groups is offered %v", got)
	}
}
