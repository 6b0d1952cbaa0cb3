package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

// agentRules are rules for a person, u, and for an agent, a, on each of some targets.
const agentRules = `
targets:
  - { name: both, credential: { issuer: i } }
  - { name: web, http: { upstream: https://api.example.com }, credential: { issuer: i } }
  - { name: mine, credential: { issuer: i } }
  - { name: either, credential: { issuer: i } }
  - { name: glass, credential: { issuer: i } }
  - { name: defaults, credential: { issuer: i } }
rules:
  - name: u-both
    who: principal.provider == "u" && (!has(principal.actor) || principal.actor.provider == "a")
    may: [ { target: both, scopes: [read, write], params: { env: { one_of: [test, prod] }, size: { any_of: ["*"], default: s } } } ]
    ttl: 1h
    renewals: 2
    approval: { all_of: [ { group: leads, count: 2 }, { group: dba } ], within: 2h, remind: 1h }
    windows: [ { from: "00:00", to: "20:00", zone: UTC } ]
  - name: a-both
    who: principal.provider == "a"
    may: [ { target: both, scopes: [read], params: { env: { one_of: [test], default: test }, size: { any_of: ["s", "m"] } } } ]
    ttl: 2h
    renewals: 1
    approval: { all_of: [ { group: security }, { group: leads } ], any_of: [ { group: x } ], within: 3h, remind: 30m, fresh: 1h }
    windows: [ { from: "00:00", to: "18:00", zone: UTC } ]
  - { name: u-web, who: principal.provider == "u", may: [ { target: web } ], ttl: 1h, deliver: direct }
  - { name: a-web, who: principal.provider == "a", may: [ { target: web } ], ttl: 1h, bind: [dpop] }
  - { name: u-mine, who: principal.provider == "u", may: [ { target: mine } ], ttl: 1h }
  - { name: u-either, who: principal.provider == "u", may: [ { target: either } ], ttl: 1h, approval: { any_of: [ { group: x }, { group: y } ], within: 1h } }
  - { name: a-either, who: principal.provider == "a", may: [ { target: either } ], ttl: 1h, approval: { any_of: [ { group: x }, { group: z } ], within: 1h } }
  - { name: u-glass, who: principal.provider == "u", may: [ { target: glass } ], ttl: 1h, break_glass: { max_ttl: 20m, review: { groups: [s1], within: 2h } } }
  - { name: a-glass, who: principal.provider == "a", may: [ { target: glass } ], ttl: 1h, break_glass: { max_ttl: 30m, review: { groups: [s2], within: 1h } } }
  - { name: u-defaults, who: principal.provider == "u", may: [ { target: defaults, params: { p: { one_of: [x, y], default: x } } } ], ttl: 1h }
  - { name: a-defaults, who: principal.provider == "a", may: [ { target: defaults, params: { p: { one_of: [y], default: y } } } ], ttl: 1h }
`

