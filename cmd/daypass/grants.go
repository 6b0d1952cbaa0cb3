package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newGrants(c *connection) *cobra.Command {
	cmd := &cobra.Command{Use: "grants", Short: "List, show, renew and revoke grants", Args: cobra.ArbitraryArgs, RunE: cli.NoCommand}
	cmd.AddCommand(newGrantsList(c), newGrantsShow(c), newGrantsRenew(c), newGrantsRevoke(c))
	return cmd
}

func newGrantsList(c *connection) *cobra.Command {
	r := &pb.ListGrantsRequest{}
	cmd := command(c, "list", "List grants, newest first: your own, or all of them for auditors", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListGrantsResponse, error) {
			grants, next, err := client.Grants(cmd.Context(), r)
			return &pb.ListGrantsResponse{Grants: grants, NextPageToken: next}, err
		},
		func(w io.Writer, all *pb.ListGrantsResponse) {
			cli.Row(w, "GRANT", "STATE", "TARGET", "HOLDER", "RULE", "MADE", "ENDS")
			for _, g := range all.GetGrants() {
				cli.Row(w, g.GetId(), g.GetState(), g.GetTarget(), g.GetHolder().GetSubject(), g.GetRule(), when(g.GetCreateTime()), when(g.GetExpireTime()))
			}
			if all.GetNextPageToken() != "" {
				fmt.Fprintf(w, "\nthere are more: --page %s\n", all.GetNextPageToken())
			}
		})
	f := cmd.Flags()
	f.StringVar(&r.Target, "target", "", "only grants for this target")
	f.StringVar(&r.State, "state", "", "only grants in this state")
	f.Int32Var(&r.PageSize, "limit", 100, "at most so many, up to 1000")
	f.StringVar(&r.PageToken, "page", "", "where the page before ended")
	return cmd
}

func newGrantsShow(c *connection) *cobra.Command {
	return command(c, "show GRANT", "Show a grant and its leases", cobra.ExactArgs(1),
		func(cmd *cobra.Command, args []string, client *sdk.Client) (*pb.GetGrantResponse, error) {
			return client.Grant(cmd.Context(), cred.GrantID(args[0]))
		},
		func(w io.Writer, r *pb.GetGrantResponse) { showGrant(w, r.GetGrant(), r.GetLeases()) })
}

func newGrantsRenew(c *connection) *cobra.Command {
	var output string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "renew GRANT",
		Short: "Take a new grant in place of one that still lives, where its rule allows that",
		Long: `renew asks for a new grant in place of one that still lives; the old one lives until its
own end, and can be renewed once. The new one is printed as 'daypass exchange' does.`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: c.with(func(cmd *cobra.Command, args []string, client *sdk.Client) error {
			granted, err := client.Renew(cmd.Context(), cred.GrantID(args[0]), ttl)
			if err != nil {
				return err
			}
			return exchangeOutputs[output](cmd.OutOrStdout(), granted)
		}),
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long you need it; as long as the rule allows where not given")
	cli.AddChoice(cmd, &output, "output", "o", cli.Text, cli.JSON, "env", "token")
	return cmd
}

func newGrantsRevoke(c *connection) *cobra.Command {
	var output, reason, tokenFile string
	cmd := &cobra.Command{
		Use:   "revoke [GRANT]",
		Short: "End a grant and the credentials under it, at once",
		Long: `revoke ends a grant: the credentials under it are ended at their sources before
the command returns, and proxies stop honouring its token.

A job whose ID token has ended meanwhile can give its grant back with the grant
token itself: set DAYPASS_TOKEN (as 'exchange -o env' does) or give --token-file,
and name no grant.`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			tokens, err := c.revoker(cmd.InOrStdin(), len(args) == 1, tokenFile)
			if err != nil {
				return err
			}
			return c.as(tokens, cmd, args, func(cmd *cobra.Command, args []string, client *sdk.Client) error {
				r, err := client.Revoke(cmd.Context(), cred.GrantID(strings.Join(args, "")), reason)
				if err != nil {
					return err
				}
				return show(cmd.OutOrStdout(), output, r, func(w io.Writer) { showGrant(w, r.GetGrant(), r.GetLeases()) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "why, for the log")
	f.StringVar(&tokenFile, "token-file", "", "file with the grant token, or - for standard input")
	cli.AddOutput(cmd, &output)
	return cmd
}

// revoker chooses what to show to the broker: the ID token where a grant is named, else the grant
// token, which says itself which grant it is of.
func (c *connection) revoker(stdin io.Reader, named bool, tokenFile string) (sdk.TokenSource, error) {
	tok := os.Getenv("DAYPASS_TOKEN")
	switch {
	case named && tokenFile != "":
		return nil, cli.Usagef("name a grant, or give its token with --token-file, not both")
	case named:
		return c.idTokens(stdin), nil
	case tokenFile != "":
		return func(context.Context) (cred.Secret, error) { return readTokenFile(tokenFile, stdin) }, nil
	case tok != "":
		return sdk.StaticToken(cred.SecretString(tok)), nil
	}
	return nil, cli.HintedError{Err: cli.Usagef("no grant is named"), Hint: "name a grant, or give its token with --token-file or DAYPASS_TOKEN"}
}

func showGrant(w io.Writer, g *pb.Grant, leases []*pb.Lease) {
	cli.Row(w, "grant", g.GetId())
	cli.Row(w, "state", g.GetState())
	cli.Row(w, "target", g.GetTarget())
	cli.Row(w, "holder", g.GetHolder().GetSubject())
	cli.Row(w, "rule", g.GetRule())
	cli.Row(w, "policy", g.GetPolicyHash())
	cli.Row(w, "made", when(g.GetCreateTime()))
	cli.Row(w, "ends", when(g.GetExpireTime()))
	if g.GetEndTime() != nil {
		cli.Row(w, "ended", strings.TrimSpace(when(g.GetEndTime())+" "+g.GetEndReason()))
	}
	if len(leases) == 0 {
		return
	}
	fmt.Fprintln(w)
	cli.Row(w, "LEASE", "STATE", "ISSUER", "ENDS", "NOTE")
	for _, l := range leases {
		cli.Row(w, l.GetId(), l.GetState(), l.GetIssuer(), when(l.GetExpireTime()), noteOf(l))
	}
}

func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.RFC3339)
}
