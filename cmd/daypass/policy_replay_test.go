package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

// replayRules use everything that a decision depends on.
const replayRules = `
server: { plain: true }
identity_providers:
  - { name: ci, preset: github-actions, audiences: [https://daypass.example.com] }
  - { name: okta, issuer: https://okta.example.com, audiences: [daypass], groups_claim: groups }
  - { name: agents, issuer: https://agents.example.com, audiences: [daypass], kind: agent }
issuers: [{ name: mint, fake: {} }]
targets:
  - { name: db, credential: { issuer: mint, path: bearer }, quota: { total: 1/6h } }
  - { name: api, labels: { tier: prod }, credential: { issuer: mint, path: bearer } }
  - { name: night, credential: { issuer: mint, path: bearer } }
  - { name: prod, credential: { issuer: mint, path: bearer } }
groups:
  - { name: leads, members: [{ provider: okta, subject: lea }, { provider: okta, email: "max@example.com" }] }
  - { name: team, who: 'principal.provider == "okta" && "staff" in principal.groups' }
on_call:
  - name: primary
    file: oncall.yaml
deny:
  - { name: freeze, who: 'principal.provider == "okta"', when: now > timestamp("2026-03-25T00:00:00Z"), may: [{ target: api, scopes: [write] }], reason: the freeze }
  - { name: not-others, who: 'principal.provider == "okta" && "others" in principal.groups', may: [{ target: night }] }
rules:
  - { name: jobs, who: 'principal.provider == "ci" && principal.claims.repository_id == "1" && principal.claims.ref == "refs/heads/main"', may: [{ target: db, scopes: [read] }], ttl: 15m }
  - { name: doubtful, who: 'principal.provider == "ci" && principal.claims.repository_id == "1" && principal.claims.event_name == "workflow_run"', may: [{ target: db }], ttl: 5m }
  - { name: team, who: '"team" in principal.groups || principal.provider == "agents"', may: [{ target: api, scopes: [read, write], params: { region: { one_of: [eu, us], required: true } } }], ttl: 1h, renewals: 2 }
  - { name: by-night, who: principal.provider == "okta", may: [{ target: night }], ttl: 8h, windows: [{ days: [mon, tue, wed, sun], from: "22:00", to: "06:00", zone: Europe/Berlin }] }
  - { name: bound, who: principal.provider == "okta", may: [{ target: night }], ttl: 1h, bind: [dpop] }
  - name: prod
    who: '"team" in principal.groups'
    may: [{ target: prod, scopes: ["*"] }]
    ttl: 1h
    approval: { all_of: [{ group: leads }], within: 2h, on_call: primary }
  - name: emergency
    who: principal.provider == "okta" && request.ttl <= duration("10m")
    may: [{ target: db }]
    ttl: 30m
    break_glass: { max_ttl: 30m, review: { groups: [leads], within: 24h } }
`

const replaySchedule = `shifts: [{ person: { provider: okta, subject: ann }, from: "2026-03-02T00:00:00Z", until: "2026-03-20T00:00:00Z" }]`

// brokerRun is a real broker on a clock of its own.
type brokerRun struct {
	t      testing.TB
	broker *broker.Broker
	log    broker.Log
	now    time.Time
	rules  string // a file
}

