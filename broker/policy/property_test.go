package policy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// TestDecisionsMeanTheRules compares decisions with the plain model of what the rules mean: nothing is
// allowed that no rule allows, a deny rule wins, the first rule that matches decides, what an agent
// may have is the intersection, and the explanation says the same.
func TestDecisionsMeanTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		s, problems := Compile(m.source())
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for range 20 {
			checkDecision(t, s, m, drawPrincipal(t), drawRequest(t))
		}
	})
}

func checkDecision(t *rapid.T, s *Set, m model, who cred.Principal, want cred.Request) {
	d := s.Explain(who, want, noon)
	if again := s.Explain(who, want, noon); !cmp.Equal(d, again) {
		t.Fatalf("the same question has two answers:\n%s", cmp.Diff(d, again))
	}
	checkExplanation(t, d, who.Actor != nil)
	expected := m.decide(who, want)
	if d.Allowed != expected.allowed {
		t.Fatalf("allowed %v by %q, want %+v\n%s", d.Allowed, d.Rule, expected, d.Public)
	}
	if d.Allowed {
		got := answer{true, d.Rule, d.ActorRule, d.TTL, d.Params, d.Demand != nil, d.Renewals}
		if diff := cmp.Diff(expected, got, cmp.AllowUnexported(answer{})); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		return
	}
	if mayKnow := m.mayKnow(who, want); d.Visible != mayKnow {
		t.Fatalf("visible is %v, want %v: %s", d.Visible, mayKnow, d.Public)
	}
	missing := s.Decide(who, cred.Request{Target: "none"}, noon)
	missing.Public = strings.Replace(missing.Public, "none", want.Target, 1)
	missing.Private, d.Private, d.Rules = Finding{}, Finding{}, nil
	if diff := cmp.Diff(missing, d); !d.Visible && diff != "" {
		t.Fatalf("a caller who may know nothing can tell the target from a missing one:\n%s", diff)
	}
}

// checkExplanation checks that what is told of the rules agrees with the decision. Where an agent acts,
// what one rule fills in the other sees, and Rules tell of what was sent.
func checkExplanation(t *rapid.T, d Decision, acted bool) {
	for _, actor := range []bool{false, true} {
		var rules []RuleResult
		for _, r := range d.Rules {
			if r.Actor == actor && !r.Deny {
				rules = append(rules, r)
			}
			if r.Actor == actor && r.Deny && r.Matched && d.Allowed {
				t.Fatalf("allowed although %+v", r)
			}
			if r.Matched != (len(r.Failed) == 0) || r.Matched != (r.Reason == "") != r.Deny {
				t.Fatalf("a result contradicts itself: %+v", r)
			}
		}
		first := slices.IndexFunc(rules, func(r RuleResult) bool { return r.Matched })
		if d.Allowed && !acted && !actor && (first < 0 || rules[first].Rule != d.Rule) {
			t.Fatalf("allowed by %q, but the rules say %+v", d.Rule, rules)
		}
	}
	told := []string{ReasonDeniedByRule, ReasonAgentNotAllowed}
	if acted {
		told = append(told, ReasonParamNotAllowed)
	}
	if d.Visible && !d.Allowed && !slices.Contains(told, d.Reason) && !slices.ContainsFunc(d.Rules, func(r RuleResult) bool {
		return r.Visible && r.Rule == d.Rule && slices.Contains(r.Failed, d.Condition)
	}) {
		t.Fatalf("condition %q of rule %q is not among %+v", d.Condition, d.Rule, d.Rules)
	}
}

