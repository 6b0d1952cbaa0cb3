package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newLeases(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "leases",
		Short: "Look at the credentials under all grants, and at what their sources say of them",
		Args:  cobra.ArbitraryArgs, RunE: cli.NoCommand,
	}
	cmd.AddCommand(newLeasesList(c), newLeasesSources(c))
	return cmd
}

// allOpen stands for every state that is not an end.
const allOpen = "open"

func newLeasesList(c *connection) *cobra.Command {
	r := &pb.ListLeasesRequest{}
	var state string
	cmd := command(c, "list", "List the leases that have not ended, those of the newest grants first", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListLeasesResponse, error) {
			if state != allOpen {
				r.State = state
			}
			leases, next, err := client.Leases(cmd.Context(), r)
			return &pb.ListLeasesResponse{Leases: leases, NextPageToken: next}, err
		},
		func(w io.Writer, all *pb.ListLeasesResponse) {
			cli.Row(w, "LEASE", "GRANT", "STATE", "ISSUER", "ENDS", "NOTE")
			for _, l := range all.GetLeases() {
				cli.Row(w, l.GetId(), l.GetGrantId(), l.GetState(), l.GetIssuer(), when(l.GetExpireTime()), noteOf(l))
			}
			if all.GetNextPageToken() != "" {
				fmt.Fprintf(w, "\nthere are more: --page %s\n", all.GetNextPageToken())
			}
		})
	f := cmd.Flags()
	cli.AddChoice(cmd, &state, "state", "", allOpen, "intent", "issued", "revoking", "revoked", "expired", "failed", "unknown")
	f.StringVar(&r.Issuer, "issuer", "", "only leases of this issuer")
	f.Int32Var(&r.PageSize, "limit", 100, "at most so many, up to 1000")
	f.StringVar(&r.PageToken, "page", "", "where the page before ended")
	return cmd
}

// noteOf tells what there is to know of a lease besides its state.
func noteOf(l *pb.Lease) string {
	if !l.GetRevocable() && l.GetState() == "issued" {
		return strings.TrimSpace("its source can't end it early. " + l.GetNote())
	}
	return l.GetNote()
}

func newLeasesSources(c *connection) *cobra.Command {
	return command(c, "sources", "Tell how our leases compare with what lives at the sources that list it", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListSourcesResponse, error) {
			all, err := client.Sources(cmd.Context())
			return &pb.ListSourcesResponse{Sources: all}, err
		},
		showSources)
}

func showSources(w io.Writer, all *pb.ListSourcesResponse) {
	cli.Row(w, "ISSUER", "COMPARED", "LISTED", "OURS", "STRAYS", "MISSING", "PROBLEM")
	for _, s := range all.GetSources() {
		cli.Row(w, s.GetIssuer(), when(s.GetCompareTime()),
			fmt.Sprint(s.GetListed()), fmt.Sprint(s.GetOurs()), fmt.Sprint(s.GetStrays()), fmt.Sprint(s.GetMissing()), s.GetProblem())
	}
	for _, s := range all.GetSources() {
		if len(s.GetStrayNames()) == 0 {
			continue
		}
		fmt.Fprintln(w)
		cli.Row(w, fmt.Sprintf("strays of %s, %d of %d", s.GetIssuer(), len(s.GetStrayNames()), s.GetStrays()))
		for _, name := range s.GetStrayNames() {
			cli.Row(w, name)
		}
	}
}
