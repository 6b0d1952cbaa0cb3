package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/jws"
)

// explainFlags say who is to ask for what, and when.
type explainFlags struct {
	config, at, binding, output string
	who, actor                  claimedFlags
	params                      []string
	want                        cred.Request
}

// claimedFlags say where somebody's claims come from.
type claimedFlags struct{ token, claims, provider string }

func newPolicyExplain(c *connection) *cobra.Command {
	var x explainFlags
	cmd := &cobra.Command{
		Use:   "explain TARGET",
		Short: "Tell what the rules would say to somebody, rule by rule",
		Long: `explain decides a request that nobody makes: it shows every rule for TARGET, which
of its conditions do not hold and what they saw, the decision, and whose approval
would be asked.

Who asks is told by the claims of an ID token, found as for 'daypass exchange', or
by a JSON file of claims with --claims. Nothing about them is verified: no
signature, no audience, no time.`,
		Example: `  daypass policy explain orders-db --scope read --id-token-file token
  daypass policy explain orders-db --claims job.json --provider github-actions --at 2026-03-29T02:30:00+01:00`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			x.want.Target = args[0]
			return x.run(cmd, c)
		},
	}
	f := cmd.Flags()
	addConfig(cmd, &x.config)
	f.StringVar(&x.who.claims, "claims", "", "JSON file with the claims of who asks, in place of a token; or - for standard input")
	f.StringVar(&x.who.provider, "provider", "", "name of the identity provider that the claims are from; found by their iss where not given")
	f.StringVar(&x.actor.token, "actor-token-file", "", "file with the ID token of the agent that acts for who asks")
	f.StringVar(&x.actor.claims, "actor-claims", "", "JSON file with the agent's claims, in place of its token")
	f.StringVar(&x.actor.provider, "actor-provider", "", "name of the identity provider that the agent's claims are from")
	f.StringArrayVar(&x.want.Scopes, "scope", nil, "a scope that is asked for; may be repeated")
	f.StringArrayVar(&x.params, "param", nil, "a parameter NAME=VALUE that is sent; may be repeated")
	f.DurationVar(&x.want.TTL, "ttl", 0, "the lifetime that is asked for")
	f.StringVar(&x.want.Reason, "reason", "", "the reason that is given")
	f.StringVar(&x.binding, "binding", "", "how the grant is to be bound to a key: dpop or mtls")
	f.StringVar(&x.at, "at", "", "when, as an RFC 3339 time; now where not given")
	cli.AddOutput(cmd, &x.output)
	return cmd
}

func (x *explainFlags) run(cmd *cobra.Command, c *connection) error {
	if err := x.read(); err != nil {
		return err
	}
	at := time.Now()
	if x.at != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, x.at); err != nil {
			return cli.Usagef("--at must be a time such as 2026-03-29T02:30:00+01:00, not %q", x.at)
		}
	}
	conf, err := loadPolicy(x.config)
	if err != nil {
		return err
	}
	who, err := x.principal(cmd, c, conf)
	if err != nil {
		return err
	}
	e := explained{who: who, want: x.want, at: at, decision: conf.Policy.Explain(who, x.want, at)}
	if x.output == cli.JSON {
		return cli.WriteJSON(cmd.OutOrStdout(), e.json())
	}
	return e.text(cmd.OutOrStdout())
}

// read checks what is typed, and finds wrong usage before anything else.
func (x *explainFlags) read() (err error) {
	if x.binding != "" && x.binding != string(cred.BindDPoP) && x.binding != string(cred.BindMTLS) {
		return cli.Usagef("--binding must be dpop or mtls, not %q", x.binding)
	}
	x.want.Binding = cred.Binding(x.binding)
	x.want.Params, err = parsePairs("--param", x.params)
	return err
}

func (x *explainFlags) principal(cmd *cobra.Command, c *connection, conf *config.Config) (cred.Principal, error) {
	var claims map[string]any
	var err error
	if x.who.claims != "" {
		claims, err = readClaims(x.who.claims, cmd.InOrStdin())
	} else {
		var token cred.Secret
		if token, err = c.idTokens(cmd.InOrStdin())(cmd.Context()); err == nil {
			claims, err = claimsOf(token)
		}
	}
	if err != nil {
		return cred.Principal{}, err
	}
	who, err := claimed(conf, claims, x.who.provider)
	if err != nil || x.actor == (claimedFlags{}) {
		return who, err
	}
	actor, err := x.acting(cmd.InOrStdin(), conf)
	if err != nil {
		return who, fmt.Errorf("the agent: %w", err)
	}
	who.Actor = &actor
	return who, nil
}

func (x *explainFlags) acting(stdin io.Reader, conf *config.Config) (cred.Principal, error) {
	var claims map[string]any
	var err error
	switch {
	case x.actor.claims != "":
		claims, err = readClaims(x.actor.claims, stdin)
	case x.actor.token != "":
		var token cred.Secret
		if token, err = readTokenFile(x.actor.token, stdin); err == nil {
			claims, err = claimsOf(token)
		}
	default:
		err = cli.Usagef("--actor-provider needs --actor-claims or --actor-token-file")
	}
	if err != nil {
		return cred.Principal{}, err
	}
	return claimed(conf, claims, x.actor.provider)
}

