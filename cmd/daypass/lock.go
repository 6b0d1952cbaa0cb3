package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newLock(c *connection) *cobra.Command {
	var output string
	var ttl time.Duration
	want := &pb.LockRequest{}
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "End every grant of a subject, for a target, or of all, and give no new ones",
		Long: `lock ends every grant that it covers at once, and from then on nothing is granted or
redeemed for it until 'daypass unlock'. It covers what fits all of --subject, --issuer and
--target that are given; --everything stops it all. For the role "security".`,
		Example: `  daypass lock --subject 00u1a2b3 --reason 'laptop stolen'
  daypass lock --target production --ttl 2h --reason 'incident 17'`,
		Args: cli.Args(cobra.NoArgs),
		RunE: c.with(func(cmd *cobra.Command, _ []string, client *sdk.Client) error {
			if ttl > 0 {
				want.Ttl = durationpb.New(ttl)
			}
			r, err := client.Lock(cmd.Context(), want)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), output, r, func(w io.Writer) {
				showLock(w, r.GetLock())
				cli.Row(w, "ended", fmt.Sprintf("%d grants", r.GetRevokedGrants()))
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&want.Subject, "subject", "", "the subject, as holder or as the agent that acts")
	f.StringVar(&want.Issuer, "issuer", "", "the issuer of the subject")
	f.StringVar(&want.Target, "target", "", "the target")
	f.BoolVar(&want.Everything, "everything", false, "lock everything")
	f.StringVar(&want.Reason, "reason", "", "why; it must be given")
	f.DurationVar(&ttl, "ttl", 0, "how long; until it is lifted where not given")
	cli.AddOutput(cmd, &output)
	return cmd
}

func newUnlock(c *connection) *cobra.Command {
	var reason string
	cmd := command(c, "unlock LOCK", "Lift a lock; what it ended stays ended", cobra.ExactArgs(1),
		func(cmd *cobra.Command, args []string, client *sdk.Client) (*pb.LockEntry, error) {
			return client.Unlock(cmd.Context(), args[0], reason)
		}, showLock)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	return cmd
}

func newLocks(c *connection) *cobra.Command {
	return command(c, "locks", "List the locks in force", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListLocksResponse, error) {
			all, err := client.Locks(cmd.Context())
			return &pb.ListLocksResponse{Locks: all}, err
		},
		func(w io.Writer, r *pb.ListLocksResponse) {
			cli.Row(w, "LOCK", "SUBJECT", "ISSUER", "TARGET", "REASON", "SET BY", "SET", "ENDS")
			for _, l := range r.GetLocks() {
				cli.Row(w, l.GetId(), orAny(l.GetSubject()), orAny(l.GetIssuer()), orAny(l.GetTarget()), l.GetReason(), nameOf(l.GetSetBy()), when(l.GetCreateTime()), when(l.GetExpireTime()))
			}
		})
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return s
}

func showLock(w io.Writer, l *pb.LockEntry) {
	cli.Row(w, "lock", l.GetId())
	cli.Row(w, "subject", orAny(l.GetSubject()))
	cli.Row(w, "issuer", orAny(l.GetIssuer()))
	cli.Row(w, "target", orAny(l.GetTarget()))
	cli.Row(w, "reason", l.GetReason())
	cli.Row(w, "ends", when(l.GetExpireTime()))
}
