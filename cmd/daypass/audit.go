package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/strictyaml"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newAudit(c *connection) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Export and verify the audit log", Args: cobra.ArbitraryArgs, RunE: cli.NoCommand}
	cmd.AddCommand(newAuditExport(c), newAuditVerify(), newAuditVerifyReceipt(), newAuditKey(c))
	return cmd
}

// exportFlags select what is exported and where to.
type exportFlags struct {
	format, since, until, out string
	request                   pb.ExportRequest
}

func newAuditExport(c *connection) *cobra.Command {
	var x exportFlags
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the log, or a part of it, with the checkpoint that proves it",
		Long: `export writes the audit log in order, and at its end the signed checkpoint that
proves it. With a filter, each entry carries the proof that it is in the log.

Only jsonl can be verified with 'daypass audit verify'; csv and ocsf are for
spreadsheets and SIEMs.`,
		Example: `  daypass audit export --grant gr_… > grant.jsonl
  daypass audit export --since 24h --format ocsf -f today.ocsf`,
		Args: cli.Args(cobra.NoArgs),
		RunE: c.with(x.run),
	}
	f := cmd.Flags()
	cli.AddChoice(cmd, &x.format, "format", "", string(audit.FormatJSONL), string(audit.FormatCSV), string(audit.FormatOCSF))
	f.StringVar(&x.since, "since", "", "only entries from this RFC 3339 time on, or from so long ago (24h, 30d)")
	f.StringVar(&x.until, "until", "", "only entries before this time, given as for --since")
	f.StringVar(&x.request.GrantId, "grant", "", "only entries of this grant")
	f.StringVar(&x.request.Target, "target", "", "only entries about this target")
	f.StringVar(&x.request.Principal, "principal", "", "only entries of the principal with this subject")
	f.StringVarP(&x.out, "file", "f", "", "write to this file (mode 0600) in place of standard output")
	return cmd
}

func (x *exportFlags) run(cmd *cobra.Command, _ []string, client *sdk.Client) (err error) {
	if x.request.Since, err = parseTime("--since", x.since); err != nil {
		return err
	}
	if x.request.Until, err = parseTime("--until", x.until); err != nil {
		return err
	}
	if x.out == "" {
		return x.export(cmd.Context(), client, cmd.OutOrStdout())
	}
	return replaceFile(x.out, func(w io.Writer) error { return x.export(cmd.Context(), client, w) })
}

func (x *exportFlags) export(ctx context.Context, client *sdk.Client, w io.Writer) error {
	exporter, err := audit.NewExporter(w, audit.Format(x.format))
	if err != nil {
		return err
	}
	cp, err := client.Export(ctx, &x.request, func(e *pb.ExportedEntry) error {
		exported, err := exportedFrom(e)
		if err != nil {
			return err
		}
		return exporter.Write(exported)
	})
	if err != nil {
		return err
	}
	trailer, err := trailerFrom(cp)
	if err != nil {
		return err
	}
	return exporter.Close(trailer)
}

func trailerFrom(cp *pb.Checkpoint) (audit.Trailer, error) {
	t := audit.Trailer{Note: []byte(cp.GetNote()), VerifierKey: cp.GetVerifierKey()}
	for _, line := range cp.GetHandOvers() {
		h, err := audit.ParseHandOver(line)
		if err != nil {
			return t, err
		}
		t.HandOvers = append(t.HandOvers, h)
	}
	return t, nil
}