// TestTextReadsBack: the canonical text compiles to a set with the same hash, and the order of
// targets does not count while that of rules does.
func TestTextReadsBack(t *testing.T) {
	s := compiled(t, example)
	again := compiled(t, string(s.Text()))
	if again.Hash() != s.Hash() || len(s.Hash()) != 64 {
		t.Errorf("hash %q, read back %q", s.Hash(), again.Hash())
	}
	src := Source{
		Targets: []Target{{Name: "a", Credential: Credential{Issuer: "i"}}, {Name: "b", Credential: Credential{Issuer: "i"}}},
		Roles:   map[string]string{RoleAuditor: "true"},
		Rules: []Rule{
			{Name: "x", Who: "true", May: []May{{Target: "a"}}, TTL: time.Minute},
			{Name: "y", Who: "true", May: []May{{Target: "a"}}, TTL: time.Minute},
		},
	}
	hash := func(change func(*Source)) string {
		c := src
		c.Targets, c.Rules = slices.Clone(src.Targets), slices.Clone(src.Rules)
		change(&c)
		s, problems := Compile(c)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return s.Hash()
	}
	same := hash(func(*Source) {})
	for name, change := range map[string]func(*Source){
		"order of targets":    func(s *Source) { slices.Reverse(s.Targets) },
		"white space":         func(s *Source) { s.Rules[0].Who = " true\n" },
		"default of delivery": func(s *Source) { s.Targets[0].Deliver = "direct" },
	} {
		if hash(change) != same {
			t.Errorf("%s changes the hash", name)
		}
	}
	for name, change := range map[string]func(*Source){
		"order of rules": func(s *Source) { slices.Reverse(s.Rules) },
		"who":            func(s *Source) { s.Rules[0].Who = "false" },
		"when":           func(s *Source) { s.Rules[0].When = "true" },
		"ttl":            func(s *Source) { s.Rules[0].TTL++ },
		"scopes":         func(s *Source) { s.Rules[0].May = []May{{Target: "a", Scopes: []string{"r"}}} },
		"credential":     func(s *Source) { s.Targets[0].Credential.Path = "p" },
		"labels":         func(s *Source) { s.Targets[0].Labels = map[string]string{"a": "b"} },
		"roles":          func(s *Source) { s.Roles = nil },
	} {
		if hash(change) == same {
			t.Errorf("%s does not change the hash", name)
		}
	}
}

// FuzzCompile: any expression compiles or is refused, and evaluates without a panic.
func FuzzCompile(f *testing.F) {
	for _, c := range conditions {
		f.Add(c.text)
	}
	for _, s := range []string{"true", "principal", `principal.claims.a.b["c"][0] == 1`, `principal.claims.all(k, k == "x")`, "daypass.Principal{}.name == ''", "now - now == request.ttl", "[principal][0].name == 'x' && target.labels == {}", "has(request.params.x) || true"} {
		f.Add(s)
	}
	who := cred.Principal{Provider: "a", Groups: []string{"g"}, Claims: map[string]any{"ref": "main", "a": map[string]any{"b": 1.0}}}
	f.Fuzz(func(t *testing.T, expr string) {
		s, problems := Compile(Source{
			Targets: []Target{{Name: "t", Credential: Credential{Issuer: "i"}}},
			Rules:   []Rule{{Name: "r", Who: expr, May: []May{{Target: "t"}}, TTL: time.Minute}},
		})
		if (s == nil) == (len(problems) == 0) {
			t.Fatalf("set %v with problems %v", s, problems)
		}
		if s == nil {
			return
		}
		d := s.Explain(who, cred.Request{Target: "t"}, noon)
		if d.Allowed != d.Rules[0].Matched {
			t.Errorf("allowed %v, explained %+v", d.Allowed, d.Rules)
		}
		if again := compiled(t, string(s.Text())); again.Hash() != s.Hash() {
			t.Errorf("the canonical text reads back differently:\n%s", s.Text())
		}
	})
}

// FuzzDecide: whatever claims a token has, only those that the rule names are allowed.
func FuzzDecide(f *testing.F) {
	s := compiled(f, example)
	f.Add(`{"repository_id":"4711","ref":"refs/heads/main"}`, "github-actions", "read")
	f.Add(`{"repository_id":4711,"ref":["refs/heads/main"]}`, "github-actions", "")
	f.Add(`{"ref":{"a":null}}`, "okta", "write:")
	f.Fuzz(func(t *testing.T, text, provider, scope string) {
		var claims map[string]any
		if json.Unmarshal([]byte(text), &claims) != nil {
			return
		}
		who := cred.Principal{Provider: provider, Claims: claims}
		d := s.Explain(who, cred.Request{Target: "orders-db", Scopes: []string{scope}}, noon)
		want := provider == "github-actions" && claims["repository_id"] == "4711" && claims["ref"] == "refs/heads/main" && scope == "read"
		if d.Allowed != want {
			t.Errorf("allowed %v, want %v: %+v", d.Allowed, want, d.Rules)
		}
	})
}
