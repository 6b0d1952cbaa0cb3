package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// meant is a conjunct and what it means, written in Go.
type meant struct {
	text  string
	about bool   // the provider
	names string // the value of the claim ref that it names
	is    func(who cred.Principal, want cred.Request) truth
}

func when(b bool) truth { return truthOf(b, nil) }

// ofRef judges the claim ref where it is there.
func ofRef(holds func(ref any) truth) func(cred.Principal, cred.Request) truth {
	return func(p cred.Principal, _ cred.Request) truth {
		if ref, ok := p.Claims["ref"]; ok {
			return holds(ref)
		}
		return isUnknown
	}
}

// ofGroup judges whether somebody is in g, where that is known.
func ofGroup(in bool) func(cred.Principal, cred.Request) truth {
	return func(p cred.Principal, _ cred.Request) truth {
		if p.Groups == nil {
			return isUnknown
		}
		return when(slices.Contains(p.Groups, "g") == in)
	}
}

var conditions = []meant{
	{`principal.provider == "a"`, true, "", func(p cred.Principal, _ cred.Request) truth { return when(p.Provider == "a") }},
	{`principal.provider in ["b", "c"]`, true, "", func(p cred.Principal, _ cred.Request) truth { return when(p.Provider == "b" || p.Provider == "c") }},
	{`principal.issuer.startsWith("i")`, true, "", func(p cred.Principal, _ cred.Request) truth { return when(strings.HasPrefix(p.Issuer, "i")) }},
	{`principal.kind != "agent"`, false, "", func(p cred.Principal, _ cred.Request) truth { return when(p.Kind != cred.KindAgent) }},
	{`principal.claims.ref == "main"`, false, "main", ofRef(func(ref any) truth { return when(ref == "main") })},
	{`"dev" == principal.claims["ref"]`, false, "dev", ofRef(func(ref any) truth { return when(ref == "dev") })},
	{`principal.claims.ref in ["dev", "test"]`, false, "dev", ofRef(func(ref any) truth { return when(ref == "dev") })},
	{`principal.claims.ref != "main"`, false, "", ofRef(func(ref any) truth { return when(ref != "main") })},
	{`principal.claims.ref.matches("main|dev")`, false, "", ofRef(func(ref any) truth {
		if _, ok := ref.(string); !ok {
			return isUnknown
		}
		return when(ref == "main" || ref == "dev")
	})},
	{`has(principal.claims.ref)`, false, "", func(p cred.Principal, _ cred.Request) truth { _, ok := p.Claims["ref"]; return when(ok) }},
	{`!has(principal.actor)`, false, "", func(p cred.Principal, _ cred.Request) truth { return when(p.Actor == nil) }},
	{`"g" in principal.groups`, false, "", ofGroup(true)},
	{`!("g" in principal.groups)`, false, "", ofGroup(false)},
	{`principal.groups.exists(x, x == "g")`, false, "", ofGroup(true)},
	{`request.params["env"] == "test"`, false, "", func(_ cred.Principal, r cred.Request) truth {
		if env, ok := r.Params["env"]; ok {
			return when(env == "test")
		}
		return isUnknown
	}},
	{`size(request.reason) > 0`, false, "", func(_ cred.Principal, r cred.Request) truth { return when(r.Reason != "") }},
}

// model is a rule set as what it means.
type model struct{ deny, rules []written }

// written is a rule, or a deny rule, as what it means.
type written struct {
	name, target string
	who          []meant
	scopes       []string
	params       map[string]Param
	bind         []string
	ttl          time.Duration
	asks         bool
	renewals     int
}

// answer is what is compared of a decision that allows.
type answer struct {
	allowed         bool
	rule, actorRule string
	ttl             time.Duration
	params          map[string]string
	asks            bool
	renewals        int
}

