package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newStanding(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "standing",
		Short: "Approvals for requests to come, within bounds",
		Long: `standing approvals let requests through without asking anybody again: those of one
rule and target whose holder has certain claims, until a date. The rule's approvers agree
to one as they would to a request.`,
		Args: cobra.ArbitraryArgs, RunE: cli.NoCommand,
	}
	cmd.AddCommand(newStandingList(c), newStandingPropose(c), newStandingVerdict(c, "approve", true), newStandingVerdict(c, "deny", false), newStandingRevoke(c))
	return cmd
}

func newStandingList(c *connection) *cobra.Command {
	return command(c, "list", "List standing approvals that are drafts or in force", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListStandingResponse, error) {
			all, err := client.Standing(cmd.Context())
			return &pb.ListStandingResponse{Standing: all}, err
		},
		func(w io.Writer, r *pb.ListStandingResponse) {
			cli.Row(w, "STANDING", "STATE", "RULE", "TARGET", "SCOPES", "CLAIMS", "UNTIL", "USES")
			for _, s := range r.GetStanding() {
				cli.Row(w, s.GetId(), s.GetState(), s.GetRule(), s.GetTarget(), strings.Join(s.GetScopes(), " "), pairs(s.GetClaims()), when(s.GetExpireTime()), fmt.Sprint(s.GetUses()))
			}
		})
}

func pairs(m map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, name+"="+m[name])
	}
	return strings.Join(all, " ")
}

func newStandingPropose(c *connection) *cobra.Command {
	var output, until string
	var claims []string
	want := &pb.ProposeStandingRequest{}
	cmd := &cobra.Command{
		Use:     "propose RULE TARGET",
		Short:   "Draft a standing approval",
		Example: `  daypass standing propose deploy production --claim repository_id=4711 --claim environment=production --until 2026-12-31 --reason 'release week'`,
		Args:    cli.Args(cobra.ExactArgs(2)),
		RunE: c.with(func(cmd *cobra.Command, args []string, client *sdk.Client) error {
			want.Rule, want.Target = args[0], args[1]
			var err error
			if want.Claims, err = parsePairs("--claim", claims); err != nil {
				return err
			}
			end, err := parseUntil(until)
			if err != nil {
				return err
			}
			want.ExpireTime = timestamppb.New(end)
			s, err := client.ProposeStanding(cmd.Context(), want)
			if err != nil {
				return withSignInHint(err)
			}
			return show(cmd.OutOrStdout(), output, s, func(w io.Writer) { showStanding(w, s) })
		}),
	}
	f := cmd.Flags()
	f.StringArrayVar(&want.Scopes, "scope", nil, "a scope that it covers; may be repeated")
	f.StringArrayVar(&claims, "claim", nil, "NAME=VALUE that a holder's claim must be; may be repeated, at least one")
	f.StringVar(&until, "until", "", "until when: a date (its end, in UTC) or an instant as in RFC 3339; at most 90 days ahead")
	f.StringVar(&want.Reason, "reason", "", "why")
	cli.AddOutput(cmd, &output)
	return cmd
}

func parseUntil(text string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, cli.Usagef("--until must be a date such as 2026-12-31, or an instant such as 2026-12-31T18:00:00Z, not %q", text)
	}
	return at, nil
}

func newStandingVerdict(c *connection, name string, approve bool) *cobra.Command {
	var digest string
	v := cred.Verdict{Approve: approve}
	short := map[bool]string{true: "Agree to a standing approval", false: "Refuse a standing approval, which ends it"}[approve]
	cmd := command(c, name+" STANDING", short, cobra.ExactArgs(1),
		func(cmd *cobra.Command, args []string, client *sdk.Client) (*pb.StandingApproval, error) {
			if digest == "" {
				s, err := findStanding(cmd, client, args[0])
				if err != nil {
					return nil, err
				}
				digest = s.GetDigest()
			}
			s, err := client.ReviewStanding(cmd.Context(), args[0], digest, v)
			return s, withSignInHint(err)
		}, showStanding)
	cmd.Flags().StringVar(&v.Comment, "comment", "", "what you have to say, for the log")
	cmd.Flags().StringVar(&digest, "digest", "", "its digest as you were shown it; where not given, as it stands")
	return cmd
}

func findStanding(cmd *cobra.Command, client *sdk.Client, id string) (*pb.StandingApproval, error) {
	all, err := client.Standing(cmd.Context())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(s *pb.StandingApproval) bool { return s.GetId() == id })
	if i < 0 {
		return nil, &cred.Error{Kind: cred.NotFound, Op: "standing", Public: "there is no such standing approval, or it is not yours to see"}
	}
	return all[i], nil
}

func newStandingRevoke(c *connection) *cobra.Command {
	var reason string
	cmd := command(c, "revoke STANDING", "End a standing approval; grants that it gave live on until their end", cobra.ExactArgs(1),
		func(cmd *cobra.Command, args []string, client *sdk.Client) (*pb.StandingApproval, error) {
			return client.RevokeStanding(cmd.Context(), args[0], reason)
		},
		func(w io.Writer, s *pb.StandingApproval) { cli.Row(w, s.GetId(), "ended") })
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	return cmd
}

func showStanding(w io.Writer, s *pb.StandingApproval) {
	cli.Row(w, "standing", s.GetId())
	cli.Row(w, "state", s.GetState())
	cli.Row(w, "rule", s.GetRule())
	cli.Row(w, "target", s.GetTarget())
	cli.Row(w, "scopes", strings.Join(s.GetScopes(), " "))
	cli.Row(w, "claims", pairs(s.GetClaims()))
	cli.Row(w, "until", when(s.GetExpireTime()))
	cli.Row(w, "asks", demandText(s.GetDemand()))
	for _, a := range s.GetApprovals() {
		cli.Row(w, verdictText(a.GetApprove()), nameOf(a.GetBy())+", "+when(a.GetTime()))
	}
	cli.Row(w, "digest", s.GetDigest())
}

func asError(err error) (*cred.Error, bool) { return errors.AsType[*cred.Error](err) }
