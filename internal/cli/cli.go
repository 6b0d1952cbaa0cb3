// Package cli is how the three commands talk to people: one form of error and hint, one set of exit
// codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// The exit codes of all commands.
const (
	Done    = 0
	Failed  = 1
	Usage   = 2
	Denied  = 3
	Pending = 4
)

// UsageError is a command line that can't be understood.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Execute runs a command line and returns its exit code. An error is written to stderr as
// "NAME: error: …" with a hint where there is a next step. The first SIGINT or SIGTERM ends the
// command's context; after it signals have their default effect, so that a second one stops at once.
func Execute(root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal()
	defer stop()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	root.SetIn(stdin)
	out := &checkedWriter{w: stdout}
	root.SetOut(out)
	root.SetErr(stderr)
	prepare(root)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("the output could not be written: %w", out.err)
	}
	if err == nil {
		return Done
	}
	report(root.Name(), err, stderr)
	return exitCode(err)
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends. Signals have their default
// effect again before it ends: whoever sees that it ended can rely on a second one.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
	return ctx, cancel
}

// prepare adds what all commands have, and makes cobra's own commands take wrong usage as ours do.
func prepare(root *cobra.Command) {
	root.Version = version()
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError{err} })
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Run, c.RunE = nil, help
		case "completion":
			c.Args, c.RunE = cobra.ArbitraryArgs, NoCommand
			for _, shell := range c.Commands() {
				shell.Args = Args(shell.Args)
			}
		}
	}
}

// help shows the help of the command that is named.
func help(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	if err != nil {
		return UsageError{err}
	}
	if len(rest) > 0 {
		return NoCommand(found, rest)
	}
	found.InitDefaultHelpFlag()
	found.InitDefaultVersionFlag()
	return found.Help()
}

// Args wraps cobra's checks of positional arguments, so that a wrong count is wrong usage.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return UsageError{err}
		}
		return nil
	}
}

// NoCommand is the Run of a command that only groups others.
func NoCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
	var known []string
	for _, c := range cmd.Commands() {
		known = append(known, c.Name())
	}
	if near := strictyaml.Nearest(args[0], known); near != "" {
		return HintedError{Err: err, Hint: fmt.Sprintf("did you mean '%s %s'?", cmd.CommandPath(), near)}
	}
	return err
}

func report(name string, err error, stderr io.Writer) {
	text := err.Error()
	if e, ok := errors.AsType[*cred.Error](err); ok && e.Public != "" {
		text = e.Public
	}
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		fmt.Fprintf(stderr, "%s: error: %s\n", name, visible(line))
	}
	if e, ok := errors.AsType[*cred.Error](err); ok {
		if e.Rule != "" && !strings.Contains(text, e.Rule) {
			fmt.Fprintf(stderr, "%s: rule: %s\n", name, visible(e.Rule))
		}
		if e.Claim != "" && !strings.Contains(text, e.Claim) {
			fmt.Fprintf(stderr, "%s: failed: %s\n", name, visible(e.Claim))
		}
	}
	if hint := hintFor(name, err); hint != "" {
		fmt.Fprintf(stderr, "%s: hint: %s\n", name, hint)
	}
}

// HintedError is an error that knows the next step.
type HintedError struct {
	Err  error
	Hint string
}

func (e HintedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e HintedError) Unwrap() error { return e.Err }

func hintFor(name string, err error) string {
	if h, ok := errors.AsType[HintedError](err); ok {
		return h.Hint
	}
	if _, ok := errors.AsType[UsageError](err); ok {
		return fmt.Sprintf("'%s --help' shows what there is", name)
	}
	return ""
}

func exitCode(err error) int {
	if _, ok := errors.AsType[UsageError](err); ok {
		return Usage
	}
	switch cred.KindOf(err) {
	case cred.Denied, cred.Unauthenticated, cred.NotFound: // what may not be seen looks as if it did not exist
		return Denied
	case cred.Pending:
		return Pending
	default:
		return Failed
	}
}