// TestAgents: what an agent and whom it acts for may have is what both may have.
func TestAgents(t *testing.T) {
	s := compiled(t, agentRules)
	alone := cred.Principal{Provider: "u", Subject: "1"}
	who := alone
	who.Actor = &cred.Principal{Provider: "a", Subject: "2", Kind: cred.KindAgent}

	d := s.Decide(who, cred.Request{Target: "both", Scopes: []string{"read"}}, noon)
	want := Decision{
		Allowed: true, Visible: true, PolicyHash: s.Hash(), Target: d.Target, TTL: time.Hour, Deliver: cred.DeliverDirect, Rule: "u-both", ActorRule: "a-both",
		Private: Finding{Rule: "u-both"}, Params: map[string]string{"env": "test", "size": "s"}, Renewals: 1, Until: noon.Add(6 * time.Hour),
		Demand: &cred.Demand{
			AllOf: []cred.Quorum{{Group: "leads", Count: 2}, {Group: "dba", Count: 1}, {Group: "security", Count: 1}}, AnyOf: []cred.Quorum{{Group: "x", Count: 1}},
			Within: 2 * time.Hour, Remind: 30 * time.Minute, Fresh: time.Hour,
		},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("both (-want +got):\n%s", diff)
	}
	d = s.Decide(who, cred.Request{Target: "web", Binding: cred.BindDPoP}, noon)
	if !d.Allowed || d.Deliver != cred.DeliverProxy {
		t.Errorf("of direct and proxied delivery comes %q (allowed %v)", d.Deliver, d.Allowed)
	}
	d = s.Decide(who, cred.Request{Target: "glass", Reason: "down"}, noon)
	if diff := cmp.Diff(&ReviewOwed{[]string{"s1", "s2"}, time.Hour}, d.Review); diff != "" || d.TTL != 20*time.Minute || d.Exempt != "break_glass" {
		t.Errorf("break-glass for %v, exempt by %q:\n%s", d.TTL, d.Exempt, diff)
	}
	d = s.Decide(who, cred.Request{Target: "defaults", Params: map[string]string{"p": "y"}}, noon)
	if !d.Allowed || d.Params["p"] != "y" {
		t.Errorf("a parameter that both allow: %+v", d)
	}
	for _, c := range []struct {
		name         string
		want         cred.Request
		rule, reason string
		public       string
	}{
		{"a scope", cred.Request{Target: "both", Scopes: []string{"write"}}, "a-both", ReasonScopeNotAllowed, `for the agent that acts for you, rule "a-both" does not allow target "both": scope "write" is not allowed (the rule allows "read"); ask with --scope read`},
		{"no rule", cred.Request{Target: "mine"}, "u-mine", ReasonAgentNotAllowed, `rule "u-mine" allows you target "mine", and no rule allows it to the agent that acts for you`},
		{"binding", cred.Request{Target: "web"}, "a-web", ReasonBindingRequired, `for the agent that acts for you, rule "a-web" does not allow target "web": the grant must be bound to a key of yours; ask with a DPoP proof`},
		{"two choices of groups", cred.Request{Target: "either"}, "a-either", ReasonDemandsConflict, `for the agent that acts for you, rules "u-either" and "a-either" each ask for the approval of one of several groups, which can't be asked as one question`},
		{"defaults that differ", cred.Request{Target: "defaults"}, "a-defaults", ReasonParamNotAllowed, `for the agent that acts for you, rule "a-defaults" does not allow target "defaults": parameter "p" has "x", which is not allowed (the rule allows "y")`},
		{"a parameter", cred.Request{Target: "both", Params: map[string]string{"env": "prod"}}, "a-both", ReasonParamNotAllowed, `for the agent that acts for you, rule "a-both" does not allow target "both": parameter "env" has "prod", which is not allowed (the rule allows "test")`},
	} {
		d := s.Decide(who, c.want, noon)
		if diff := cmp.Diff([]string{c.rule, c.reason, c.public}, []string{d.Rule, d.Reason, d.Public}); d.Allowed || diff != "" || d.Target.Name != "" {
			t.Errorf("%s: allowed %v (-want +got):\n%s", c.name, d.Allowed, diff)
		}
		c.want.Reason = "x"
		if d := s.Decide(alone, c.want, noon); !d.Allowed {
			t.Errorf("%s: the person alone is refused: %s", c.name, d.Public)
		}
	}
	stranger := who
	stranger.Actor = &cred.Principal{Provider: "b"}
	if d := s.Decide(stranger, cred.Request{Target: "both"}, noon); d.Allowed || d.Rule != "u-both" || d.Reason != ReasonNoRuleMatches {
		t.Errorf("a rule that reads principal.actor: %+v", d)
	}
	offers := s.Offers(who, noon)
	var names []string
	for _, o := range offers {
		names = append(names, o.Target.Name)
	}
	if diff := cmp.Diff([]string{"both", "defaults", "either", "glass", "web"}, names); diff != "" || !cmp.Equal(offers[0].Scopes, []string{"read"}) || offers[3].MaxTTL != 20*time.Minute {
		t.Errorf("offers %+v (-want +got):\n%s", offers, diff)
	}
}

// TestAgentOfAnAgent: whoever acts for an actor must be allowed as well.
func TestAgentOfAnAgent(t *testing.T) {
	s := compiled(t, agentRules)
	who := cred.Principal{Provider: "u", Actor: &cred.Principal{Provider: "a", Actor: &cred.Principal{Provider: "a"}}}
	want := cred.Request{Target: "web", Binding: cred.BindDPoP}
	if d := s.Decide(who, want, noon); !d.Allowed {
		t.Errorf("refused: %s", d.Public)
	}
	who.Actor.Actor.Provider = "b"
	if d := s.Decide(who, want, noon); d.Allowed {
		t.Error("allowed although the last of them may not")
	}
	if rules := s.Explain(who, want, noon).Rules; len(rules) != 6 || rules[0].Actor || !rules[2].Actor || !rules[4].Actor {
		t.Errorf("explained %+v", rules)
	}
}

// TestRolesOfAgents: an agent has a role where whom it acts for has it too.
func TestRolesOfAgents(t *testing.T) {
	s := compiled(t, agentRules+`roles: { auditor: 'principal.provider in ["u", "a"]', security: principal.provider == "u" }`)
	who := cred.Principal{Provider: "u", Actor: &cred.Principal{Provider: "a"}}
	if !s.HasRole(who, RoleAuditor) || s.HasRole(who, RoleSecurity) || !s.HasRole(cred.Principal{Provider: "u"}, RoleSecurity) {
		t.Errorf("auditor %v, security %v", s.HasRole(who, RoleAuditor), s.HasRole(who, RoleSecurity))
	}
}
