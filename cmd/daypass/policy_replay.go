package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// replayFlags say which rules are held against which decisions.
type replayFlags struct {
	config, log, since, until, output string
	rules, strict                     bool

	request pb.ExportRequest // made of since and until
}

func newPolicyReplay(c *connection) *cobra.Command {
	var x replayFlags
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Tell which decisions on record changed rules would have made otherwise",
		Long: `replay decides every request in the audit log again, with the rules of --config, at
its own time and with the claims, groups, parameters and binding on record, and
lists the decisions that come out otherwise.

The log is an export in the format jsonl, with --log, or is fetched from the broker,
for which you need the role "auditor" or "security". Refusals that no rule decided,
such as those of identities, limits and locks, are counted apart. A grant's lifetime
is not on record and not compared.`,
		Example: `  daypass policy replay --config changed.yaml --since 30d
  daypass policy replay --config changed.yaml --log export.jsonl -o json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, args []string) error { return x.run(cmd, args, c) },
	}
	f := cmd.Flags()
	addConfig(cmd, &x.config)
	f.StringVar(&x.log, "log", "", "an export of the log in place of the broker's own, or - for standard input")
	f.StringVar(&x.since, "since", "", "only decisions from this RFC 3339 time on, or from so long ago (24h, 30d)")
	f.StringVar(&x.until, "until", "", "only decisions before this time, given as for --since")
	f.BoolVar(&x.rules, "rules", false, "also list decisions that stand, and are another rule's")
	f.BoolVar(&x.strict, "strict", false, "end with 1 where a decision comes out otherwise")
	cli.AddOutput(cmd, &x.output)
	return cmd
}

func (x *replayFlags) run(cmd *cobra.Command, args []string, c *connection) (err error) {
	if x.request.Since, err = parseTime("--since", x.since); err != nil {
		return err
	}
	if x.request.Until, err = parseTime("--until", x.until); err != nil {
		return err
	}
	conf, err := loadPolicy(x.config)
	if err != nil {
		return err
	}
	if x.log != "" {
		return x.replay(cmd, conf.Policy, func(add func([]byte) error) error { return x.fromFile(cmd.InOrStdin(), add) })
	}
	return c.with(func(cmd *cobra.Command, _ []string, client *sdk.Client) error {
		return x.replay(cmd, conf.Policy, func(add func([]byte) error) error {
			_, err := client.Export(cmd.Context(), &x.request, func(e *pb.ExportedEntry) error { return add(e.GetCanonical()) })
			return err
		})
	})(cmd, args)
}

func (x *replayFlags) fromFile(stdin io.Reader, add func([]byte) error) error {
	if x.log == "-" {
		return readExport(stdin, add)
	}
	f, err := os.Open(x.log)
	if err != nil {
		return fmt.Errorf("the log can't be read: %w", err)
	}
	defer f.Close()
	return readExport(f, add)
}

// replay holds a rule set against all that read hands over.
func (x *replayFlags) replay(cmd *cobra.Command, set *policy.Set, read func(add func(canonical []byte) error) error) error {
	cli.TuneServer() // much garbage and little that lives, as in a server
	progress := newProgress(cmd.ErrOrStderr(), "decisions replayed")
	shown := x.shown(cmd.OutOrStdout())
	r := newReplayer(set, func(c change) error {
		if c.Kind == policy.OtherRule && !x.rules {
			return nil
		}
		progress.clear()
		return shown.change(c)
	}, progress.show)
	r.since, r.until = instantOf(x.request.GetSince()), instantOf(x.request.GetUntil())
	readErr := read(r.add)
	total, err := r.close()
	progress.clear()
	if err == nil && !errors.Is(readErr, errStopped) {
		err = readErr
	}
	if err != nil {
		return err
	}
	if err := shown.end(total); err != nil {
		return err
	}
	if changed := total.changed(); x.strict && changed > 0 {
		return fmt.Errorf("%s would come out otherwise, and --strict allows none", counted(changed, "decision"))
	}
	return nil
}

func (x *replayFlags) shown(w io.Writer) replayOutput {
	if x.output == cli.JSON {
		return &replayJSON{w: w}
	}
	return replayText{w}
}

func instantOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// changed is how many decisions come out otherwise; those that only another rule makes do not count.
func (t tally) changed() int {
	n := 0
	for kind, of := range t.By {
		if kind != policy.OtherRule {
			n += of
		}
	}
	return n
}
