package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

// language is a rule set with everything that rules can say.
const language = `
targets:
  - { name: db, labels: { tier: prod }, credential: { issuer: v }, quota: { per_principal: 30/1h, total: 600/1d } }
  - { name: repos, credential: { issuer: g } }
  - { name: api, http: { upstream: https://api.example.com }, credential: { issuer: s } }
  - { name: night, credential: { issuer: v } }
  - { name: secret, credential: { issuer: v } }
groups:
  - name: leads
    members: [ { provider: okta, subject: u1 }, { provider: okta, email: Ada@example.com } ]
    who: '"team-leads" in principal.groups'
on_call:
  - name: primary
    shifts:
      - { person: { provider: okta, subject: u2 }, from: "2026-03-04T08:00:00Z", until: "2026-03-04T16:00:00Z" }
      - { person: { provider: okta, subject: u2 }, from: "2026-03-04T16:00:00Z", until: "2026-03-04T20:00:00Z" }
      - { person: { provider: okta, subject: u3 }, from: "2026-03-04T20:00:00Z", until: "2026-03-05T08:00:00Z" }
deny:
  - name: no-contractors
    who: principal.provider == "okta" && principal.claims.type == "contractor"
    may: [ { target: db } ]
    reason: contractors have a database of their own
  - name: no-drops
    who: "true"
    may: [ { target: db, scopes: ["drop:*"] } ]
rules:
  - name: staff-read
    who: principal.provider == "okta"
    may: [ { target: db, scopes: [read] } ]
    ttl: 1h
    renewals: 3
  - name: staff-write
    who: principal.provider == "okta" && has(principal.claims.type)
    may: [ { target: db, scopes: [write, "drop:*"] } ]
    ttl: 1h
    approval: { all_of: [ { group: leads } ], any_of: [ { group: security, count: 2 }, { group: dba } ], within: 2h, remind: 30m, fresh: 1h, on_call: primary }
  - name: emergency
    who: principal.provider == "okta"
    may: [ { target: db, scopes: [admin] } ]
    ttl: 1h
    break_glass: { max_ttl: 20m, review: { groups: [audit], within: 24h } }
  - name: repos-of-octo
    who: principal.provider == "github-actions" && principal.claims.event_name in ["push", "pull_request_target"]
    may:
      - target: repos
        scopes: [contents]
        params:
          repositories: { any_of: ["octo/*", other/one], required: true }
          permission: { one_of: [read, write], default: read }
    ttl: 10m
  - name: bound
    who: principal.provider == "okta"
    may: [ { target: api } ]
    ttl: 10m
    deliver: direct
    bind: [dpop, mtls]
  - name: nights
    who: principal.provider == "okta"
    may: [ { target: night } ]
    ttl: 10m
    windows: [ { days: [thu], from: "22:00", to: "06:00", zone: Europe/Berlin } ]
  - name: the-team
    who: principal.provider == "okta" && "team" in principal.groups
    may: [ { target: secret } ]
    ttl: 10m
`

// staff is somebody of whom nothing but their subject is known.
func staff(subject string, claims map[string]any) cred.Principal {
	return cred.Principal{Provider: "okta", Issuer: "https://idp.example.com", Subject: subject, Kind: cred.KindPerson, Claims: claims}
}

var employee = map[string]any{"type": "employee"}