// decide is the meaning of a whole rule set.
func (m model) decide(who cred.Principal, want cred.Request) answer {
	a := m.alone(who, want, want.Params)
	if !a.allowed || who.Actor == nil {
		return a
	}
	b := m.alone(*who.Actor, want, a.params)
	if !b.allowed {
		return b
	}
	if !maps.Equal(a.params, b.params) {
		if a = m.alone(who, want, b.params); !a.allowed || !maps.Equal(a.params, b.params) {
			return answer{}
		}
	}
	return answer{true, a.rule, b.rule, min(a.ttl, b.ttl), a.params, a.asks || b.asks, min(a.renewals, b.renewals)}
}

// alone decides without regard to an actor.
func (m model) alone(who cred.Principal, want cred.Request, params map[string]string) answer {
	for _, w := range m.deny {
		touched := len(w.scopes) == 0 || slices.ContainsFunc(want.Scopes, func(s string) bool { return slices.Contains(w.scopes, s) })
		if w.about(want) && touched && !slices.ContainsFunc(w.who, func(c meant) bool { return c.is(who, want) == isFalse }) {
			return answer{}
		}
	}
	for _, w := range m.rules {
		if !w.matches(who, want) {
			continue
		}
		if out, ok := w.bounded(params); ok {
			ttl := w.ttl
			if want.TTL > 0 {
				ttl = min(ttl, want.TTL)
			}
			return answer{true, w.name, "", ttl, out, w.asks, w.renewals}
		}
	}
	return answer{}
}

func (w written) about(want cred.Request) bool {
	return want.Target != "t3" && (w.target == want.Target || w.target == "*")
}

func (w written) matches(who cred.Principal, want cred.Request) bool {
	for _, c := range w.who {
		if c.is(who, want) != isTrue {
			return false
		}
	}
	for _, value := range who.Cautions {
		if !slices.ContainsFunc(w.who, func(c meant) bool { return c.names == value }) {
			return false
		}
	}
	for _, s := range want.Scopes {
		if !slices.Contains(w.scopes, s) {
			return false
		}
	}
	return w.about(want) && (len(w.bind) == 0 || slices.Contains(w.bind, string(want.Binding)))
}

// bounded holds the parameters against bounds that are single values.
func (w written) bounded(sent map[string]string) (map[string]string, bool) {
	for name, v := range sent {
		if b, listed := w.params[name]; !listed || !slices.Contains(b.OneOf, v) {
			return nil, false
		}
	}
	var out map[string]string
	for name, b := range w.params {
		v, ok := sent[name]
		if !ok {
			v = b.Default
		}
		if v == "" && b.Required {
			return nil, false
		}
		if v != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = v
		}
	}
	return out, true
}

// mayKnow reports whether the refusal of a request may be explained to a caller: by a rule, which may
// also be the one that allowed it to them and not to the agent that acts for them.
func (m model) mayKnow(who cred.Principal, want cred.Request) bool {
	return slices.ContainsFunc(m.rules, func(w written) bool { return w.about(want) && w.tells(who, want) })
}

// tells reports whether a rule's refusal may be explained to a caller.
func (w written) tells(who cred.Principal, want cred.Request) bool {
	about, aboutHold, allHold := false, true, true
	for _, c := range w.who {
		holds := c.is(who, want) == isTrue
		allHold = allHold && holds
		if c.about {
			about, aboutHold = true, aboutHold && holds
		}
	}
	return allHold || about && aboutHold
}

func (m model) source() Source {
	src := Source{Targets: []Target{
		{Name: "t1", Credential: Credential{Issuer: "i"}}, {Name: "t2", Credential: Credential{Issuer: "i"}},
	}}
	for _, w := range m.deny {
		src.Deny = append(src.Deny, Deny{Name: w.name, Who: w.expression(), May: []DenyOf{{Target: w.target, Scopes: w.scopes}}})
	}
	for _, w := range m.rules {
		r := Rule{
			Name: w.name, Who: w.expression(), TTL: w.ttl, Bind: w.bind, Renewals: w.renewals,
			May: []May{{Target: w.target, Scopes: w.scopes, Params: w.params}},
		}
		if w.asks {
			r.Approval = &Approval{AllOf: []Quorum{{Group: "leads", Count: 1}}, Within: time.Hour}
		}
		src.Rules = append(src.Rules, r)
	}
	return src
}

