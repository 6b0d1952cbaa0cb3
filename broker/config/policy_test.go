package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

const onCallRules = `
server: { plain: true }
identity_providers: [ { name: okta, issuer: https://example.okta.com, audiences: [daypass] } ]
issuers: [ { name: v, static: {} } ]
targets: [ { name: t, credential: { issuer: v } } ]
groups: [ { name: leads, members: [ { provider: okta, subject: u9 } ] } ]
on_call: [ { name: primary, file: oncall.yaml } ]
rules:
  - name: r
    who: principal.provider == "okta"
    may: [ { target: t } ]
    ttl: 1h
    approval: { all_of: [ { group: leads } ], within: 1h, on_call: primary }
`

// TestScheduleFile: a schedule is read from a file of its own, is part of the set's hash with its
// shifts and not with its file's name, and exempts whoever is on call.
func TestScheduleFile(t *testing.T) {
	const shifts = `shifts: [ { person: { provider: okta, subject: u1 }, from: "2026-03-02T09:00:00Z", until: "2026-03-02T17:00:00Z" } ]`
	load := func(schedule string) (*Config, error) {
		dir := t.TempDir()
		write(t, dir, "daypass.yaml", onCallRules)
		write(t, dir, "oncall.yaml", schedule)
		write(t, dir, "keys/sealing.key", "x")
		write(t, dir, "keys/log.key", "x")
		return Load(filepath.Join(dir, "daypass.yaml"), Options{})
	}
	c, err := load(shifts)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.OnCall) != 1 || filepath.Base(c.OnCall[0].File) != "oncall.yaml" || !filepath.IsAbs(c.OnCall[0].File) {
		t.Errorf("the schedules are %+v, want one with its file's path", c.OnCall)
	}
	now := time.Date(2026, 3, 2, 16, 30, 0, 0, time.UTC)
	who := cred.Principal{Provider: "okta", Subject: "u1"}
	if d := c.Policy.Decide(who, cred.Request{Target: "t"}, now); d.Exempt != "on_call/primary" || d.Demand != nil || !d.Until.Equal(now.Add(30*time.Minute)) {
		t.Errorf("on call: %+v", d)
	}
	if d := c.Policy.Decide(who, cred.Request{Target: "t"}, now.Add(time.Hour)); d.Exempt != "" || d.Demand == nil {
		t.Errorf("after the shift: %+v", d)
	}
	if text := string(c.Policy.Text()); strings.Contains(text, "oncall.yaml") || !strings.Contains(text, "2026-03-02T17:00:00Z") {
		t.Errorf("the text holds the file's name, or not the shifts:\n%s", text)
	}
	again, problems := policy.Parse("text", c.Policy.Text())
	if len(problems) > 0 || again.Hash() != c.Policy.Hash() {
		t.Errorf("the text reads back differently: %v", problems)
	}
	other, err := load(strings.Replace(shifts, "17:00", "18:00", 1))
	if err != nil || other.Policy.Hash() == c.Policy.Hash() {
		t.Errorf("another shift has the same hash (%v)", err)
	}
}

// TestScheduleProblems checks what is wrong with schedules, and where it is told.
func TestScheduleProblems(t *testing.T) {
	for _, c := range []struct{ schedule, want string }{
		{"shifts: [ { person: { provider: okta, subject: u1 }, from: monday, until: \"2026-03-02T17:00:00Z\" } ]", `oncall.yaml:1:60: shifts[0].from: must be an instant such as "2026-03-02T09:00:00+01:00" (RFC 3339)`},
		{"shifts:\n- { person: { provider: okta, subject: u1 }, from: \"2026-03-02T17:00:00Z\", until: \"2026-03-02T17:00:00Z\" }", "oncall.yaml:2:83: shifts[0].until: is not after from"},
		{"shifts:\n- { person: { provider: otka, subject: u1 }, from: \"2026-03-02T16:00:00Z\", until: \"2026-03-02T17:00:00Z\" }", `oncall.yaml:2:25: shifts[0].person.provider: there is no identity provider "otka" (did you mean "okta"?)`},
		{"shifts:\n- { person: { provider: okta }, from: \"2026-03-02T16:00:00Z\", until: \"2026-03-02T17:00:00Z\" }", "oncall.yaml:2:13: shifts[0].person: must have a subject or an email, and not both"},
		{"rota: []", "oncall.yaml:1:1: shifts: is missing"},
		{"shifts: [", "oncall.yaml:1:9: "},
		{"", "oncall.yaml:1:1: shifts: is missing"},
	} {
		dir := t.TempDir()
		write(t, dir, "daypass.yaml", onCallRules)
		write(t, dir, "oncall.yaml", c.schedule)
		write(t, dir, "keys/sealing.key", "x")
		write(t, dir, "keys/log.key", "x")
		_, err := Load(filepath.Join(dir, "daypass.yaml"), Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n%v\nwant %s", c.schedule, err, c.want)
		}
	}
	dir := t.TempDir()
	write(t, dir, "daypass.yaml", strings.Replace(onCallRules, "file: oncall.yaml", "shifts: [], file: ''", 1))
	write(t, dir, "keys/sealing.key", "x")
	write(t, dir, "keys/log.key", "x")
	_, err := Load(filepath.Join(dir, "daypass.yaml"), Options{})
	if err == nil || !strings.Contains(err.Error(), "on_call[0]: must have a file or shifts, and not both") {
		t.Errorf("neither file nor shifts: %v", err)
	}
}