// readClaims reads a JSON object from a file, or from stdin where its name is "-".
func readClaims(name string, stdin io.Reader) (map[string]any, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("the claims can't be read: %w", err)
		}
		defer f.Close()
		stdin = f
	}
	dec := json.NewDecoder(io.LimitReader(stdin, maxTokenBytes))
	var claims map[string]any
	if err := dec.Decode(&claims); err != nil || claims == nil {
		return nil, fmt.Errorf("%s does not hold a JSON object of claims", name)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s holds more than one JSON object", name)
	}
	return claims, nil
}

func claimsOf(token cred.Secret) (map[string]any, error) {
	parsed, err := jws.Parse(string(token.Reveal()), maxTokenBytes)
	return parsed.Claims, err
}

// claimed makes a principal of claims that nobody verified.
func claimed(conf *config.Config, claims map[string]any, provider string) (cred.Principal, error) {
	if provider == "" {
		p, err := providerOf(conf, claims)
		if err != nil {
			return cred.Principal{}, err
		}
		provider = p.Name
	}
	return identifier(conf)(provider, claims)
}

// providerOf finds a provider by the issuer that claims name, or by the trust domain of their subject.
func providerOf(conf *config.Config, claims map[string]any) (identity.Provider, error) {
	iss, _ := claims["iss"].(string)
	sub, _ := claims["sub"].(string)
	for _, p := range conf.Providers() {
		if slices.Contains(p.IssuerNames(), iss) || p.TrustDomain != "" && strings.HasPrefix(sub, p.PrincipalIssuer()+"/") {
			return p, nil
		}
	}
	if iss == "" {
		return identity.Provider{}, cli.HintedError{Err: errors.New("the claims name no issuer (iss)"), Hint: "give --provider NAME"}
	}
	return identity.Provider{}, cli.HintedError{
		Err:  fmt.Errorf("no identity provider of the configuration has the issuer %q", iss),
		Hint: "give --provider NAME to try the claims as those of another",
	}
}

// explained is what the rules say, to be shown.
type explained struct {
	who      cred.Principal
	want     cred.Request
	at       time.Time
	decision policy.Decision
}

func (e explained) text(w io.Writer) error {
	d := e.decision
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			cli.Row(table, name, value)
		}
	}
	row("who", personOf(e.who)+" (claims not verified)")
	if e.who.Actor != nil {
		row("agent", personOf(*e.who.Actor)+" (claims not verified)")
	}
	row("groups", groupsOf(e.who))
	row("at", e.at.UTC().Format(time.RFC3339))
	row("decision", string(d.Outcome()))
	row("rule", d.Private.Rule)
	row("reason", d.Private.Reason)
	if d.Allowed {
		row("ttl", span(d.TTL))
		row("delivery", string(d.Deliver))
		row("approval", approvalOf(d))
	} else {
		row("told", d.Public)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return e.rules(w)
}

// rules writes what every rule for the target says.
func (e explained) rules(w io.Writer) error {
	if len(e.decision.Rules) == 0 {
		_, err := fmt.Fprintf(w, "\nno rule names target %q\n", e.want.Target)
		return err
	}
	fmt.Fprintf(w, "\nrules for %s, deny rules first, each in file order:\n", e.want.Target)
	for _, r := range e.decision.Rules {
		cli.Row(w, "  "+ruleName(r)+": "+saysOf(r))
		for _, f := range r.Failed {
			cli.Row(w, "    - "+f)
		}
	}
	return nil
}

func ruleName(r policy.RuleResult) string {
	name := r.Rule
	if r.Deny {
		name = "deny rule " + name
	}
	if r.Actor {
		name += ", for the agent"
	}
	return name
}

func saysOf(r policy.RuleResult) string {
	switch {
	case r.Deny && r.Matched:
		return "refuses"
	case r.Deny:
		return "does not apply"
	case r.Matched:
		return "matches"
	}
	return "does not match"
}

func personOf(p cred.Principal) string {
	return fmt.Sprintf("%s %q", p.Provider, p.Subject)
}

func groupsOf(p cred.Principal) string {
	if p.Groups == nil {
		return "unknown"
	}
	if len(p.Groups) == 0 {
		return "none"
	}
	return strings.Join(p.Groups, ", ")
}

// approvalOf says in words whose approval is asked, or why nobody's is.
func approvalOf(d policy.Decision) string {
	text := d.Demand.InWords()
	if d.Demand != nil {
		text += ", within " + span(d.Demand.Within)
	}
	if d.Exempt != "" {
		text += " (" + d.Exempt + ")"
	}
	return text
}

func (e explained) json() map[string]any {
	d := e.decision
	rules := make([]map[string]any, 0, len(d.Rules))
	for _, r := range d.Rules {
		rules = append(rules, map[string]any{
			"rule": r.Rule, "matched": r.Matched, "reason": r.Reason, "failed": append([]string{}, r.Failed...), "visible": r.Visible,
			"deny": r.Deny, "for_agent": r.Actor,
		})
	}
	out := map[string]any{
		"verified": false, "principal": e.who, "request": e.want, "at": e.at.UTC(), "policy_hash": d.PolicyHash,
		"decision": d.Outcome(), "rule": d.Private.Rule, "rules": rules,
	}
	if !d.Allowed {
		out["reason"], out["condition"], out["told"], out["visible"] = d.Private.Reason, d.Private.Condition, d.Public, d.Visible
		return out
	}
	out["ttl_seconds"], out["deliver"], out["params"], out["demand"], out["exempt"] = d.TTL.Seconds(), d.Deliver, d.Params, d.Demand, d.Exempt
	if !d.Until.IsZero() {
		out["until"] = d.Until.UTC()
	}
	return out
}