// replaceFile makes a file of mode 0600 that holds all that write writes; where that fails, a file
// that was there before is left as it was.
func replaceFile(name string, write func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return cli.Usagef("%s is not a regular file; without --file the export goes to standard output", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // makes it with mode 0600
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func exportedFrom(e *pb.ExportedEntry) (audit.Exported, error) {
	out := audit.Exported{Seq: e.GetSeq(), Canonical: e.GetCanonical()}
	for _, h := range e.GetProof() {
		if len(h) != tlog.HashSize {
			return out, fmt.Errorf("the broker sent a proof of entry %d that is no proof", e.GetSeq())
		}
		out.Proof = append(out.Proof, tlog.Hash(h))
	}
	return out, nil
}

// parseTime reads an instant, or a duration before now.
func parseTime(flag, s string) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	if d, err := strictyaml.ParseDuration(s); err == nil { // knows days, and nothing below zero
		return timestamppb.New(time.Now().Add(-d)), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, cli.Usagef("%s must be a time such as 2026-01-31T12:00:00Z, or a duration such as 24h or 30d, not %q", flag, s)
	}
	return timestamppb.New(t), nil
}

func newAuditVerify() *cobra.Command {
	var key string
	var output string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Prove offline that an export is what the log held",
		Long: `verify recomputes every hash of a jsonl export, holds them against the signed
checkpoint at its end, and fails if one byte was changed, removed, added or moved.

Give the log's own key with --key: a key that comes with the file proves only that
the file agrees with itself. FILE may be - for standard input.`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := openInput(cmd, args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			report, err := audit.Verify(in, audit.VerifyOptions{VerifierKey: key})
			if err != nil {
				return err
			}
			return showReport(cmd.OutOrStdout(), output, report)
		},
	}
	addLogKey(cmd, &key)
	cli.AddOutput(cmd, &output)
	return cmd
}

func newAuditVerifyReceipt() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "verify-receipt FILE",
		Short: "Prove offline that a rotation's receipt is the log's",
		Long: `verify-receipt checks the signature of a receipt that 'daypass rotations show --receipt'
printed, and prints what it says. FILE may be - for standard input.`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return cli.Usagef("give the log's verifier key with --key, from a source that you trust")
			}
			in, err := openInput(cmd, args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			signed, err := io.ReadAll(io.LimitReader(in, 1<<20))
			if err != nil {
				return err
			}
			text, err := audit.OpenReceipt(signed, strings.TrimSpace(key))
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	addLogKey(cmd, &key)
	return cmd
}

func addLogKey(cmd *cobra.Command, key *string) {
	cmd.Flags().StringVar(key, "key", os.Getenv("DAYPASS_LOG_KEY"), "the log's verifier key (or DAYPASS_LOG_KEY), as 'daypass audit key' or 'daypassd init' printed it")
}

// openInput opens a file, or for "-" the standard input.
func openInput(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(name)
}

func showReport(w io.Writer, output string, r audit.Report) error {
	if output == cli.JSON {
		return cli.WriteJSON(w, reportJSON(r))
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	what := "complete: every entry from the first to the checkpoint"
	if !r.Complete {
		what = "a selection: each entry is proven to be in the log, entries may have been left out"
	}
	cli.Row(table, "verified", fmt.Sprintf("%d entries", r.Entries))
	cli.Row(table, "log", r.Origin)
	cli.Row(table, "checkpoint", fmt.Sprintf("%d entries", r.Size))
	cli.Row(table, "extent", what)
	if r.KeyFromFile {
		cli.Row(table, "key", "from the file itself: this proves that the file agrees with itself, not whose log it is; give --key")
	} else {
		cli.Row(table, "key", "the one that you gave")
	}
	for _, key := range r.HandedTo {
		cli.Row(table, "handed to", key)
	}
	return table.Flush()
}

// reportJSON names a report's members as all our JSON does.
func reportJSON(r audit.Report) map[string]any {
	out := map[string]any{
		"origin": r.Origin, "verifier_key": r.VerifierKey, "key_from_file": r.KeyFromFile, "checkpoint_size": r.Size,
		"root": r.Root.String(), "entries": r.Entries, "complete": r.Complete, "kinds": r.Kinds,
	}
	if len(r.HandedTo) > 0 {
		out["handed_to"] = r.HandedTo
	}
	if r.Entries > 0 {
		out["first"], out["last"] = r.First, r.Last
	}
	return out
}

func newAuditKey(c *connection) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Show the log's verifier key and its newest checkpoint, to be kept elsewhere",
		Args:  cli.Args(cobra.NoArgs),
		RunE: c.with(func(cmd *cobra.Command, _ []string, client *sdk.Client) error {
			cp, err := client.Checkpoint(cmd.Context())
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), output, cp, func(w io.Writer) {
				fmt.Fprintf(w, "%s\n\n%s\n", cp.GetVerifierKey(), strings.TrimRight(cp.GetNote(), "\n"))
			})
		}),
	}
	cli.AddOutput(cmd, &output)
	return cmd
}