// TestRefusals checks the words of every refusal, golden, and that each reason is a decision's.
func TestRefusals(t *testing.T) {
	s := compiled(t, language)
	ci := func(event string) cred.Principal {
		p := job(map[string]any{"event_name": event})
		if event != "push" {
			p.Cautions = map[string]string{"event_name": event}
		}
		return p
	}
	param := func(pairs ...string) cred.Request {
		r := cred.Request{Target: "repos", Params: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			r.Params[pairs[i]] = pairs[i+1]
		}
		return r
	}
	doubtful := staff("u9", map[string]any{"acr": "low"})
	doubtful.Cautions = map[string]string{"acr": "low"}
	for _, c := range []struct {
		name                                     string
		who                                      cred.Principal
		want                                     cred.Request
		rule, reason, public, condition, private string
	}{
		{
			"a deny rule", staff("u9", map[string]any{"type": "contractor"}),
			cred.Request{Target: "db", Scopes: []string{"read"}},
			"no-contractors", ReasonDeniedByRule, `deny rule "no-contractors" refuses target "db": contractors have a database of their own`, "contractors have a database of their own", "",
		},
		{
			"a deny rule that can't be evaluated", staff("u9", nil),
			cred.Request{Target: "db", Scopes: []string{"read"}},
			"no-contractors", ReasonDeniedByRule, `deny rule "no-contractors" refuses target "db": contractors have a database of their own`, "contractors have a database of their own", "",
		},
		{
			"a deny rule for scopes, without a reason", staff("u9", employee),
			cred.Request{Target: "db", Scopes: []string{"write", "drop:x"}},
			"no-drops", ReasonDeniedByRule, `deny rule "no-drops" refuses target "db"`, "", "",
		},
		{
			"a deny rule, for those who may not know", job(nil),
			cred.Request{Target: "db", Scopes: []string{"drop:x"}},
			"", ReasonTargetUnknown, `there is no target "db" that you may ask for; "daypass targets" lists yours`, "", "no-drops",
		},
		{
			"groups are unknown", staff("u9", nil),
			cred.Request{Target: "secret"},
			"the-team", ReasonGroupsUnknown,
			`rule "the-team" does not allow target "secret": "team" in principal.groups (principal.groups is unknown: the token does not list them, which is not the same as being in none)`,
			`"team" in principal.groups (principal.groups is unknown: the token does not list them, which is not the same as being in none)`, "",
		},
		{
			"a caution", ci("workflow_run"), param("repositories", "octo/a"),
			"repos-of-octo", ReasonNoRuleMatches,
			`rule "repos-of-octo" does not allow target "repos": principal.claims.event_name in ["push", "pull_request_target"] (was "workflow_run")`,
			`principal.claims.event_name in ["push", "pull_request_target"] (was "workflow_run")`, "",
		},
		{
			"a caution that no condition names", doubtful,
			cred.Request{Target: "night"},
			"nights", ReasonCautionNotNamed, `rule "nights" does not allow target "night": claim acr is "low", which no condition of the rule names`,
			`claim acr is "low", which no condition of the rule names`, "",
		},
		{
			"a scope", ci("push"),
			cred.Request{Target: "repos", Scopes: []string{"admin"}, Params: map[string]string{"repositories": "octo/a"}},
			"repos-of-octo", ReasonScopeNotAllowed, `rule "repos-of-octo" does not allow target "repos": scope "admin" is not allowed (the rule allows "contents"); ask with --scope contents`,
			`scope "admin" is not allowed (the rule allows "contents")`, "",
		},
		{
			"a scope where there are none", staff("u9", nil),
			cred.Request{Target: "api", Scopes: []string{"x"}, Binding: cred.BindDPoP},
			"bound", ReasonScopeNotAllowed, `rule "bound" does not allow target "api": scope "x" is not allowed (the rule allows no scopes); ask without scopes`,
			`scope "x" is not allowed (the rule allows no scopes)`, "",
		},
		{
			"a parameter that is not listed", ci("push"), param("repositories", "octo/a", "branch", "x"),
			"repos-of-octo", ReasonParamNotAllowed, `rule "repos-of-octo" does not allow target "repos": parameter "branch" is not allowed (the rule allows "permission", "repositories"); ask without it`,
			`parameter "branch" is not allowed (the rule allows "permission", "repositories")`, "",
		},
		{
			"a parameter where there are none", staff("u9", employee),
			cred.Request{Target: "db", Params: map[string]string{"x": "y"}},
			"staff-read", ReasonParamNotAllowed, `rule "staff-read" does not allow target "db": parameter "x" is not allowed (the rule allows no parameters); ask without it`,
			`parameter "x" is not allowed (the rule allows no parameters)`, "",
		},
		{
			"a parameter's value", ci("push"), param("repositories", "octo/a, other/two"),
			"repos-of-octo", ReasonParamNotAllowed, `rule "repos-of-octo" does not allow target "repos": parameter "repositories" has "octo/a, other/two", which is not allowed (the rule allows "octo/*", "other/one")`,
			`parameter "repositories" has "octo/a, other/two", which is not allowed (the rule allows "octo/*", "other/one")`, "",
		},
		{
			"an empty list", ci("push"), param("repositories", " ,"),
			"repos-of-octo", ReasonParamNotAllowed, `rule "repos-of-octo" does not allow target "repos": parameter "repositories" is an empty list (the rule allows "octo/*", "other/one")`,
			`parameter "repositories" is an empty list (the rule allows "octo/*", "other/one")`, "",
		},
		{
			"a parameter that is missing", ci("push"), param(),
			"repos-of-octo", ReasonParamMissing, `rule "repos-of-octo" does not allow target "repos": parameter "repositories" is missing; send it with --param repositories=…`,
			`parameter "repositories" is missing`, "",
		},
		{
			"a window", staff("u9", nil),
			cred.Request{Target: "night"},
			"nights", ReasonWindowClosed, `rule "nights" does not allow target "night": the rule's time window is closed (it opens at 2026-03-05T22:00:00+01:00, Europe/Berlin); ask again then`,
			`the rule's time window is closed (it opens at 2026-03-05T22:00:00+01:00, Europe/Berlin)`, "",
		},
		{
			"break-glass without a reason", staff("u9", employee),
			cred.Request{Target: "db", Scopes: []string{"admin"}, Reason: " "},
			"emergency", ReasonReasonRequired, `rule "emergency" does not allow target "db": the rule is for emergencies and demands a reason; send a reason with --reason`,
			`the rule is for emergencies and demands a reason`, "",
		},
		{
			"no binding", staff("u9", nil),
			cred.Request{Target: "api"},
			"bound", ReasonBindingRequired, `rule "bound" does not allow target "api": the grant must be bound to a key of yours; ask with a DPoP proof or a TLS client certificate`,
			`the grant must be bound to a key of yours`, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := s.Decide(c.who, c.want, noon)
			got := []string{d.Rule, d.Reason, d.Public, d.Condition}
			if diff := cmp.Diff([]string{c.rule, c.reason, c.public, c.condition}, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if c.private != "" && d.Private.Rule != c.private {
				t.Errorf("the log names rule %q, want %q", d.Private.Rule, c.private)
			}
		})
	}
}