func newBrokerRun(t testing.TB, rules string) *brokerRun {
	t.Helper()
	dir := t.TempDir()
	r := &brokerRun{t: t, rules: filepath.Join(dir, "daypass.yaml"), now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	r.must(os.WriteFile(r.rules, []byte(rules), 0o600))
	r.must(os.WriteFile(filepath.Join(dir, "oncall.yaml"), []byte(replaySchedule), 0o600))
	c, err := config.Load(r.rules, config.Options{WithoutFiles: true, Schedules: true})
	r.must(err)
	signer, err := audit.GenerateSigner("broker.example.com/log")
	r.must(err)
	raw, err := bolt.Open(filepath.Join(dir, "store.db"), signer, bolt.Options{})
	r.must(err)
	t.Cleanup(func() { r.must(raw.Close()) })
	key, err := store.NewSealingKey()
	r.must(err)
	sealed := store.Sealed(raw, key)
	clock := func() time.Time { return r.now }
	who, err := identity.New(c.Providers(), clock)
	r.must(err)
	keys, err := broker.OpenKeys(context.Background(), sealed, "ES256", r.now)
	r.must(err)
	r.log = raw.Log()
	r.broker, err = broker.New(context.Background(), broker.Config{
		URL: "https://daypass.example.com", Store: sealed, Log: r.log, Identity: who, Policy: c.Policy, Keys: keys,
		Issuers: map[string]issuer.Issuer{"mint": mint{}}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: clock,
	})
	r.must(err)
	return r
}

func (r *brokerRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// export writes the log to a file.
func (r *brokerRun) export() string {
	r.t.Helper()
	ctx := context.Background()
	cp, err := r.log.Checkpoint(ctx)
	r.must(err)
	var out bytes.Buffer
	x, err := audit.NewExporter(&out, audit.FormatJSONL)
	r.must(err)
	for e, err := range r.log.Entries(ctx, 0, cp.Size) {
		r.must(err)
		r.must(x.Write(e))
	}
	r.must(x.Close(audit.Trailer{Note: cp.Note, VerifierKey: r.log.VerifierKey()}))
	name := filepath.Join(r.t.TempDir(), "export.jsonl")
	r.must(os.WriteFile(name, out.Bytes(), 0o600))
	return name
}

// someone returns a caller of some kind.
func someone(rnd *rand.Rand) broker.Caller {
	pick := func(words ...string) string { return words[rnd.IntN(len(words))] }
	okta := cred.Principal{Provider: "okta", Issuer: "https://okta.example.com", Subject: pick("ann", "bob", "lea"), Kind: cred.KindPerson}
	switch rnd.IntN(6) {
	case 0:
		okta.Groups = []string{}
	case 1:
		okta.Groups = []string{pick("staff", "team", "others")}
	default:
		okta.Groups = []string{"staff"}
	}
	if rnd.IntN(8) == 0 {
		okta.Groups = nil
	}
	okta.Claims = map[string]any{"email": "max@example.com", "email_verified": rnd.IntN(2) == 0}
	job := cred.Principal{
		Provider: "ci", Issuer: "https://token.actions.githubusercontent.com", Subject: "job", Kind: cred.KindWorkload,
		Claims: map[string]any{"repository_id": pick("1", "2"), "ref": pick("refs/heads/main", "refs/heads/x")},
	}
	if rnd.IntN(2) == 0 {
		job.Claims["event_name"] = "workflow_run"
		job.Cautions = map[string]string{"event_name": "workflow_run"}
	}
	agent := cred.Principal{Provider: "agents", Issuer: "https://agents.example.com", Subject: "bot", Kind: cred.KindAgent}
	switch rnd.IntN(5) {
	case 0:
		return broker.Caller{Principal: job}
	case 1:
		okta.Actor = &agent
	case 2:
		return broker.Caller{Principal: agent}
	}
	return broker.Caller{Principal: okta}
}

// something returns a request: half of the time one that a rule may allow, else one at random.
func something(rnd *rand.Rand) cred.Request {
	pick := func(words ...string) string { return words[rnd.IntN(len(words))] }
	sensible := []cred.Request{
		{Target: "db", Scopes: []string{"read"}},
		{Target: "db"},
		{Target: "db", Reason: "INC-1", TTL: 5 * time.Minute},
		{Target: "api", Scopes: []string{pick("read", "write")}, Params: map[string]string{"region": "eu"}},
		{Target: "night", Binding: cred.BindDPoP},
		{Target: "night"},
		{Target: "prod", Reason: "INC-2"},
	}
	if rnd.IntN(2) == 0 {
		return sensible[rnd.IntN(len(sensible))]
	}
	want := cred.Request{Target: pick("db", "api", "night", "prod", "none"), Reason: pick("", "INC-1")}
	if rnd.IntN(2) == 0 {
		want.Scopes = []string{pick("read", "write", "not a scope")}
	}
	if rnd.IntN(2) == 0 {
		want.Params = map[string]string{"region": pick("eu", "us", "cn")}
	}
	if rnd.IntN(3) == 0 {
		want.TTL = time.Duration(1+rnd.IntN(30)) * time.Minute
	}
	if rnd.IntN(4) == 0 {
		want.Binding = cred.BindDPoP
	}
	return want
}

// live has the broker decide many requests over a month, and people approve some.
func (r *brokerRun) live(requests int) {
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(1, 2)) // the same run each time
	lead := broker.Caller{Principal: cred.Principal{Provider: "okta", Issuer: "https://okta.example.com", Subject: "lea", Kind: cred.KindPerson}}
	for range requests {
		r.now = r.now.Add(time.Duration(rnd.IntN(int(2 * 30 * 24 * time.Hour / time.Duration(requests)))))
		who, want := someone(rnd), something(rnd)
		if want.Binding != "" {
			who.Key = "thumbprint"
		}
		g, err := r.broker.Exchange(ctx, who, want)
		if err != nil || g.State() != cred.GrantPending {
			continue // a refusal is on record, and what this run is for
		}
		if _, err := r.broker.Review(ctx, lead, g.ID, g.Digest, cred.Verdict{Approve: true}); err == nil {
			_, err = r.broker.Claim(ctx, who, g.ID, want)
			r.must(err)
		}
	}
}

// replayed is what the command prints as JSON.
type replayed struct {
	Changes   []map[string]any `json:"changes"`
	Decisions int              `json:"decisions"`
	Apart     int              `json:"not_decided_by_rules"`
	Refused   int              `json:"newly_refused"`
	Allowed   int              `json:"newly_allowed"`
	Asked     int              `json:"newly_asked"`
	Unasked   int              `json:"no_longer_asked"`
	Otherwise int              `json:"asked_otherwise"`
	OtherRule int              `json:"other_rule"`
}

func replayOn(t *testing.T, rules, log string, more ...string) replayed {
	t.Helper()
	var out, errs bytes.Buffer
	args := append([]string{"policy", "replay", "--config", rules, "--log", log, "-o", "json"}, more...)
	if code := run(args, nil, &out, &errs); code != cli.Done {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var got replayed
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return got
}

// TestReplayOfABrokersLog: the rules that were in force, replayed over the log that the broker wrote,
// change nothing; changed rules change exactly what a count of the log says.
func TestReplayOfABrokersLog(t *testing.T) {
	r := newBrokerRun(t, replayRules)
	r.live(600)
	log := r.export()
	got := replayOn(t, r.rules, log, "--rules", "--strict")
	if len(got.Changes) != 0 || got.OtherRule != 0 {
		t.Errorf("the rules in force would have decided otherwise: %+v", got)
	}
	entries := logged(t, log)
	kinds := map[string]int{}
	for _, e := range entries {
		kinds[outcomeWord(e)]++
		for _, trait := range traitsOf(e) {
			kinds[trait]++
		}
	}
	for _, kind := range []string{"allowed", "pending", "denied", "apart", "limited", "malformed", "approved", "break_glass", "on_call/primary", "agent", "cautioned", "bound", "windowed", "frozen", "no groups known"} {
		if kinds[kind] == 0 {
			t.Errorf("the run has no decision of the kind %q, so that it proves little: %v", kind, kinds)
		}
	}
	if got.Decisions != kinds["allowed"]+kinds["pending"]+kinds["denied"] || got.Apart != kinds["apart"] {
		t.Errorf("%d decisions and %d apart, and the log has %v", got.Decisions, got.Apart, kinds)
	}
	refused := 0
	for _, e := range entries {
		if outcomeWord(e) == "allowed" && e.Decision.Rule == "team" && e.Principal.Provider == "okta" {
			refused++
		}
	}
	changed := filepath.Join(filepath.Dir(r.rules), "changed.yaml")
	text := strings.Replace(replayRules, `'"team" in principal.groups || principal.provider`, `'principal.provider`, 1)
	if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := replayOn(t, changed, log); got.Refused != refused || refused == 0 || len(got.Changes) != refused {
		t.Errorf("%d would be refused, want %d; %d are listed", got.Refused, refused, len(got.Changes))
	}
}

// logged returns the exchanges of an export, by the ordinary reader of entries.
func logged(t *testing.T, log string) []audit.Event {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []audit.Event
	err = readExport(f, func(canonical []byte) error {
		_, e, err := audit.Parse(canonical)
		if strings.HasPrefix(string(e.Kind), "exchange.") {
			all = append(all, e)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// outcomeWord names what an exchange's entry shows, the rarest of it.
func outcomeWord(e audit.Event) string {
	switch {
	case e.Decision == nil, e.Kind == audit.ExchangeDenied && e.Decision.Allowed:
		return "apart"
	case !e.Decision.Allowed:
		return "denied"
	case e.Decision.Demand != nil:
		return "pending"
	}
	return "allowed"
}

// traitsOf names what of an entry makes its replay difficult.
func traitsOf(e audit.Event) []string {
	var all []string
	add := func(name string, has bool) {
		if has {
			all = append(all, name)
		}
	}
	add("malformed", e.Decision == nil)
	if e.Decision == nil {
		return all
	}
	allowed := e.Decision.Allowed
	add("limited", allowed && e.Kind == audit.ExchangeDenied)
	add("approved", e.Kind == audit.ExchangeGranted && e.Decision.Demand != nil)
	add(e.Decision.Exempt, e.Decision.Exempt != "")
	add("agent", allowed && e.Principal.Actor != nil)
	add("cautioned", allowed && e.Principal.Cautions != nil)
	add("bound", allowed && e.Decision.Rule == "bound")
	add("windowed", allowed && e.Decision.Rule == "by-night")
	add("frozen", e.Decision.Rule == "freeze")
	add("no groups known", allowed && e.Principal.Groups == nil)
	return all
}

// manyDecisions is an export of n decisions, three of four of which are refusals, made by rules of
// usual size.
func manyDecisions(tb testing.TB, n int) (rules, log string) {
	tb.Helper()
	dir := tb.TempDir()
	rules, log = filepath.Join(dir, "daypass.yaml"), filepath.Join(dir, "export.jsonl")
	var text strings.Builder
	text.WriteString("server: { plain: true }\nidentity_providers:\n  - { name: ci, preset: github-actions, audiences: [https://daypass.example.com] }\n")
	text.WriteString("issuers: [{ name: mint, fake: {} }]\ntargets:\n")
	for i := range 250 {
		fmt.Fprintf(&text, "  - { name: db-%d, credential: { issuer: mint } }\n", i)
	}
	text.WriteString("rules:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "  - { name: rule-%d, who: 'principal.provider == \"ci\" && principal.claims.repository_id == \"%d\" && principal.claims.ref == \"refs/heads/main\"', may: [{ target: db-%d, scopes: [read] }], ttl: 15m }\n", i, i, i/4)
	}
	if err := os.WriteFile(rules, []byte(text.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	c, err := config.Load(rules, config.Options{WithoutFiles: true})
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := audit.GenerateSigner("broker.example.com/log")
	if err != nil {
		tb.Fatal(err)
	}
	writeDecisions(tb, log, n, c.Policy, signer)
	return rules, log
}

// writeDecisions writes what a set decides, with all the claims that a real job has. The export's
// trailer counts the entries; its checkpoint is not one of this log.
func writeDecisions(tb testing.TB, name string, n int, set *policy.Set, signer *audit.Signer) {
	tb.Helper()
	f, err := os.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, "%s\n", exportHeader)
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		repo := i % 1000
		who := cred.Principal{
			Provider: "ci", Issuer: "https://token.actions.githubusercontent.com", Subject: "repo:octo/app:ref:refs/heads/main", Kind: cred.KindWorkload,
			Claims: jobClaims(repo, i%4 != 0),
		}
		want := cred.Request{Target: fmt.Sprintf("db-%d", repo/4), Scopes: []string{"read"}}
		d := set.Decide(who, want, at)
		e := audit.Event{
			Kind: audit.ExchangeDenied, Time: at.Add(time.Duration(i) * time.Second), Principal: audit.PrincipalOf(who),
			Request: audit.RequestOf(want, want.Digest(who)), Peer: "192.0.2.1",
			Decision: &audit.Decision{
				Allowed: d.Allowed, PolicyHash: d.PolicyHash, Rule: d.Private.Rule, Reason: d.Private.Reason, Condition: d.Private.Condition,
			},
		}
		if d.Allowed {
			e.Kind, e.Grant = audit.ExchangeGranted, cred.NewGrantID(at)
		}
		canonical, err := audit.Canonical(uint64(i), e)
		if err != nil {
			tb.Fatal(err)
		}
		fmt.Fprintf(f, "{\"leaf\":%q,\"entry\":%s}\n", audit.LeafHash(canonical), canonical)
	}
	fmt.Fprintf(f, "{\"entries\":%d,\"checkpoint\":\"\",\"verifier_key\":%q}\n", n, signer.VerifierKey())
}

func jobClaims(repo int, refused bool) map[string]any {
	claims := map[string]any{
		"aud": "https://daypass.example.com", "iss": "https://token.actions.githubusercontent.com", "iat": 1772323200.0, "nbf": 1772323200.0, "exp": 1772323500.0,
		"jti": "0c1f7b5e-5f2a-4a8e-9a53-6c1f0f2d8b1e", "sub": "repo:octo/app:ref:refs/heads/main", "actor": "octo-dev", "actor_id": "12345",
		"base_ref": "", "head_ref": "", "event_name": "push", "job_workflow_ref": "octo/app/.github/workflows/deploy.yml@refs/heads/main",
		"job_workflow_sha": "d6fd1a5c6a3b1d2b7d2bd5b6f6bd8f8f8a1d2c3e", "ref": "refs/heads/main", "ref_protected": "true", "ref_type": "branch",
		"repository": "octo/app", "repository_id": fmt.Sprint(repo), "repository_owner": "octo", "repository_owner_id": "77", "repository_visibility": "private",
		"run_attempt": "1", "run_id": "9988776655", "run_number": "42", "runner_environment": "github-hosted", "sha": "d6fd1a5c6a3b1d2b7d2bd5b6f6bd8f8f8a1d2c3e",
		"workflow": "deploy", "workflow_ref": "octo/app/.github/workflows/deploy.yml@refs/heads/main", "workflow_sha": "d6fd1a5c6a3b1d2b7d2bd5b6f6bd8f8f8a1d2c3e",
	}
	if refused {
		claims["ref"] = "refs/heads/topic"
	}
	return claims
}

// BenchmarkReplay decides 100,000 recorded requests again, with 1,000 rules, from an export on disk.
func BenchmarkReplay(b *testing.B) {
	const decisions = 100_000
	rules, log := manyDecisions(b, decisions)
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		if code := run([]string{"policy", "replay", "--config", rules, "--log", log, "--strict"}, nil, io.Discard, os.Stderr); code != cli.Done {
			b.Fatalf("exit %d", code)
		}
	}
	b.ReportMetric(float64(decisions)*float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N), "cpu-s/op") // what others on the machine do not change
}

// processorTime is what this process has used of the processors.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
