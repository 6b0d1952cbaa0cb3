package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// defaultConfig is the file that the policy commands read where none is named.
const defaultConfig = "daypass.yaml"

func newPolicy(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check, explain, test, lint and replay rules, before they are in force",
		Long: `The policy commands read daypass.yaml where you stand, and decide with the same
code as the broker. They need no key, no certificate and, but for 'replay' without
--log, no broker.`,
		Args: cobra.ArbitraryArgs,
		RunE: cli.NoCommand,
	}
	cmd.AddCommand(newPolicyCheck(), newPolicyExplain(c), newPolicyTest(), newPolicyLint(), newPolicyReplay(c))
	return cmd
}

func newPolicyCheck() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Name everything that is wrong with a configuration, each with its place",
		Long: `check reads FILE, daypass.yaml where none is named, and names every problem with
file, line and column. Issuers' own sections are left to 'daypassd check', which
has their drivers, and so are keys, certificates and secrets. On-call schedules are
a part of the rules and are read.`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := configFile(args)
			_, err := loadPolicy(file)
			return cli.ShowCheck(cmd.OutOrStdout(), output, file, "", err)
		},
	}
	cli.AddOutput(cmd, &output)
	return cmd
}

func configFile(args []string) string {
	if len(args) == 0 {
		return defaultConfig
	}
	return args[0]
}

// addConfig adds the flag --config.
func addConfig(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "config", defaultConfig, "the configuration with the rules")
}

// identifier makes principals of claims as the broker does, without a token.
func identifier(c *config.Config) policy.Identify {
	all := c.Providers()
	return func(provider string, claims map[string]any) (cred.Principal, error) {
		i := slices.IndexFunc(all, func(p identity.Provider) bool { return p.Name == provider })
		if i < 0 {
			return cred.Principal{}, noProvider(provider, all)
		}
		if claims == nil {
			return cred.Principal{Provider: provider, Issuer: all[i].PrincipalIssuer(), Kind: kindOf(all[i])}, nil
		}
		return all[i].Unverified(claims)
	}
}

func kindOf(p identity.Provider) cred.PrincipalKind {
	if p.Kind == "" {
		return cred.KindPerson
	}
	return p.Kind
}

func noProvider(name string, all []identity.Provider) error {
	var known []string
	for _, p := range all {
		known = append(known, p.Name)
	}
	public := fmt.Sprintf("there is no identity provider %q in the configuration", name)
	if near := strictyaml.DidYouMean(name, known); near != "" {
		public += " (" + near + ")"
	}
	return &cred.Error{Kind: cred.Invalid, Op: "policy", Reason: "PROVIDER_UNKNOWN", Public: public}
}
