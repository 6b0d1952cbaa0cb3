package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// condition is a conjunct and what it means, written in Go.
type condition struct {
	text  string
	about bool // the provider
	holds func(who cred.Principal, want cred.Request) bool
}

var conditions = []condition{
	{`principal.provider == "a"`, true, func(p cred.Principal, _ cred.Request) bool { return p.Provider == "a" }},
	{`principal.provider in ["b", "c"]`, true, func(p cred.Principal, _ cred.Request) bool { return p.Provider == "b" || p.Provider == "c" }},
	{`principal.issuer.startsWith("i")`, true, func(p cred.Principal, _ cred.Request) bool { return strings.HasPrefix(p.Issuer, "i") }},
	{`principal.claims.ref == "main"`, false, func(p cred.Principal, _ cred.Request) bool { return p.Claims["ref"] == "main" }},
	{`principal.claims.ref.matches("main|dev")`, false, func(p cred.Principal, _ cred.Request) bool {
		return p.Claims["ref"] == "main" || p.Claims["ref"] == "dev"
	}},
	{`has(principal.claims.ref)`, false, func(p cred.Principal, _ cred.Request) bool { _, ok := p.Claims["ref"]; return ok }},
	{`!has(principal.actor)`, false, func(p cred.Principal, _ cred.Request) bool { return p.Actor == nil }},
	{`"g" in principal.groups`, false, func(p cred.Principal, _ cred.Request) bool { return slices.Contains(p.Groups, "g") }},
	{`request.params["env"] == "test"`, false, func(_ cred.Principal, r cred.Request) bool { return r.Params["env"] == "test" }},
	{`size(request.reason) > 0`, false, func(_ cred.Principal, r cred.Request) bool { return r.Reason != "" }},
}

// written is a rule as text and as what it means.
type written struct {
	name, target string
	who          []condition
	scopes       []string
	ttl          time.Duration
}

func (w written) matches(who cred.Principal, want cred.Request) bool {
	for _, c := range w.who {
		if !c.holds(who, want) {
			return false
		}
	}
	for _, s := range want.Scopes {
		if !slices.Contains(w.scopes, s) {
			return false
		}
	}
	return w.target == want.Target || w.target == "*"
}

func (w written) rule() Rule {
	var parts []string
	for _, c := range w.who {
		parts = append(parts, c.text)
	}
	return Rule{Name: w.name, Who: strings.Join(parts, " && "), May: []May{{Target: w.target, Scopes: w.scopes}}, TTL: w.ttl}
}

func drawRules(t *rapid.T) []written {
	n := rapid.IntRange(0, 6).Draw(t, "rules")
	all := make([]written, n)
	for i := range all {
		all[i] = written{
			name:   fmt.Sprintf("rule-%d", i),
			target: rapid.SampledFrom([]string{"t1", "t2", "*"}).Draw(t, "target"),
			scopes: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"read", "write"}), rapid.ID).Draw(t, "scopes"),
			ttl:    time.Duration(rapid.IntRange(1, 100).Draw(t, "ttl")) * time.Minute,
		}
		for range rapid.IntRange(1, 4).Draw(t, "conditions") {
			all[i].who = append(all[i].who, conditions[rapid.IntRange(0, len(conditions)-1).Draw(t, "condition")])
		}
	}
	return all
}

func drawPrincipal(t *rapid.T) cred.Principal {
	p := cred.Principal{
		Provider: rapid.SampledFrom([]string{"a", "b", "c", "d", ""}).Draw(t, "provider"),
		Issuer:   rapid.SampledFrom([]string{"i1", "x"}).Draw(t, "issuer"),
		Groups:   rapid.SliceOfN(rapid.SampledFrom([]string{"g", "h"}), 0, 2).Draw(t, "groups"),
		Claims:   map[string]any{},
	}
	if ref := rapid.SampledFrom([]any{"main", "dev", "maindev", 5.0, []any{"main"}, nil, "absent"}).Draw(t, "ref"); ref != "absent" {
		p.Claims["ref"] = ref
	}
	if rapid.Bool().Draw(t, "acted for") {
		p.Actor = &cred.Principal{Kind: cred.KindAgent}
	}
	return p
}

