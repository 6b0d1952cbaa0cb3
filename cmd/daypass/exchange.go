package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
)

func newExchange(c *connection) *cobra.Command {
	var want cred.Request
	var params []string
	var output string
	var how exchangeFlags
	cmd := &cobra.Command{
		Use:   "exchange TARGET",
		Short: "Exchange your identity for a credential",
		Long: `exchange asks for a credential for TARGET.

Where the policy delivers directly, the credential comes back at once; where it
delivers through a proxy, a grant token comes back, which the proxy takes in its
place. Where people have to agree first, the request's ID is printed and the exit
code is 4: come back with --request ID once they have, or give --wait and stay.

The credential itself is printed only where -o asks for it:

  text   what was granted, and no secret
  json   all of it
  env    lines for a shell's eval: DAYPASS_GRANT, DAYPASS_TOKEN (the grant token), and
         DAYPASS_NAME for each field NAME of the credential. AWS keys go by the names
         that AWS's tools read. A field whose variable daypass reads itself, such as
         token, goes by DAYPASS_CREDENTIAL_NAME
  token  the grant token, or the one field that the credential has`,
		Example: `  daypass exchange orders-db --scope read -o env
  daypass exchange copilot --reason 'ticket 4711' -o token
  daypass exchange orders-db --reason 'ticket 4711' --wait -o env`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: c.with(func(cmd *cobra.Command, args []string, client *sdk.Client) error {
			want.Target = args[0]
			var err error
			if want.Params, err = parsePairs("--param", params); err != nil {
				return err
			}
			granted, err := how.exchange(cmd, client, want)
			if err != nil {
				return err
			}
			if granted.Pending() {
				return showPending(cmd.OutOrStdout(), output, granted.Grant)
			}
			return exchangeOutputs[output](cmd.OutOrStdout(), granted)
		}),
	}
	f := cmd.Flags()
	f.StringArrayVar(&want.Scopes, "scope", nil, "what the credential must allow; may be repeated")
	f.StringArrayVar(&params, "param", nil, "a parameter NAME=VALUE that the rule can bound; may be repeated")
	f.DurationVar(&want.TTL, "ttl", 0, "how long you need it; as long as the rule allows where not given")
	f.StringVar(&want.Reason, "reason", "", "why, for people and the log")
	f.StringVar(&want.IdempotencyKey, "idempotency-key", "", "name of this request: a retry with the same one never mints twice")
	how.add(cmd)
	cli.AddChoice(cmd, &output, "output", "o", cli.Text, cli.JSON, "env", "token")
	return cmd
}

// parsePairs reads the values of a flag that is NAME=VALUE.
func parsePairs(flag string, all []string) (map[string]string, error) {
	if len(all) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, pair := range all {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, cli.Usagef("%s must be NAME=VALUE, not %q", flag, pair)
		}
		out[name] = value
	}
	return out, nil
}

var exchangeOutputs = map[string]func(io.Writer, sdk.Granted) error{
	cli.Text: exchangeText, cli.JSON: exchangeJSON, "env": exchangeEnv, "token": exchangeToken,
}

func exchangeText(w io.Writer, g sdk.Granted) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	cli.Row(table, "grant", g.Grant.GetId())
	cli.Row(table, "target", g.Grant.GetTarget())
	cli.Row(table, "rule", g.Grant.GetRule())
	cli.Row(table, "ends", when(g.Grant.GetExpireTime()))
	if g.Credential == nil {
		cli.Row(table, "delivery", "through a proxy; -o token prints the token that it takes")
	} else {
		cli.Row(table, "delivery", fmt.Sprintf("direct: %s with %s; -o env or -o json prints it", g.Credential.Type, strings.Join(fieldNames(*g.Credential), ", ")))
	}
	return table.Flush()
}

func exchangeJSON(w io.Writer, g sdk.Granted) error {
	out := map[string]any{
		"grant_id": g.Grant.GetId(), "target": g.Grant.GetTarget(), "rule": g.Grant.GetRule(),
		"expires_at": g.Grant.GetExpireTime().AsTime(), "grant_token": g.Token.RevealString(),
	}
	if g.Credential != nil {
		fields := map[string]string{}
		for name, secret := range g.Credential.Fields {
			fields[name] = secret.RevealString()
		}
		credential := map[string]any{"type": g.Credential.Type, "fields": fields, "lease_id": g.Lease}
		if !g.Credential.NotAfter.IsZero() {
			credential["expires_at"] = g.Credential.NotAfter
		}
		out["credential"] = credential
	}
	return cli.WriteJSON(w, out)
}

// awsNames are the variables that AWS's own tools read.
var awsNames = map[string]string{ //nolint:gosec // G101: names of variables, no credentials
	"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY", "session_token": "AWS_SESSION_TOKEN",
}

// ownNames are variables that daypass itself reads or writes; a credential's field must not take
// their place.
var ownNames = []string{
	"DAYPASS_GRANT", "DAYPASS_TOKEN", "DAYPASS_ID_TOKEN", "DAYPASS_BROKER", "DAYPASS_CA_FILE", "DAYPASS_AUDIENCE", "DAYPASS_LOG_KEY",
	"DAYPASS_HOME", "DAYPASS_KEYRING",
	"DAYPASS_LOGIN_PROVIDER", "DAYPASS_LOGIN_ISSUER", "DAYPASS_LOGIN_CLIENT_ID", "DAYPASS_LOGIN_CLIENT_SECRET",
}

// exchangeEnv writes lines that a shell can eval.
func exchangeEnv(w io.Writer, g sdk.Granted) error {
	exportVar(w, "DAYPASS_GRANT", g.Grant.GetId())
	exportVar(w, "DAYPASS_TOKEN", g.Token.RevealString())
	if g.Credential == nil {
		return nil
	}
	for _, field := range fieldNames(*g.Credential) {
		exportVar(w, envName(g.Credential.Type, field), g.Credential.Fields[field].RevealString())
	}
	return nil
}

// envName is the variable for a field.
func envName(credential cred.CredentialType, field string) string {
	if name, ok := awsNames[field]; ok && credential == cred.AWS {
		return name
	}
	suffix := strings.ToUpper(strings.Map(envRune, field))
	if slices.Contains(ownNames, "DAYPASS_"+suffix) {
		return "DAYPASS_CREDENTIAL_" + suffix
	}
	return "DAYPASS_" + suffix
}

func envRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

func exportVar(w io.Writer, name, value string) {
	fmt.Fprintf(w, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
}

// exchangeToken writes the one token that there is to use.
func exchangeToken(w io.Writer, g sdk.Granted) error {
	tok := g.Token
	if g.Credential != nil {
		names := fieldNames(*g.Credential)
		if len(names) != 1 {
			return cli.HintedError{
				Err:  cli.Usagef("this credential has the fields %s, so -o token can't print it; use -o env or -o json", strings.Join(names, ", ")),
				Hint: fmt.Sprintf("it was granted; 'daypass grants revoke %s' ends it", g.Grant.GetId()),
			}
		}
		tok = g.Credential.Fields[names[0]]
	}
	fmt.Fprintln(w, tok.RevealString())
	return nil
}

func fieldNames(c cred.Credential) []string {
	names := make([]string, 0, len(c.Fields))
	for name := range c.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
