package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/internal/cli"
)

// loginOptions are the flags of login.
type loginOptions struct {
	method          login.Method
	device, browser bool
	fresh           bool
	port            int
	output          string
}

func newLogin(c *connection) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Sign in, so that every command knows who you are",
		Long: `login signs you in with your organisation's identity provider, in a browser on this
machine, or on another device where there is none here. The broker says where; --issuer
and --client-id say it in its place.

Until 'daypass logout', commands that are given no ID token use the sign-in's, and
refresh it. It is kept for each broker by itself: the refresh token in the system's
keyring, or, where there is none, in a file that you alone may read.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.login(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.method.Provider, "provider", os.Getenv("DAYPASS_LOGIN_PROVIDER"), "which of the broker's identity providers, where people sign in at several (or DAYPASS_LOGIN_PROVIDER)")
	f.StringVar(&o.method.Issuer, "issuer", os.Getenv("DAYPASS_LOGIN_ISSUER"), "URL of an OpenID provider, in place of what the broker says (or DAYPASS_LOGIN_ISSUER)")
	f.StringVar(&o.method.ClientID, "client-id", os.Getenv("DAYPASS_LOGIN_CLIENT_ID"), "what daypass is registered as there (or DAYPASS_LOGIN_CLIENT_ID)")
	f.StringArrayVar(&o.method.Scopes, "scope", nil, "what to ask that provider for, openid and offline_access where not given; may be repeated")
	f.BoolVar(&o.device, "device", false, "sign in on another device: shows a code and a page")
	f.BoolVar(&o.browser, "browser", false, "sign in in a browser here, even where there seems to be none")
	f.BoolVar(&o.fresh, "fresh", false, "sign in again, even if the provider remembers you: approvals want a recent sign-in")
	f.IntVar(&o.port, "port", 0, "port of 127.0.0.1 that the browser comes back to, for providers that want it registered; any where 0")
	cli.AddOutput(cmd, &o.output)
	return cmd
}

func (c *connection) login(cmd *cobra.Command, o loginOptions) error {
	if err := c.needBroker(); err != nil {
		return err
	}
	if o.device && o.browser {
		return cli.Usagef("sign in with --device or with --browser, not both")
	}
	k, err := c.keeper(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	flow := login.Flow{Client: k.Client, Out: cmd.ErrOrStderr(), Fresh: o.fresh, Port: o.port, Open: login.Opener(os.Getenv)}
	if flow.Method, err = c.loginMethod(cmd.Context(), o); err != nil {
		return err
	}
	s, err := signIn(cmd.Context(), flow, o)
	if err != nil {
		return err
	}
	if err := k.Save(cmd.Context(), s); err != nil {
		return err
	}
	if s.Refresh.IsZero() {
		fmt.Fprintf(cmd.ErrOrStderr(), "daypass: note: %s gave no refresh token, so sign in again after %s\n", s.Method.Issuer, s.ExpiresAt.Local().Format(time.TimeOnly))
	}
	return showSession(cmd.OutOrStdout(), o.output, s)
}

// loginMethod is what the flags say, else what the broker says.
func (c *connection) loginMethod(ctx context.Context, o loginOptions) (login.Method, error) {
	m := o.method
	m.ClientSecret = os.Getenv("DAYPASS_LOGIN_CLIENT_SECRET")
	switch {
	case m.Issuer != "" && m.ClientID != "":
		return m, nil
	case m.Issuer != "" || m.ClientID != "":
		return m, cli.Usagef("--issuer and --client-id go together")
	}
	client, err := c.webClient()
	if err != nil {
		return m, err
	}
	methods, err := login.Discover(ctx, client, c.broker)
	if err != nil {
		return m, c.explain(err)
	}
	found, err := login.Choose(methods, m.Provider)
	if len(m.Scopes) > 0 {
		found.Scopes = m.Scopes
	}
	found.ClientSecret = cmp.Or(m.ClientSecret, found.ClientSecret)
	return found, err
}

// signIn chooses between the two ways, and says so where it was not told.
func signIn(ctx context.Context, flow login.Flow, o loginOptions) (login.Session, error) {
	if o.browser {
		return flow.Browser(ctx)
	}
	if ok, why := login.CanBrowse(runtime.GOOS, os.Getenv); !ok && !o.device {
		fmt.Fprintf(flow.Out, "daypass: note: %s, so sign in on another device; --browser does without one\n", why)
		o.device = true
	}
	if o.device {
		return flow.Device(ctx)
	}
	return flow.Browser(ctx)
}

func showSession(w io.Writer, output string, s login.Session) error {
	if output == cli.JSON {
		out := map[string]any{
			"issuer": s.Method.Issuer, "subject": s.Subject, "name": s.Name,
			"id_token_expires_at": s.ExpiresAt.UTC(), "refreshes": !s.Refresh.IsZero(),
		}
		if !s.AuthTime.IsZero() {
			out["auth_time"] = s.AuthTime.UTC()
		}
		return cli.WriteJSON(w, out)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	cli.Row(table, "signed in as", cmp.Or(s.Name, s.Subject))
	cli.Row(table, "subject", s.Subject)
	cli.Row(table, "issuer", s.Method.Issuer)
	return table.Flush()
}
