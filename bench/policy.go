package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
)

// What the rule sets of the benchmark have.
const (
	policyRules     = 1000
	replayDecisions = 100_000
)

// benchPolicy measures decisions on one core with 1,000 rules, spread over 100 targets and all for one,
// and how fast `daypass policy replay` decides an exported log again.
func benchPolicy(ctx context.Context, b *bench) ([]result, error) {
	var all []result
	for _, targets := range []int{100, 1} {
		set, problems := policy.Parse("bench.yaml", ruleText(targets))
		if problems != nil {
			return nil, problems
		}
		speed, err := perSecond(ctx, 1, b.round, decideInTurn(set, targets))
		if err != nil {
			return nil, err
		}
		all = append(all, result{
			Name: fmt.Sprintf("policy: decisions, %d rules for %d targets, one core", policyRules, targets), Value: speed, Unit: "decisions/s", Goal: "≥ 20,000",
		})
	}
	seconds, err := replaySpeed(ctx, b)
	if err != nil {
		return nil, err
	}
	return append(all, result{Name: fmt.Sprintf("policy: replay of %d decisions, %d rules", replayDecisions, policyRules), Value: seconds, Unit: "s", Goal: "< 10"}), nil
}

// ruleText is a rule set as teams write them: one rule for each repository.
func ruleText(targets int) []byte {
	var t strings.Builder
	t.WriteString("targets:\n")
	for i := range targets {
		fmt.Fprintf(&t, "  - { name: db-%d, credential: { issuer: vault, path: database/creds/%d } }\n", i, i)
	}
	t.WriteString("rules:\n")
	for i := range policyRules {
		fmt.Fprintf(&t, "  - name: rule-%d\n    who: principal.provider == \"ci\" && principal.claims.repository_id == \"%d\" && principal.claims.ref == \"refs/heads/main\"\n    may: [{ target: db-%d, scopes: [read] }]\n    ttl: 15m\n", i, i, i%targets)
	}
	return []byte(t.String())
}

// jobOf is a CI job, every fourth of them of a branch that no rule names.
func jobOf(n int) (cred.Principal, cred.Request) {
	ref := "refs/heads/main"
	if n%4 == 0 {
		ref = "refs/heads/topic"
	}
	return cred.Principal{
		Provider: "ci", Issuer: "https://token.actions.githubusercontent.com", Subject: "repo:example-org/example-repo:ref:" + ref, Kind: cred.KindWorkload,
		Claims: map[string]any{
			"repository_id": fmt.Sprint(n % policyRules), "ref": ref, "repository": "example-org/example-repo", "event_name": "push", "actor": "example",
			"run_id": fmt.Sprint(n), "workflow": "deploy", "sha": strings.Repeat("0f", 20), "runner_environment": "github-hosted",
		},
	}, cred.Request{Scopes: []string{"read"}}
}

func decideInTurn(set *policy.Set, targets int) func(int) error {
	now, n := time.Now(), 0
	return func(int) error {
		n++
		who, want := jobOf(n)
		want.Target = fmt.Sprintf("db-%d", n%policyRules%targets)
		if d := set.Decide(who, want, now); d.Allowed != (n%4 != 0) {
			return fmt.Errorf("decision %d: %s", n, d.Public)
		}
		return nil
	}
}

// replaySpeed writes a log of decisions, exports it, and has the command replay it.
func replaySpeed(ctx context.Context, b *bench) (float64, error) {
	const targets = 100
	set, problems := policy.Parse("bench.yaml", ruleText(targets))
	if problems != nil {
		return 0, problems
	}
	export, config := filepath.Join(b.dir, "decisions.jsonl"), filepath.Join(b.dir, "replay.yaml")
	if err := writeDecisions(ctx, b, export, set, targets); err != nil {
		return 0, err
	}
	head := "server: { plain: true }\nidentity_providers: [{ name: ci, preset: github-actions, audiences: [bench] }]\nissuers: [{ name: vault, vault: {} }]\n"
	if err := os.WriteFile(config, append([]byte(head), ruleText(targets)...), 0o600); err != nil {
		return 0, err
	}
	program := filepath.Join(b.dir, "daypass")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/daypass").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, program, "policy", "replay", "--config", config, "--log", export, "--strict").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("replay: %w\n%s", err, out)
	}
	return time.Since(began).Seconds(), nil
}

func writeDecisions(ctx context.Context, b *bench, export string, set *policy.Set, targets int) error {
	signer, err := audit.GenerateSigner("bench.example.com/decisions")
	if err != nil {
		return err
	}
	log, err := boltlog.Open(filepath.Join(b.dir, "decisions.db"), signer, boltlog.Options{})
	if err != nil {
		return err
	}
	defer log.Close()
	const batch = 500
	for n := 0; n < replayDecisions; n += batch {
		events := make([]audit.Event, batch)
		for i := range events {
			events[i] = decisionEvent(set, n+i, targets)
		}
		if _, err := log.Append(ctx, events...); err != nil {
			return err
		}
	}
	return exportLog(ctx, log, export)
}

func decisionEvent(set *policy.Set, n, targets int) audit.Event {
	who, want := jobOf(n)
	want.Target = fmt.Sprintf("db-%d", n%policyRules%targets)
	at := time.Now()
	d := set.Decide(who, want, at)
	e := audit.Event{
		Kind: audit.ExchangeDenied, Time: at, Principal: audit.PrincipalOf(who), Request: audit.RequestOf(want, want.Digest(who)),
		Decision: &audit.Decision{Allowed: d.Allowed, PolicyHash: d.PolicyHash, Rule: d.Private.Rule, Reason: d.Private.Reason, Condition: d.Private.Condition},
	}
	if d.Allowed {
		e.Kind, e.Grant = audit.ExchangeGranted, cred.NewGrantID(at)
	}
	return e
}

func exportLog(ctx context.Context, log *boltlog.Log, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	cp, err := log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	x, err := audit.NewExporter(f, audit.FormatJSONL)
	if err != nil {
		return err
	}
	for e, err := range log.Entries(ctx, 0, cp.Size) {
		if err != nil {
			return err
		}
		if err := x.Write(e); err != nil {
			return err
		}
	}
	return x.Close(audit.Trailer{Note: cp.Note, VerifierKey: log.VerifierKey()})
}
