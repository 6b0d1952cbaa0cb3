package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

// TestUnknownGroups: groups that are unknown are not none. A condition that needs them fails, one that
// does not need them holds, and the refusal says so.
func TestUnknownGroups(t *testing.T) {
	for _, c := range []struct {
		who              string
		unknown, noneYet bool // holds where groups are unknown, where there are none
	}{
		{`"g" in principal.groups`, false, false},
		{`!("g" in principal.groups)`, false, true},
		{`("g" in principal.groups) == false`, false, true},
		{`"g" in principal.groups || principal.subject == "u1"`, true, true},
		{`principal.subject == "u1" || "g" in principal.groups`, true, true},
		{`!("g" in principal.groups && principal.subject == "u2")`, true, true},
		{`!("g" in principal.groups) && principal.subject == "u1"`, false, true},
		{`principal.subject == "u1" ? true : "g" in principal.groups`, true, true},
		{`"g" in principal.groups ? true : true`, false, true},
		{`principal.groups.exists(g, g == "g")`, false, false},
		{`!principal.groups.exists(g, g == "g")`, false, true},
		{`principal.groups.all(g, g != "g")`, false, true},
		{`size(principal.groups) == 1`, false, true},
		{`size(principal.groups) >= 0`, false, true},
		{`principal.groups == ["leads"]`, false, true},
		{`["leads"] == principal.groups`, false, true},
		{`principal.groups != ["g"]`, false, true},
		{`["g"] != principal.groups`, false, true},
		{`principal.groups in [["leads"], ["g"]]`, false, true},
		{`!(principal.groups in [["g"]])`, false, true},
		{`dyn(principal.groups) != dyn("g")`, false, true},
		{`!("g" in (principal.groups + ["h"]))`, false, true},
		{`!("g" in (true ? principal.groups : ["g"]))`, false, true},
		{`[principal.groups].all(l, !("g" in l))`, false, true},
		{`has(principal.groups)`, false, true},
		{`!has(principal.groups)`, true, false},
		{`"leads" in principal.groups`, true, true}, // a group of the file, by subject
		{`!("leads" in principal.groups)`, false, false},
		{`!("others" in principal.groups)`, true, true},
		{`"others" in principal.groups || true`, true, true},
		{`!("named" in principal.groups)`, false, true}, // its expression needs the token's groups
		{`!("never" in principal.groups)`, true, true},  // its expression fails for another reason
	} {
		s := compiled(t, rulesFor(c.who)+`groups:
  - { name: leads, members: [ { provider: okta, subject: u1 } ] }
  - { name: others, members: [ { provider: okta, subject: u2 } ] }
  - { name: named, who: '"named" in principal.groups' }
  - { name: never, who: '"named" in principal.groups && principal.claims.nothing == "x"' }
`)
		unknown := s.Decide(staff("u1", nil), cred.Request{Target: "t"}, noon)
		none := staff("u1", nil)
		none.Groups = []string{}
		known := s.Decide(none, cred.Request{Target: "t"}, noon)
		if unknown.Allowed != c.unknown || known.Allowed != c.noneYet {
			t.Errorf("%s: with unknown groups %v, with none %v, want %v and %v (%s)", c.who, unknown.Allowed, known.Allowed, c.unknown, c.noneYet, unknown.Private.Condition)
		}
		failed := unknown.Private
		if !unknown.Allowed && c.noneYet && !strings.Contains(c.who, "has(") && failed.Reason != ReasonGroupsUnknown {
			t.Errorf("%s is refused for %s: %s", c.who, failed.Reason, failed.Condition)
		}
	}
}