// TestAllowed checks what is given, and on what terms.
func TestAllowed(t *testing.T) {
	s := compiled(t, language)
	type given struct {
		Rule         string
		TTL          time.Duration
		Deliver      cred.Delivery
		Params       map[string]string
		Demand       *cred.Demand
		Exempt       string
		Review       *ReviewOwed
		NoticeGroups []string
		Until        time.Time
		Renewals     int
	}
	demand := &cred.Demand{
		AllOf: []cred.Quorum{{Group: "leads", Count: 1}}, AnyOf: []cred.Quorum{{Group: "security", Count: 2}, {Group: "dba", Count: 1}},
		Within: 2 * time.Hour, Remind: 30 * time.Minute, Fresh: time.Hour,
	}
	write := cred.Request{Target: "db", Scopes: []string{"write"}}
	push := job(map[string]any{"event_name": "push"})
	pull := job(map[string]any{"event_name": "pull_request_target"})
	pull.Cautions = map[string]string{"event_name": "pull_request_target"}
	repos := func(params map[string]string) cred.Request { return cred.Request{Target: "repos", Params: params} }
	for _, c := range []struct {
		name string
		who  cred.Principal
		want cred.Request
		now  time.Time
		give given
	}{
		{"renewals", staff("u9", employee), cred.Request{Target: "db", Scopes: []string{"read"}, TTL: time.Minute}, noon, given{Rule: "staff-read", TTL: time.Minute, Deliver: "direct", Renewals: 3}},
		{"approval", staff("u9", employee), write, noon, given{Rule: "staff-write", TTL: time.Hour, Deliver: "direct", Demand: demand}},
		{"on call, and the next shift too", staff("u2", employee), write, noon, given{Rule: "staff-write", TTL: time.Hour, Deliver: "direct", Exempt: "on_call/primary", Until: noon.Add(8 * time.Hour)}},
		{"on call for half an hour yet", staff("u2", employee), write, noon.Add(7*time.Hour + 30*time.Minute), given{Rule: "staff-write", TTL: 30 * time.Minute, Deliver: "direct", Exempt: "on_call/primary", Until: noon.Add(8 * time.Hour)}},
		{"no longer on call", staff("u2", employee), write, noon.Add(8 * time.Hour), given{Rule: "staff-write", TTL: time.Hour, Deliver: "direct", Demand: demand}},
		{"somebody else is on call", staff("u3", employee), write, noon, given{Rule: "staff-write", TTL: time.Hour, Deliver: "direct", Demand: demand}},
		{"break-glass", staff("u9", employee), cred.Request{Target: "db", Scopes: []string{"admin"}, Reason: "down"}, noon, given{
			Rule: "emergency", TTL: 20 * time.Minute, Deliver: "direct", Exempt: "break_glass",
			Review: &ReviewOwed{Groups: []string{"audit"}, Within: 24 * time.Hour}, NoticeGroups: []string{"audit", "dba", "leads", "security"},
		}},
		{"parameters", push, repos(map[string]string{"repositories": "octo/a , other/one"}), noon, given{Rule: "repos-of-octo", TTL: 10 * time.Minute, Deliver: "direct", Params: map[string]string{"repositories": "octo/a,other/one", "permission": "read"}}},
		{"a parameter in place of its default", push, repos(map[string]string{"repositories": "octo/a", "permission": "write"}), noon, given{Rule: "repos-of-octo", TTL: 10 * time.Minute, Deliver: "direct", Params: map[string]string{"repositories": "octo/a", "permission": "write"}}},
		{"a caution that the rule names", pull, repos(map[string]string{"repositories": "octo/a"}), noon, given{Rule: "repos-of-octo", TTL: 10 * time.Minute, Deliver: "direct", Params: map[string]string{"repositories": "octo/a", "permission": "read"}}},
		{"delivery and binding", staff("u9", nil), cred.Request{Target: "api", Binding: cred.BindMTLS}, noon, given{Rule: "bound", TTL: 10 * time.Minute, Deliver: "direct"}},
		{"within a window", staff("u9", nil), cred.Request{Target: "night"}, time.Date(2026, 3, 6, 4, 55, 0, 0, time.UTC), given{Rule: "nights", TTL: 5 * time.Minute, Deliver: "direct", Until: time.Date(2026, 3, 6, 5, 0, 0, 0, time.UTC)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := s.Decide(c.who, c.want, c.now)
			got := given{d.Rule, d.TTL, d.Deliver, d.Params, d.Demand, d.Exempt, d.Review, d.NoticeGroups, d.Until, d.Renewals}
			if diff := cmp.Diff(c.give, got); diff != "" || !d.Allowed {
				t.Errorf("allowed %v (-want +got):\n%s\n%s", d.Allowed, diff, d.Public)
			}
		})
	}
	target, _ := s.Target("db")
	if want := (cred.Quota{PerPrincipal: cred.Rate{N: 30, Per: time.Hour}, Total: cred.Rate{N: 600, Per: 24 * time.Hour}}); target.Quota != want {
		t.Errorf("quota %+v, want %+v", target.Quota, want)
	}
}

