// Command daypassd is the broker.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/internal/cli"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Execute(newRoot(), args, stdin, stdout, stderr)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "daypassd",
		Short: "The daypass broker: decides, issues, revokes, remembers",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.NoCommand,
	}
	root.AddCommand(newServe(), newCheck(), newInit(), newDev())
	return root
}

func newServe() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve until SIGTERM; a second signal stops at once",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), path, cmd.ErrOrStderr(), nil)
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

func newCheck() *cobra.Command {
	var path, output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and name every problem",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			note := ""
			s, err := loadSettings(path)
			if err == nil {
				note = fmt.Sprintf(" (%d targets, %d rules, policy %s)", len(s.config.Targets), len(s.config.Rules), s.config.Policy.Hash()[:12])
			}
			return cli.ShowCheck(cmd.OutOrStdout(), output, path, note, err)
		},
	}
	addConfigFlag(cmd, &path)
	cli.AddOutput(cmd, &output)
	return cmd
}

func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "daypass.yaml", "the configuration file")
}