func drawRequest(t *rapid.T) cred.Request {
	return cred.Request{
		Target: rapid.SampledFrom([]string{"t1", "t2", "t3"}).Draw(t, "target"),
		Scopes: rapid.SliceOfN(rapid.SampledFrom([]string{"read", "write", "admin"}), 0, 2).Draw(t, "scopes"),
		Params: rapid.SampledFrom([]map[string]string{nil, {"env": "test"}, {"env": "prod"}}).Draw(t, "params"),
		Reason: rapid.SampledFrom([]string{"", "why"}).Draw(t, "reason"),
		TTL:    time.Duration(rapid.IntRange(0, 120).Draw(t, "ttl")) * time.Minute,
	}
}

// TestDecisionsMeanTheRules compares decisions with the rules' meaning: nothing is allowed that no
// rule allows, the first that does decides, and the explanation says the same.
func TestDecisionsMeanTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawRules(t)
		src := Source{Targets: []Target{
			{Name: "t1", Credential: Credential{Issuer: "i"}}, {Name: "t2", Credential: Credential{Issuer: "i"}},
		}}
		for _, w := range all {
			src.Rules = append(src.Rules, w.rule())
		}
		s, problems := Compile(src)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for range 20 {
			checkDecision(t, s, all, drawPrincipal(t), drawRequest(t))
		}
	})
}

func checkDecision(t *rapid.T, s *Set, all []written, who cred.Principal, want cred.Request) {
	d := s.Explain(who, want, noon)
	first := slices.IndexFunc(all, func(w written) bool { return want.Target != "t3" && w.matches(who, want) })
	if d.Allowed != (first >= 0) {
		t.Fatalf("allowed %v by %q, want rule %d", d.Allowed, d.Rule, first)
	}
	if again := s.Explain(who, want, noon); !cmp.Equal(d, again) {
		t.Fatalf("the same question has two answers:\n%s", cmp.Diff(d, again))
	}
	checkExplanation(t, d)
	if d.Allowed {
		ttl := all[first].ttl
		if want.TTL > 0 {
			ttl = min(ttl, want.TTL)
		}
		if d.Rule != all[first].name || d.TTL != ttl {
			t.Fatalf("rule %q for %v, want %q for %v", d.Rule, d.TTL, all[first].name, ttl)
		}
		return
	}
	if mayKnow := want.Target != "t3" && slices.ContainsFunc(all, func(w written) bool { return w.tells(who, want) }); d.Visible != mayKnow {
		t.Fatalf("visible is %v, want %v: %s", d.Visible, mayKnow, d.Public)
	}
	missing := fmt.Sprintf(`there is no target %q that you may ask for; "daypass targets" lists yours`, want.Target)
	if !d.Visible && (d.Public != missing || d.Rule != "" || d.Condition != "" || d.Reason != ReasonTargetUnknown) {
		t.Fatalf("a caller who may know nothing learns %q, %q, %q, %q", d.Public, d.Rule, d.Condition, d.Reason)
	}
}

// tells reports whether a rule's refusal may be explained to a caller.
func (w written) tells(who cred.Principal, want cred.Request) bool {
	about, aboutHold, allHold := false, true, true
	for _, c := range w.who {
		holds := c.holds(who, want)
		allHold = allHold && holds
		if c.about {
			about, aboutHold = true, aboutHold && holds
		}
	}
	return (w.target == want.Target || w.target == "*") && (allHold || about && aboutHold)
}

// checkExplanation checks that what is told of the rules agrees with the decision.
func checkExplanation(t *rapid.T, d Decision) {
	first := slices.IndexFunc(d.Rules, func(r RuleResult) bool { return r.Matched })
	if d.Allowed != (first >= 0) || d.Allowed && d.Rules[first].Rule != d.Rule {
		t.Fatalf("allowed %v by %q, but the rules say %+v", d.Allowed, d.Rule, d.Rules)
	}
	for _, r := range d.Rules {
		if r.Matched != (len(r.Failed) == 0) || r.Matched != (r.Reason == "") {
			t.Fatalf("a result contradicts itself: %+v", r)
		}
	}
	if d.Visible && !d.Allowed && !slices.ContainsFunc(d.Rules, func(r RuleResult) bool {
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