// TestGroupsOfApprovals: a group must be in the file unless a provider's tokens list groups.
func TestGroupsOfApprovals(t *testing.T) {
	text := strings.Replace(onCallRules, "group: leads", "group: laeds", 1)
	_, err := Parse("f.yaml", []byte(text), Options{WithoutFiles: true})
	want := `f.yaml:13:36: rules[0].approval.all_of[0].group: there is no group "laeds" in groups, and no identity provider has a groups_claim (did you mean "leads"?)`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	text = strings.Replace(text, "audiences: [daypass]", "audiences: [daypass], groups_claim: groups", 1)
	c, err := Parse("f.yaml", []byte(text), Options{WithoutFiles: true})
	if err != nil {
		t.Fatal(err)
	}
	d := c.Policy.Decide(cred.Principal{Provider: "okta"}, cred.Request{Target: "t"}, time.Now())
	if diff := cmp.Diff(&cred.Demand{AllOf: []cred.Quorum{{Group: "laeds", Count: 1}}, Within: time.Hour}, d.Demand); diff != "" {
		t.Errorf("demand (-want +got):\n%s", diff)
	}
}

// TestPolicyPage: the configuration in docs/policy.md decides as the page says, its schedule is one, and
// the page tells of every reason of a refusal.
func TestPolicyPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(title string) string {
		_, text, found := strings.Cut(string(page), "```yaml\n# "+title+"\n")
		text, _, _ = strings.Cut(text, "```\n")
		if !found {
			t.Fatalf("the page has no block %s", title)
		}
		return text
	}
	c, err := Parse("daypass.yaml", []byte("server: { plain: true }\n"+block("daypass.yaml")), Options{WithoutFiles: true})
	if err != nil {
		t.Fatal(err)
	}
	checkPage(t, c.Policy)
	root, problems := strictyaml.Parse("oncall.yaml", []byte(block("oncall.yaml")))
	var schedule shifts
	if problems = append(problems, root.Decode(&schedule)...); len(problems) > 0 || len(schedule.Shifts) != 2 {
		t.Errorf("the schedule has problems %v", problems)
	}
	code, err := os.ReadFile("../policy/decide.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`Reason[A-Za-z]+ += "([A-Z_]+)"`).FindAllStringSubmatch(string(code), -1)
	for _, m := range reasons {
		if !strings.Contains(string(page), "`"+m[1]+"`") {
			t.Errorf("the page does not tell of %s", m[1])
		}
	}
	if len(reasons) < 12 {
		t.Errorf("found %d reasons in the code", len(reasons))
	}
}

func checkPage(t *testing.T, s *policy.Set) {
	t.Helper()
	engineer := cred.Principal{Provider: "okta", Subject: "00u2", Groups: []string{"engineers"}, Claims: map[string]any{}}
	onCall := engineer.Clone()
	onCall.Claims = map[string]any{"email": "ada@example.com", "email_verified": true}
	contractor := engineer.Clone()
	contractor.Groups = append(contractor.Groups, "contractors")
	assisted := engineer.Clone()
	assisted.Actor = &cred.Principal{Provider: "agents", Subject: "code-assistant", Kind: cred.KindAgent}
	deploy := cred.Principal{Provider: "github-actions", Claims: map[string]any{"repository_id": "4711", "ref": "refs/heads/main"}}
	read := cred.Request{Target: "orders-ro", Scopes: []string{"read"}, Binding: cred.BindDPoP}
	write := func(reason string) cred.Request {
		return cred.Request{Target: "orders-rw", Scopes: []string{"write"}, Reason: reason}
	}
	hosts := cred.Request{Target: "deploy-keys", Params: map[string]string{"hosts": "web-1.example.com, web-2.example.com"}}
	at := func(text string) time.Time {
		now, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	tuesday := at("2026-03-03T12:00:00+01:00")
	for _, c := range []struct {
		name           string
		who            cred.Principal
		want           cred.Request
		now            time.Time
		rule, or, what string // or is the reason of a refusal; what happens instead of nothing else
	}{
		{"reads", engineer, read, tuesday, "engineers-read", "", ""},
		{"asks to write", engineer, write("INC-12"), tuesday, "engineers-write", "", "asks"},
		{"writes on call", onCall, write("INC-12"), tuesday, "engineers-write", "", "on_call/primary"},
		{"breaks the glass", engineer, write("emergency INC-12"), tuesday, "emergency", "", "break_glass"},
		{"a contractor reads", contractor, read, tuesday, "engineers-read", "", ""},
		{"a contractor writes", contractor, write("INC-12"), tuesday, "no-contractors", policy.ReasonDeniedByRule, ""},
		{"an assistant reads", assisted, read, tuesday, "engineers-read", "", ""},
		{"an assistant writes", assisted, write("emergency INC-12"), tuesday, "emergency", policy.ReasonAgentNotAllowed, ""},
		{"deploys by day", deploy, hosts, tuesday, "deploys-from-main", "", ""},
		{"deploys on a Friday", deploy, hosts, at("2026-03-06T12:00:00+01:00"), "deploys-from-main", policy.ReasonWindowClosed, ""},
		{"deploys on a Monday before six", deploy, hosts, at("2026-03-09T05:59:00+01:00"), "deploys-from-main", "", ""},
	} {
		d := s.Decide(c.who, c.want, c.now)
		what := d.Exempt
		if d.Demand != nil {
			what = "asks"
		}
		if d.Allowed != (c.or == "") || d.Rule != c.rule || d.Reason != c.or || what != c.what {
			t.Errorf("%s: allowed %v by %q (%s, %q): %s", c.name, d.Allowed, d.Rule, d.Reason, what, d.Public)
		}
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