// TestGroupsOfTheFile: a group of the file has its members and whomever its expression means, takes
// the place of a token's group of the same name, and is seen by rules, roles and approvals alike.
func TestGroupsOfTheFile(t *testing.T) {
	s := compiled(t, `
targets: [ { name: t, credential: { issuer: i } } ]
groups:
  - name: leads
    members: [ { provider: okta, subject: u1 }, { provider: okta, email: Ada@example.com } ]
    who: '"team-leads" in principal.groups && principal.kind == "person"'
  - { name: nobody, members: [ { provider: okta, subject: none } ] }
roles: { auditor: '"leads" in principal.groups' }
rules: [ { name: r, who: '"leads" in principal.groups', may: [ { target: t } ], ttl: 1h } ]
`)
	mail := func(address string, verified any) map[string]any {
		return map[string]any{"email": address, "email_verified": verified}
	}
	with := func(groups []string, p cred.Principal) cred.Principal {
		p.Groups = groups
		return p
	}
	elsewhere := staff("u1", nil)
	elsewhere.Provider = "other"
	agent := with([]string{"team-leads"}, staff("u9", nil))
	agent.Kind = cred.KindAgent
	for _, c := range []struct {
		name string
		who  cred.Principal
		want []string
	}{
		{"by subject", staff("u1", nil), []string{"leads"}},
		{"by subject, with groups of the token", with([]string{"x", "b", "x"}, staff("u1", nil)), []string{"b", "leads", "x"}},
		{"the subject of another provider", elsewhere, nil},
		{"by e-mail", staff("u9", mail("ada@EXAMPLE.com", true)), []string{"leads"}},
		{"by e-mail that is verified in words", staff("u9", mail("ada@example.com", "true")), []string{"leads"}},
		{"by e-mail that is not verified", staff("u9", mail("ada@example.com", false)), nil},
		{"by e-mail of which nothing is known", staff("u9", map[string]any{"email": "ada@example.com"}), nil},
		{"by no e-mail", staff("u9", mail("", true)), nil},
		{"by expression", with([]string{"team-leads"}, staff("u9", nil)), []string{"leads", "team-leads"}},
		{"an expression that is false", agent, []string{"team-leads"}},
		{"the token's group of the same name", with([]string{"leads", "nobody", "x"}, staff("u9", nil)), []string{"x"}},
	} {
		if diff := cmp.Diff(c.want, s.Groups(c.who)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		in := slices.Contains(c.want, "leads")
		if d := s.Decide(c.who, cred.Request{Target: "t"}, noon); d.Allowed != in {
			t.Errorf("%s: the rule allows %v, want %v: %s", c.name, d.Allowed, in, d.Private.Condition)
		}
		if s.HasRole(c.who, RoleAuditor) != in {
			t.Errorf("%s: the role is %v, want %v", c.name, !in, in)
		}
	}
}

// TestGroupsInLists: where all groups are read, those of the file are among them.
func TestGroupsInLists(t *testing.T) {
	s := compiled(t, rulesFor(`principal.groups == ["leads", "x"]`)+"groups: [ { name: leads, members: [ { provider: okta, subject: u1 } ] } ]\n")
	who := staff("u1", nil)
	who.Groups = []string{"x"}
	if d := s.Decide(who, cred.Request{Target: "t"}, noon); !d.Allowed {
		t.Errorf("refused: %s", d.Private.Condition)
	}
	who.Subject = "u2"
	if d := s.Decide(who, cred.Request{Target: "t"}, noon); d.Allowed || !strings.Contains(d.Private.Condition, `(was ["x"])`) {
		t.Errorf("allowed %v: %s", d.Allowed, d.Private.Condition)
	}
}

// TestCautions: a doubtful identity is allowed by rules alone that compare the claim with its value so
// that this can make them true.
func TestCautions(t *testing.T) {
	for _, c := range []struct {
		who  string
		want bool
	}{
		{`principal.provider == "ci"`, false},
		{`principal.claims.event == "danger"`, true},
		{`"danger" == principal.claims["event"]`, true},
		{`principal.claims.event in ["push", "danger"]`, true},
		{`principal.claims.event == "push" || principal.claims.event == "danger"`, true},
		{`principal.provider == "ci" && (principal.claims.event == "danger" || principal.claims.event == "push")`, true},
		{`principal.claims.event != "push"`, false},
		{`principal.claims.event.startsWith("d")`, false},
		{`principal.claims.event.matches("danger")`, false},
		{`principal.claims.event == "dan" + "ger"`, false},
		{`!(principal.claims.event == "danger") || principal.provider == "ci"`, false},
		{`principal.claims.event != "danger" || principal.provider == "ci"`, false},
		{`principal.claims.other == "danger" || principal.provider == "ci"`, false},
		{`principal.claims.event in principal.claims.list`, false},
		{`has(principal.claims.event)`, false},
	} {
		s := compiled(t, rulesFor(c.who))
		who := cred.Principal{Provider: "ci", Claims: map[string]any{"event": "danger", "list": []any{"danger"}, "other": "x"}}
		if d := s.Decide(who, cred.Request{Target: "t"}, noon); !d.Allowed && !strings.Contains(c.who, "+") {
			t.Errorf("%s: a trusted one is refused: %s", c.who, d.Private.Condition)
		}
		who.Cautions = map[string]string{"event": "danger"}
		if d := s.Decide(who, cred.Request{Target: "t"}, noon); d.Allowed != c.want {
			t.Errorf("%s: allowed %v, want %v: %s", c.who, d.Allowed, c.want, d.Private.Condition)
		}
		who.Cautions["second"] = "x"
		if d := s.Decide(who, cred.Request{Target: "t"}, noon); d.Allowed {
			t.Errorf("%s: allowed although nothing names the second doubt", c.who)
		}
	}
}

// TestCautionsBeyondRules: a doubtful identity is in no group by an expression, has no role and is on
// no shift unless the expression names the doubt; when may name it as well as who.
func TestCautionsBeyondRules(t *testing.T) {
	s := compiled(t, `
targets: [ { name: t, credential: { issuer: i } } ]
groups:
  - { name: all, who: principal.provider == "ci" }
  - { name: named, who: principal.provider == "ci" && principal.claims.event == "danger" }
roles: { auditor: principal.provider == "ci", security: 'principal.claims.event in ["danger"]' }
on_call: [ { name: o, shifts: [ { person: { provider: ci, subject: s }, from: "2020-01-01T00:00:00Z", until: "2030-01-01T00:00:00Z" } ] } ]
rules:
  - name: r
    who: principal.provider == "ci"
    when: principal.claims.event in ["danger", "push"]
    may: [ { target: t } ]
    ttl: 1m
    approval: { all_of: [ { group: all } ], within: 1h, on_call: o }
`)
	who := cred.Principal{Provider: "ci", Subject: "s", Claims: map[string]any{"event": "danger"}}
	check := func(groups []string, auditor bool, exempt string) {
		t.Helper()
		if diff := cmp.Diff(groups, s.Groups(who)); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
		if s.HasRole(who, RoleAuditor) != auditor || !s.HasRole(who, RoleSecurity) {
			t.Errorf("the roles are %v, %v", s.HasRole(who, RoleAuditor), s.HasRole(who, RoleSecurity))
		}
		if d := s.Decide(who, cred.Request{Target: "t"}, noon); !d.Allowed || d.Exempt != exempt {
			t.Errorf("allowed %v, exempt by %q: %s", d.Allowed, d.Exempt, d.Public)
		}
	}
	check([]string{"all", "named"}, true, "on_call/o")
	who.Cautions = map[string]string{"event": "danger"}
	check([]string{"named"}, false, "")
}
