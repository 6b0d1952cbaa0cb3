package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/helper"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
)

// helperOptions are the flags that say what a tool gets, and from where. The same ones set a tool up and
// stand on the line that the tool then calls.
type helperOptions struct {
	host      string
	target    string
	scopes    []string
	params    []string
	pathParam string
	ttl       time.Duration
	reason    string
	bearer    bool
	user      string
}

func newHelper(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "helper",
		Short: "Give tools credentials, in the protocol that each of them speaks",
		Long: `The helper commands are called by tools, such as git, that ask another program for
credentials. Grants are kept until shortly before their end, in sealed files.

'daypass helper install' sets a tool up.`,
		Args: cobra.ArbitraryArgs, RunE: cli.NoCommand,
	}
	install := &cobra.Command{Use: "install", Short: "Set a tool up, so that it asks daypass", Args: cobra.ArbitraryArgs, RunE: cli.NoCommand}
	install.AddCommand(newInstallGit(c))
	for _, tool := range helper.Tools() {
		cmd.AddCommand(newToolHelper(c, tool))
	}
	cmd.AddCommand(install)
	return cmd
}

func newToolHelper(c *connection, tool helper.Tool) *cobra.Command {
	var o helperOptions
	cmd := &cobra.Command{
		Use:   tool.Name + " OPERATION",
		Short: tool.Summary,
		Args:  cli.Args(cobra.ExactArgs(1)),
		RunE: c.with(func(cmd *cobra.Command, args []string, client *sdk.Client) error {
			setup, err := c.setup(cmd, o, client)
			if err != nil {
				return err
			}
			return tool.Helper.Answer(cmd.Context(), setup, args[0], cmd.InOrStdin(), cmd.OutOrStdout())
		}),
	}
	o.addFlags(cmd)
	return cmd
}

func (o *helperOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.host, "host", "", "whom the credential is for, HOST[:PORT][/PATH] or a URL; nobody else gets it")
	f.StringVar(&o.target, "target", "", "the daypass target that gives the credential")
	f.StringArrayVar(&o.scopes, "scope", nil, "what the credential must allow; may be repeated")
	f.StringArrayVar(&o.params, "param", nil, "a parameter NAME=VALUE that the rule can bound; may be repeated")
	f.StringVar(&o.pathParam, "path-param", "", "the parameter that gets the path which the tool asks for, such as a repository")
	f.DurationVar(&o.ttl, "ttl", 0, "how long it is needed; as long as the rule allows where not given")
	f.StringVar(&o.reason, "reason", "", "why, for people and the log")
	f.BoolVar(&o.bearer, "bearer", false, "hand a token out as a bearer token, where the tool can take one")
	f.StringVar(&o.user, "user", "", "the user name to go with a token; the tool's usual one where not given")
}

// check reads what the flags say.
func (o *helperOptions) check() (helper.Setup, error) {
	if o.host == "" || o.target == "" {
		return helper.Setup{}, cli.Usagef("--host and --target are needed: whom the credential is for, and which one")
	}
	place, err := helper.ParsePlace(o.host)
	if err != nil {
		return helper.Setup{}, cli.Usagef("--host: %w", err)
	}
	params, err := parsePairs("--param", o.params)
	if err != nil {
		return helper.Setup{}, err
	}
	return helper.Setup{
		Place: place, Bearer: o.bearer, User: o.user, PathParam: o.pathParam,
		Want: cred.Request{Target: o.target, Scopes: o.scopes, Params: params, TTL: o.ttl, Reason: o.reason},
	}, nil
}

// setup is what the flags say, with the broker behind a cache as its source.
func (c *connection) setup(cmd *cobra.Command, o helperOptions, client *sdk.Client) (helper.Setup, error) {
	if c.idTokenFile == "-" {
		return helper.Setup{}, cli.Usagef("standard input is the tool's, so the ID token can't come from there")
	}
	setup, err := o.check()
	if err != nil {
		return setup, err
	}
	state, err := openState(cmd.ErrOrStderr())
	if err != nil {
		return setup, err
	}
	setup.Source = helper.Cache{
		State: state, Broker: strings.TrimSuffix(c.broker, "/"), Holder: c.holder(nil), Now: time.Now,
		Exchange: func(ctx context.Context, want cred.Request) (sdk.Granted, error) {
			g, err := client.Exchange(ctx, want)
			return g, c.explain(err)
		},
	}
	return setup, nil
}

// byName returns the arguments for a program that a tool called by a helper's own name.
func byName(program string, args []string) []string {
	name := strings.TrimSuffix(filepath.Base(program), ".exe")
	for _, tool := range helper.Tools() {
		if name == tool.Program && name != "" {
			return append([]string{"helper", tool.Name}, args...)
		}
	}
	return args
}

// self is the path of this program, as a tool's configuration is to have it.
func self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}
