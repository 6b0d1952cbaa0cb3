package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
)

// command is a command tree as ours are: a root that only groups, and one command below it.
func command(do func(*cobra.Command, []string) error) *cobra.Command {
	root := &cobra.Command{Use: "tool", Args: cobra.ArbitraryArgs, RunE: cli.NoCommand}
	sub := &cobra.Command{Use: "do THING", Args: cli.Args(cobra.ExactArgs(1)), RunE: do}
	sub.Flags().Int("count", 1, "how many")
	root.AddCommand(sub)
	return root
}

func execute(do func(*cobra.Command, []string) error, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = cli.Execute(command(do), args, strings.NewReader("input"), &out, &errs)
	return code, out.String(), errs.String()
}

func TestErrorsAndExitCodes(t *testing.T) {
	const hint = "tool: hint: 'tool --help' shows what there is\n"
	private := errors.New("10.0.0.7 says no")
	for name, c := range map[string]struct {
		args   []string
		err    error
		code   int
		stderr string
	}{
		"done":                {[]string{"do", "x"}, nil, cli.Done, ""},
		"failed":              {[]string{"do", "x"}, errors.New("it broke"), cli.Failed, "tool: error: it broke\n"},
		"no argument":         {[]string{"do"}, nil, cli.Usage, "tool: error: accepts 1 arg(s), received 0\n" + hint},
		"unknown flag":        {[]string{"do", "x", "--no"}, nil, cli.Usage, "tool: error: unknown flag: --no\n" + hint},
		"bad flag":            {[]string{"do", "x", "--count=y"}, nil, cli.Usage, "tool: error: invalid argument \"y\" for \"--count\" flag: strconv.ParseInt: parsing \"y\": invalid syntax\n" + hint},
		"unknown command":     {[]string{"zzzzzz"}, nil, cli.Usage, "tool: error: unknown command \"zzzzzz\" for \"tool\"\n" + hint},
		"mistyped command":    {[]string{"od"}, nil, cli.Usage, "tool: error: unknown command \"od\" for \"tool\"\ntool: hint: did you mean 'tool do'?\n"},
		"several lines":       {[]string{"do", "x"}, errors.New("one\ntwo"), cli.Failed, "tool: error: one\ntool: error: two\n"},
		"usage found late":    {[]string{"do", "x"}, fmt.Errorf("wrapped: %w", cli.Usagef("bad %q", "x")), cli.Usage, "tool: error: wrapped: bad \"x\"\n" + hint},
		"a hint":              {[]string{"do", "x"}, cli.HintedError{Err: errors.New("no file"), Hint: "make one"}, cli.Failed, "tool: error: no file\ntool: hint: make one\n"},
		"a hint on a refusal": {[]string{"do", "x"}, cli.HintedError{Err: &cred.Error{Kind: cred.Denied, Public: "no"}, Hint: "ask"}, cli.Denied, "tool: error: no\ntool: hint: ask\n"},
		"public text alone":   {[]string{"do", "x"}, &cred.Error{Kind: cred.Unavailable, Op: "op", Public: "try later", Err: private}, cli.Failed, "tool: error: try later\n"},
		"denied with its rule": {
			[]string{"do", "x"},
			&cred.Error{Kind: cred.Denied, Public: "no", Rule: "main-only", Claim: "ref"}, cli.Denied,
			"tool: error: no\ntool: rule: main-only\ntool: failed: ref\n",
		},
		"nothing is told twice": {
			[]string{"do", "x"},
			&cred.Error{Kind: cred.Denied, Public: "rule main-only wants ref", Rule: "main-only", Claim: "ref"}, cli.Denied,
			"tool: error: rule main-only wants ref\n",
		},
		"unauthenticated": {[]string{"do", "x"}, &cred.Error{Kind: cred.Unauthenticated, Public: "who?"}, cli.Denied, "tool: error: who?\n"},
		"not to be seen":  {[]string{"do", "x"}, &cred.Error{Kind: cred.NotFound, Public: "nothing"}, cli.Denied, "tool: error: nothing\n"},
		"pending":         {[]string{"do", "x"}, fmt.Errorf("x: %w", &cred.Error{Kind: cred.Pending, Public: "wait"}), cli.Pending, "tool: error: wait\n"},
	} {
		code, stdout, stderr := execute(func(*cobra.Command, []string) error { return c.err }, c.args...)
		if code != c.code || stderr != c.stderr || stdout != "" {
			t.Errorf("%s: code %d, stdout %q, stderr\n%swant code %d\n%s", name, code, stdout, stderr, c.code, c.stderr)
		}
	}
}

func TestExecutePassesStreamsOn(t *testing.T) {
	code, stdout, stderr := execute(func(cmd *cobra.Command, args []string) error {
		in, err := io.ReadAll(cmd.InOrStdin())
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s", args[0], in)
		return err
	}, "do", "x")
	if code != cli.Done || stdout != "x input" || stderr != "" {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if code, stdout, _ = execute(nil); code != cli.Done || !strings.Contains(stdout, "Usage:") {
		t.Errorf("without a command: code %d, %q", code, stdout)
	}
}

// The first signal ends the command's context. That a second one has its default effect, the end of
// the process, is what Execute documents.
func TestTheFirstSignalEndsTheContext(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		var cause error
		code, _, stderr := execute(func(cmd *cobra.Command, _ []string) error {
			if err := syscall.Kill(os.Getpid(), s); err != nil {
				return err
			}
			<-cmd.Context().Done()
			cause = cmd.Context().Err()
			return nil
		}, "do", "x")
		if code != cli.Done || !errors.Is(cause, context.Canceled) || stderr != "" {
			t.Errorf("%v: code %d, %v, %q", s, code, cause, stderr)
		}
	}
}
