package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newGrants(c *connection) *cobra.Command {
	cmd := &cobra.Command{Use: "grants", Short: "List, show and revoke grants", Args: cobra.ArbitraryArgs, RunE: cli.NoCommand}
	cmd.AddCommand(newGrantsList(c), newGrantsShow(c), newGrantsRevoke(c))
	return cmd
}

func newGrantsList(c *connection) *cobra.Command {
	var output string
	r := &pb.ListGrantsRequest{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List grants, newest first: your own, or all of them for auditors",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			grants, next, err := client.Grants(cmd.Context(), r)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), output, &pb.ListGrantsResponse{Grants: grants, NextPageToken: next}, func(w io.Writer) {
				fmt.Fprintln(w, "GRANT\tSTATE\tTARGET\tHOLDER\tRULE\tMADE\tENDS")
				for _, g := range grants {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.GetId(), g.GetState(), g.GetTarget(), g.GetHolder().GetSubject(), g.GetRule(), when(g.GetCreateTime()), when(g.GetExpireTime()))
				}
				if next != "" {
					fmt.Fprintf(w, "\nthere are more: --page %s\n", next)
				}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Target, "target", "", "only grants for this target")
	f.StringVar(&r.State, "state", "", "only grants in this state")
	f.Int32Var(&r.PageSize, "limit", 100, "at most so many, up to 1000")
	f.StringVar(&r.PageToken, "page", "", "where the page before ended")
	addOutput(cmd, &output)
	return cmd
}

func newGrantsShow(c *connection) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show GRANT",
		Short: "Show a grant and its leases",
		Args:  cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			r, err := client.Grant(cmd.Context(), cred.GrantID(args[0]))
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), output, r, func(w io.Writer) { showGrant(w, r.GetGrant(), r.GetLeases()) })
		},
	}
	addOutput(cmd, &output)
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
			var id cred.GrantID
			if len(args) == 1 {
				id = cred.GrantID(args[0])
			}
			client, err := c.revoker(cmd, id, tokenFile)
			if err != nil {
				return err
			}
			defer client.Close()
			r, err := client.Revoke(cmd.Context(), id, reason)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), output, r, func(w io.Writer) { showGrant(w, r.GetGrant(), r.GetLeases()) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "why, for the log")
	f.StringVar(&tokenFile, "token-file", "", "file with the grant token, or - for standard input")
	addOutput(cmd, &output)
	return cmd
}

// revoker connects with the ID token where a grant is named, else with the grant token.
func (c *connection) revoker(cmd *cobra.Command, id cred.GrantID, tokenFile string) (*sdk.Client, error) {
	if id != "" {
		return c.client(cmd)
	}
	held := connection{idTokenFile: tokenFile}
	source := held.idTokens(cmd.InOrStdin())
	if tokenFile == "" {
		tok := os.Getenv("DAYPASS_TOKEN")
		if tok == "" {
			return nil, cli.HintedError{Err: cli.Usagef("no grant is named"), Hint: "name a grant, or give its token with --token-file or DAYPASS_TOKEN"}
		}
		source = func(context.Context) (cred.Secret, error) { return cred.SecretString(tok), nil }
	}
	return c.clientAs(source)
}

func showGrant(w io.Writer, g *pb.Grant, leases []*pb.Lease) {
	fmt.Fprintf(w, "grant\t%s\nstate\t%s\ntarget\t%s\nholder\t%s\nrule\t%s\npolicy\t%s\nmade\t%s\nends\t%s\n",
		g.GetId(), g.GetState(), g.GetTarget(), g.GetHolder().GetSubject(), g.GetRule(), g.GetPolicyHash(), when(g.GetCreateTime()), when(g.GetExpireTime()))
	if g.GetEndTime() != nil {
		fmt.Fprintf(w, "ended\t%s\t%s\n", when(g.GetEndTime()), g.GetEndReason())
	}
	if len(leases) == 0 {
		return
	}
	fmt.Fprintln(w, "\nLEASE\tSTATE\tISSUER\tENDS\tNOTE")
	for _, l := range leases {
		note := l.GetNote()
		if !l.GetRevocable() && l.GetState() == "issued" {
			note = "its source can't end it early. " + note
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.GetId(), l.GetState(), l.GetIssuer(), when(l.GetExpireTime()), note)
	}
}

func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.RFC3339)
}
