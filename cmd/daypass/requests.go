package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newRequests(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "requests",
		Short: "Decide about what others ask for",
		Long: `requests are what somebody asks for and the policy lets others decide about:
list what waits for you, look at one, approve or deny it. A verdict binds to what you
were shown; nobody decides about a request of their own. A grant that was given without
approval (break-glass) waits here for its review, and 'approve' signs it off.`,
		Args: cobra.ArbitraryArgs, RunE: cli.NoCommand,
	}
	cmd.AddCommand(newRequestsList(c), newRequestsShow(c), newRequestsWatch(c), newVerdict(c, "approve", true), newVerdict(c, "deny", false))
	return cmd
}

func newRequestsList(c *connection) *cobra.Command {
	return command(c, "list", "List what waits for a verdict: what you are asked about, and your own", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListRequestsResponse, error) {
			all, err := client.Requests(cmd.Context())
			return &pb.ListRequestsResponse{Requests: all}, err
		},
		func(w io.Writer, r *pb.ListRequestsResponse) {
			cli.Row(w, "REQUEST", "WAITS FOR", "WHO", "TARGET", "SCOPES", "REASON", "UNTIL", "YOU")
			for _, one := range r.GetRequests() {
				cli.Row(w, requestRow(one)...)
			}
		})
}

func requestRow(r *pb.AccessRequest) []string {
	g := r.GetGrant()
	until, waits := when(g.GetExpireTime()), "approval"
	switch {
	case r.GetReviewDueTime() != nil:
		until, waits = when(r.GetReviewDueTime()), "review"
	case g.GetState() != string(cred.GrantPending):
		waits = "nothing: " + g.GetState()
	}
	you := "may look"
	if len(r.GetYourGroups()) > 0 {
		you = "as " + strings.Join(r.GetYourGroups(), ", ")
	}
	return []string{g.GetId(), waits, whoAsks(r), g.GetTarget(), strings.Join(g.GetScopes(), " "), g.GetReason(), until, you}
}

func whoAsks(r *pb.AccessRequest) string {
	who := nameOf(r.GetGrant().GetHolder())
	if r.GetActor() != nil {
		who += ", through agent " + nameOf(r.GetActor())
	}
	return who
}

func nameOf(p *pb.Principal) string {
	if p.GetName() == "" || p.GetName() == p.GetSubject() {
		return p.GetSubject()
	}
	return p.GetName() + " (" + p.GetSubject() + ")"
}

func newRequestsShow(c *connection) *cobra.Command {
	return command(c, "show REQUEST", "Show a request, who asks, and who has agreed", cobra.ExactArgs(1),
		func(cmd *cobra.Command, args []string, client *sdk.Client) (*pb.AccessRequest, error) {
			return client.Request(cmd.Context(), cred.GrantID(args[0]))
		}, showRequest)
}

func showRequest(w io.Writer, r *pb.AccessRequest) {
	g := r.GetGrant()
	cli.Row(w, "request", g.GetId())
	cli.Row(w, "state", g.GetState())
	cli.Row(w, "who", whoAsks(r))
	cli.Row(w, "from", g.GetHolder().GetProvider()+", "+g.GetHolder().GetIssuer())
	for _, name := range slices.Sorted(maps.Keys(r.GetClaims())) {
		cli.Row(w, "  "+name, r.GetClaims()[name])
	}
	cli.Row(w, "target", g.GetTarget())
	cli.Row(w, "scopes", strings.Join(g.GetScopes(), " "))
	for _, name := range slices.Sorted(maps.Keys(r.GetParams())) {
		cli.Row(w, "  "+name, r.GetParams()[name])
	}
	cli.Row(w, "for", span(r.GetTtl().AsDuration()))
	cli.Row(w, "reason", g.GetReason())
	cli.Row(w, "rule", g.GetRule())
	cli.Row(w, "made", when(g.GetCreateTime()))
	cli.Row(w, "until", when(g.GetExpireTime()))
	cli.Row(w, "asks", demandText(r.GetDemand()))
	if r.GetReviewDueTime() != nil {
		cli.Row(w, "review due", when(r.GetReviewDueTime()))
	}
	for _, a := range r.GetApprovals() {
		cli.Row(w, verdictText(a.GetApprove()), strings.TrimSpace(nameOf(a.GetBy())+" as "+strings.Join(a.GetGroups(), ", ")+", "+when(a.GetTime())+" "+a.GetComment()))
	}
	cli.Row(w, "digest", r.GetDigest())
}

func verdictText(approve bool) string {
	if approve {
		return "approved by"
	}
	return "denied by"
}

func demandText(d *pb.Demand) string {
	quorums := func(all []*pb.Quorum) []cred.Quorum {
		out := make([]cred.Quorum, len(all))
		for i, q := range all {
			out[i] = cred.Quorum{Group: q.GetGroup(), Count: int(q.GetCount())}
		}
		return out
	}
	return (&cred.Demand{AllOf: quorums(d.GetAllOf()), AnyOf: quorums(d.GetAnyOf())}).InWords()
}

func newRequestsWatch(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "Print requests as they come and change, until it is stopped",
		Args:  cli.Args(cobra.NoArgs),
		RunE: c.with(func(cmd *cobra.Command, _ []string, client *sdk.Client) error {
			err := client.WatchRequests(cmd.Context(), func(r *pb.AccessRequest) error {
				if r != nil {
					cli.Row(cmd.OutOrStdout(), requestRow(r)...)
				}
				return nil
			})
			if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
				err = nil // it was stopped
			}
			return err
		}),
	}
}

// newVerdict makes approve and deny. Without --digest the request is fetched and shown first, and the
// verdict binds to what was shown.
func newVerdict(c *connection, name string, approve bool) *cobra.Command {
	var digest string
	v := cred.Verdict{Approve: approve}
	short := map[bool]string{true: "Agree to a request, or sign off a review", false: "Refuse a request, which ends it"}[approve]
	cmd := command(c, name+" REQUEST", short, cobra.ExactArgs(1),
		func(cmd *cobra.Command, args []string, client *sdk.Client) (*pb.AccessRequest, error) {
			id := cred.GrantID(args[0])
			if digest == "" {
				r, err := client.Request(cmd.Context(), id)
				if err != nil {
					return nil, err
				}
				digest = r.GetDigest()
			}
			r, err := client.Review(cmd.Context(), id, digest, v)
			return r, withSignInHint(err)
		}, showRequest)
	cmd.Flags().StringVar(&v.Comment, "comment", "", "what you have to say, for the requester and the log")
	cmd.Flags().StringVar(&digest, "digest", "", "digest of the request as you were shown it; where not given, the request as it stands")
	return cmd
}

// withSignInHint says how to sign in afresh where that is what an approval lacks.
func withSignInHint(err error) error {
	if e, ok := asError(err); ok && e.Reason == "SIGN_IN_TOO_OLD" {
		return cli.HintedError{Err: err, Hint: "'daypass login --fresh' signs you in anew"}
	}
	return err
}
