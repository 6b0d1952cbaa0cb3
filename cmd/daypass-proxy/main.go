// Command daypass-proxy is the companion: it verifies grant tokens, holds the credentials that they
// stand for, spends them, masks what comes back and records each use.
package main

import (
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
		Use:   "daypass-proxy",
		Short: "Spends credentials for those who must not hold them",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.NoCommand,
	}
	root.AddCommand(newServe(), newCheck())
	return root
}

func newServe() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve until SIGTERM; a second signal stops at once",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(path)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), c, cmd.ErrOrStderr())
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
			_, err := loadConfig(path)
			return cli.ShowCheck(cmd.OutOrStdout(), output, path, "", err)
		},
	}
	addConfigFlag(cmd, &path)
	cli.AddOutput(cmd, &output)
	return cmd
}

func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "proxy.yaml", "the configuration file")
}
