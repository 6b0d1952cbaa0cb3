package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newRotations(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotations",
		Short: "Look at rotations of root credentials: where each stands, and what is next",
		Args:  cobra.ArbitraryArgs, RunE: cli.NoCommand,
	}
	cmd.AddCommand(newRotationsList(c), newRotationsShow(c), newRotationsRoots(c))
	return cmd
}

func newRotationsList(c *connection) *cobra.Command {
	var limit int
	cmd := command(c, "list", "List rotations, newest first", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListRotationsResponse, error) {
			all, err := client.Rotations(cmd.Context(), limit)
			return &pb.ListRotationsResponse{Rotations: all}, err
		},
		func(w io.Writer, all *pb.ListRotationsResponse) {
			cli.Row(w, "ROTATION", "ROOT", "STANDS", "BY", "BEGAN", "NEXT", "WHY")
			for _, r := range all.GetRotations() {
				cli.Row(w, r.GetId(), r.GetRoot(), stateOf(r), nameOf(r.GetBy()), when(r.GetCreateTime()), when(r.GetNextTime()), r.GetWhy())
			}
		})
	cmd.Flags().IntVar(&limit, "limit", 0, "how many at the most; 100 where not given")
	return cmd
}

func newRotationsShow(c *connection) *cobra.Command {
	var output string
	var receipt bool
	cmd := &cobra.Command{
		Use:   "show ROTATION",
		Short: "Show a rotation: its checks, where it stands, what is next and why it waits",
		Args:  cli.Args(cobra.ExactArgs(1)),
		RunE: c.with(func(cmd *cobra.Command, args []string, client *sdk.Client) error {
			r, err := client.Rotation(cmd.Context(), cred.RotationID(args[0]))
			if err != nil {
				return err
			}
			if receipt {
				return writeReceipt(cmd.OutOrStdout(), r)
			}
			return show(cmd.OutOrStdout(), output, r, func(w io.Writer) { showRotation(w, r) })
		}),
	}
	cmd.Flags().BoolVar(&receipt, "receipt", false, "print the signed receipt alone, to be kept and verified with 'daypass audit verify-receipt'")
	cli.AddOutput(cmd, &output)
	return cmd
}

func writeReceipt(w io.Writer, r *pb.Rotation) error {
	if r.GetReceipt() == "" {
		return &cred.Error{
			Kind: cred.NotFound, Op: "rotation", Reason: "NO_RECEIPT",
			Public: "this rotation has no receipt: it is " + stateOf(r) + ", and only one that is done has a receipt",
		}
	}
	_, err := io.WriteString(w, r.GetReceipt())
	return err
}

func newRotationsRoots(c *connection) *cobra.Command {
	return command(c, "roots", "List the roots that can be rotated, and when each was and will be", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListRootsResponse, error) {
			all, err := client.Roots(cmd.Context())
			return &pb.ListRootsResponse{Roots: all}, err
		},
		func(w io.Writer, all *pb.ListRootsResponse) {
			cli.Row(w, "ROOT", "ISSUER", "TARGETS", "LAST", "STANDS", "DUE")
			for _, r := range all.GetRoots() {
				last, stands := "never", ""
				if r.GetLast() != nil {
					last, stands = when(r.GetLast().GetCreateTime()), stateOf(r.GetLast())
				}
				cli.Row(w, r.GetName(), r.GetIssuer(), strings.Join(r.GetTargets(), " "), last, stands, when(r.GetDueTime()))
			}
		})
}

func showRotation(w io.Writer, r *pb.Rotation) {
	cli.Row(w, "rotation", r.GetId())
	cli.Row(w, "root", r.GetRoot())
	cli.Row(w, "stands", stateOf(r))
	rowOf(w, "why", r.GetWhy())
	if r.GetAlarmed() {
		cli.Row(w, "alarm", "people were told that it does not get on")
	}
	if r.GetNextTime() != nil {
		cli.Row(w, "next", when(r.GetNextTime()))
	}
	cli.Row(w, "by", nameOf(r.GetBy()))
	rowOf(w, "reason", r.GetReason())
	rowOf(w, "request", r.GetRequestId())
	rowOf(w, "old", r.GetOldName())
	rowOf(w, "new", r.GetNewName())
	cli.Row(w, "began", when(r.GetCreateTime()))
	if r.GetSwitchTime() != nil {
		cli.Row(w, "in use since", when(r.GetSwitchTime()))
	}
	if r.GetEndTime() != nil {
		cli.Row(w, "ended", when(r.GetEndTime()))
	}
	showFindings(w, r.GetFindings())
	for _, s := range r.GetSteps() {
		cli.Row(w, s.GetOutcome(), strings.TrimSpace(fmt.Sprintf("%s at %s%s %s", s.GetStep(), when(s.GetEndTime()), tries(s.GetAttempts()), s.GetText())))
	}
}

// tries tells how often a step began, where that was more than once.
func tries(n int32) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(", after %d tries", n)
}

// rowOf prints a line where there is something to tell.
func rowOf(w io.Writer, name, value string) {
	if value != "" {
		cli.Row(w, name, value)
	}
}

// stateOf says where a rotation stands in a word or two.
func stateOf(r *pb.Rotation) string {
	if r.GetStep() == "" {
		return r.GetState()
	}
	return r.GetState() + ": " + r.GetStep()
}