func (w written) expression() string {
	var parts []string
	for _, c := range w.who {
		parts = append(parts, c.text)
	}
	return strings.Join(parts, " && ")
}

func drawModel(t *rapid.T) model {
	var m model
	for i := range rapid.IntRange(0, 2).Draw(t, "deny rules") {
		m.deny = append(m.deny, drawRule(t, fmt.Sprintf("deny-%d", i)))
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
		m.rules = append(m.rules, drawRule(t, fmt.Sprintf("rule-%d", i)))
	}
	return m
}

func drawRule(t *rapid.T, name string) written {
	w := written{
		name:   name,
		target: rapid.SampledFrom([]string{"t1", "t2", "*"}).Draw(t, "target"),
		scopes: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"read", "write"}), rapid.ID).Draw(t, "scopes"),
		ttl:    time.Duration(rapid.IntRange(1, 100).Draw(t, "ttl")) * time.Minute,
		params: rapid.SampledFrom([]map[string]Param{
			nil,
			{"env": {OneOf: []string{"test", "prod"}}},
			{"env": {OneOf: []string{"test"}, Default: "test"}},
			{"env": {OneOf: []string{"prod"}, Required: true}, "size": {OneOf: []string{"s", "l"}, Default: "s"}},
		}).Draw(t, "params"),
		bind:     rapid.SampledFrom([][]string{nil, nil, nil, {"dpop"}, {"dpop", "mtls"}}).Draw(t, "bind"),
		asks:     rapid.Bool().Draw(t, "asks"),
		renewals: rapid.IntRange(0, 3).Draw(t, "renewals"),
	}
	for range rapid.IntRange(1, 4).Draw(t, "conditions") {
		w.who = append(w.who, conditions[rapid.IntRange(0, len(conditions)-1).Draw(t, "condition")])
	}
	return w
}

func drawPrincipal(t *rapid.T) cred.Principal {
	p := drawOne(t)
	if rapid.Bool().Draw(t, "acted for") {
		actor := drawOne(t)
		actor.Kind = cred.KindAgent
		p.Actor = &actor
	}
	return p
}

func drawOne(t *rapid.T) cred.Principal {
	p := cred.Principal{
		Provider: rapid.SampledFrom([]string{"a", "b", "c", "d", ""}).Draw(t, "provider"),
		Issuer:   rapid.SampledFrom([]string{"i1", "x"}).Draw(t, "issuer"),
		Groups:   rapid.SampledFrom([][]string{nil, {}, {"g"}, {"h", "g"}, {"h"}}).Draw(t, "groups"),
		Claims:   map[string]any{},
	}
	if ref := rapid.SampledFrom([]any{"main", "dev", "maindev", 5.0, []any{"main"}, nil, "absent"}).Draw(t, "ref"); ref != "absent" {
		p.Claims["ref"] = ref
	}
	if ref, ok := p.Claims["ref"].(string); ok && rapid.Bool().Draw(t, "doubtful") {
		p.Cautions = map[string]string{"ref": ref}
	}
	return p
}

func drawRequest(t *rapid.T) cred.Request {
	return cred.Request{
		Target:  rapid.SampledFrom([]string{"t1", "t2", "t3"}).Draw(t, "target"),
		Scopes:  rapid.SliceOfN(rapid.SampledFrom([]string{"read", "write", "admin"}), 0, 2).Draw(t, "scopes"),
		Params:  rapid.SampledFrom([]map[string]string{nil, nil, {"env": "test"}, {"env": "prod"}, {"size": "l"}}).Draw(t, "params"),
		Binding: rapid.SampledFrom([]cred.Binding{"", cred.BindDPoP, cred.BindMTLS}).Draw(t, "binding"),
		Reason:  rapid.SampledFrom([]string{"", "why"}).Draw(t, "reason"),
		TTL:     time.Duration(rapid.IntRange(0, 120).Draw(t, "ttl")) * time.Minute,
	}
}