// TestDemandOf checks what standing approvals go by.
func TestDemandOf(t *testing.T) {
	s := compiled(t, language)
	if d, ok := s.DemandOf("staff-write", "db"); !ok || d.Within != 2*time.Hour || len(d.Groups()) != 3 {
		t.Errorf("demand %+v, %v", d, ok)
	}
	for _, c := range [][2]string{{"staff-read", "db"}, {"staff-write", "api"}, {"emergency", "db"}, {"nothing", "db"}, {"staff-write", "nothing"}} {
		if d, ok := s.DemandOf(c[0], c[1]); ok {
			t.Errorf("rule %q asks for %+v of target %q", c[0], d, c[1])
		}
	}
}

// TestForbiddenLooksMissingEverywhere compares all that a caller without rights may see of each target
// with what they see of one that does not exist, whatever they ask, deny rules, doubts and agents
// included.
func TestForbiddenLooksMissingEverywhere(t *testing.T) {
	s := compiled(t, language)
	stranger := cred.Principal{Provider: "elsewhere", Issuer: "https://elsewhere.example.com", Subject: "x", Claims: map[string]any{"type": "contractor", "event_name": "push"}}
	doubtful := stranger.Clone()
	doubtful.Cautions = map[string]string{"event_name": "push"}
	acted := stranger.Clone()
	acted.Actor = &cred.Principal{Provider: "okta", Subject: "u1"}
	for _, who := range []cred.Principal{stranger, doubtful, acted, {}} {
		for _, want := range []cred.Request{
			{},
			{Scopes: []string{"drop:x", "read"}, Reason: "down"},
			{Params: map[string]string{"repositories": "octo/a"}, Binding: cred.BindDPoP, TTL: time.Hour},
			{Scopes: []string{"admin"}},
		} {
			public := func(target string) Decision {
				want.Target = target
				d := s.Decide(who, want, noon)
				d.Private = Finding{}
				d.Public = strings.ReplaceAll(d.Public, target, "NAME")
				return d
			}
			for _, target := range s.Targets() {
				if diff := cmp.Diff(public("missing"), public(target.Name)); diff != "" {
					t.Errorf("target %s differs from a missing one:\n%s", target.Name, diff)
				}
			}
		}
		if offers := s.Offers(who, noon); len(offers) > 0 {
			t.Errorf("a stranger is offered %+v", offers)
		}
	}
}
