package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newRotate(c *connection) *cobra.Command {
	var output, reason string
	var dryRun, wait bool
	cmd := &cobra.Command{
		Use:   "rotate ROOT|ISSUER|TARGET",
		Short: "Replace a root credential: check, rotate, prove, retire the old one",
		Long: `rotate begins the rotation of a root credential: one that the configuration lists under
rotations, named by itself, by its issuer or by a target that hangs on it. The broker journals
each step and finishes what it has begun, whatever happens to this command or to the broker.
For the role "security"; where the root needs approval, others have to agree first.`,
		Example: `  daypass rotate orders-root --dry-run
  daypass rotate orders-root --reason 'left the company: the last admin' --wait`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: c.with(func(cmd *cobra.Command, args []string, client *sdk.Client) error {
			if dryRun && wait {
				return cli.Usagef("--dry-run changes nothing, so there is nothing to wait for: give one of --dry-run and --wait")
			}
			if dryRun {
				return checkRotation(cmd, client, args[0], output)
			}
			r, err := client.Rotate(cmd.Context(), args[0], reason)
			if err != nil {
				return err
			}
			if wait {
				return followRotation(cmd, client, cred.RotationID(r.GetId()), output)
			}
			if err := show(cmd.OutOrStdout(), output, r, func(w io.Writer) { showRotation(w, r) }); err != nil {
				return err
			}
			return rotationHint(r)
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "look at whether it can succeed, and change nothing")
	f.BoolVar(&wait, "wait", false, "stay until it is over, and tell each step")
	f.StringVar(&reason, "reason", "", "why, for approvers and the log")
	cli.AddOutput(cmd, &output)
	return cmd
}

// checkRotation shows what a rotation would find; it fails where that forbids one.
func checkRotation(cmd *cobra.Command, client *sdk.Client, root, output string) error {
	r, err := client.CheckRotation(cmd.Context(), root)
	if err != nil {
		return err
	}
	err = show(cmd.OutOrStdout(), output, r, func(w io.Writer) {
		cli.Row(w, "root", r.GetRoot())
		showFindings(w, r.GetFindings())
	})
	if err != nil || r.GetOk() {
		return err
	}
	return &cred.Error{
		Kind: cred.Conflict, Op: "rotate", Reason: "CHECK_FAILED",
		Public: "this root can't be rotated now: mend what the failed checks say, and check again",
	}
}

func showFindings(w io.Writer, all []*pb.Finding) {
	for _, f := range all {
		mark := "ok"
		switch {
		case !f.GetOk():
			mark = "FAILED"
		case f.GetOpen():
			mark = "?"
		}
		cli.Row(w, mark, f.GetName()+": "+f.GetText())
	}
}

// followRotation tells each step on the error stream until the rotation is over.
func followRotation(cmd *cobra.Command, client *sdk.Client, id cred.RotationID, output string) error {
	began := time.Now()
	var last *pb.Rotation
	err := client.WatchRotation(cmd.Context(), id, func(r *pb.Rotation) error {
		if line := progressOf(last, r); line != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "%6s  %s\n", time.Since(began).Round(100*time.Millisecond), line)
		}
		last = r
		return nil
	})
	if err != nil {
		return err
	}
	// The stream ends when the rotation does; the receipt comes with the whole of it.
	last, err = client.Rotation(context.WithoutCancel(cmd.Context()), id)
	if err != nil {
		return err
	}
	if err := show(cmd.OutOrStdout(), output, last, func(w io.Writer) { showRotation(w, last) }); err != nil {
		return err
	}
	return rotationOutcome(last)
}

// progressOf says what changed between two looks at a rotation; nothing where only the attempt did.
func progressOf(before, r *pb.Rotation) string {
	switch {
	case r.GetState() != string(cred.RotationRunning):
		return fmt.Sprintf("%s: %s", r.GetId(), stateOf(r))
	case before.GetStep() == r.GetStep() && before.GetWhy() == r.GetWhy():
		return ""
	case r.GetWhy() != "":
		return fmt.Sprintf("%s: %s", r.GetStep(), r.GetWhy())
	default:
		return r.GetStep()
	}
}

// rotationOutcome is the error of a rotation that is over and did not succeed.
func rotationOutcome(r *pb.Rotation) error {
	switch r.GetState() {
	case string(cred.RotationDone):
		return nil
	case string(cred.RotationRefused):
		return &cred.Error{Kind: cred.Denied, Op: "rotate", Reason: "ROTATION_REFUSED", Public: "the rotation was not approved: " + r.GetWhy()}
	default:
		return &cred.Error{Kind: cred.Conflict, Op: "rotate", Reason: "ROTATION_FAILED", Public: "the rotation failed, and the old root is in use: " + r.GetWhy()}
	}
}

// rotationHint says what comes next of a rotation that was only begun.
func rotationHint(r *pb.Rotation) error {
	if r.GetState() != string(cred.RotationPending) {
		return nil
	}
	return cli.HintedError{
		Err: &cred.Error{
			Kind: cred.Pending, Op: "rotate", Reason: "REQUEST_PENDING",
			Public: fmt.Sprintf("rotation %s waits for the approval of others", r.GetId()),
		},
		Hint: fmt.Sprintf("they decide with 'daypass requests approve %s'; it then begins by itself", r.GetRequestId()),
	}
}
