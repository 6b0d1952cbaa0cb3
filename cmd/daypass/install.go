package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/internal/cli"
)

func newInstallGit(c *connection) *cobra.Command {
	var o helperOptions
	var local, dryRun bool
	cmd := &cobra.Command{
		Use:   "git",
		Short: "Have git ask daypass for one host's credentials",
		Long: `git writes git's configuration, so that git asks daypass, and no other helper, for the
credentials of one host, or of what lies below one path there. Running it again
replaces what it wrote.

A target that is delivered directly gives its token, or its user and password. One
that goes through a proxy gives the grant token, which the proxy takes as a password:
name the proxy's URL and the target, as in --host http://127.0.0.1:8080/TARGET.`,
		Example: `  daypass helper install git --host git.example.com --target code
  daypass helper install git --host github.com/octo --target code --path-param repositories`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.needBroker(); err != nil {
				return err
			}
			steps, err := c.gitSteps(o, local)
			if err != nil {
				return err
			}
			return runSteps(cmd, steps, dryRun)
		},
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&local, "local", false, "for the repository that this is called in, and not for all of yours")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the commands, and change nothing")
	return cmd
}

// gitSteps are the commands that set git up. The empty helper comes first: it takes away those that git
// would ask for every host, which would keep our credential beyond its end.
func (c *connection) gitSteps(o helperOptions, local bool) ([][]string, error) {
	setup, err := o.check()
	if err != nil {
		return nil, err
	}
	line, err := c.gitLine(o)
	if err != nil {
		return nil, err
	}
	where := "--global"
	if local {
		where = "--local"
	}
	section := "credential." + setup.Place.URL()
	steps := [][]string{
		{"git", "config", where, "--replace-all", section + ".helper", ""},
		{"git", "config", where, "--add", section + ".helper", line},
	}
	if setup.PathParam != "" || setup.Place.Path != "" {
		steps = append(steps, []string{"git", "config", where, section + ".useHttpPath", "true"})
	}
	return steps, nil
}

// gitLine is the line that git hands to a shell, with the operation after it.
func (c *connection) gitLine(o helperOptions) (string, error) {
	program, err := self()
	if err != nil {
		return "", err
	}
	words := []string{program, "--broker", c.broker}
	if c.caFile != "" {
		file, err := filepath.Abs(c.caFile)
		if err != nil {
			return "", err
		}
		words = append(words, "--ca-file", file)
	}
	if c.idTokenFile != "" {
		return "", cli.Usagef("--id-token-file is for one call; git is to use the sign-in, or DAYPASS_ID_TOKEN")
	}
	return "!" + shellLine(append(append(words, "helper", "git"), o.words()...)), nil
}

// words are the flags again.
func (o helperOptions) words() []string {
	words := []string{"--host", o.host, "--target", o.target}
	for _, scope := range o.scopes {
		words = append(words, "--scope", scope)
	}
	for _, param := range o.params {
		words = append(words, "--param", param)
	}
	for _, flag := range [][2]string{{"--path-param", o.pathParam}, {"--reason", o.reason}, {"--user", o.user}} {
		if flag[1] != "" {
			words = append(words, flag[0], flag[1])
		}
	}
	if o.ttl != 0 {
		words = append(words, "--ttl", o.ttl.String())
	}
	if o.bearer {
		words = append(words, "--bearer")
	}
	return words
}

func runSteps(cmd *cobra.Command, steps [][]string, dryRun bool) error {
	for _, step := range steps {
		if dryRun {
			fmt.Fprintln(cmd.OutOrStdout(), shellLine(step))
			continue
		}
		if err := runStep(cmd.Context(), step); err != nil {
			return err
		}
	}
	return nil
}

func runStep(ctx context.Context, step []string) error {
	out, err := exec.CommandContext(ctx, step[0], step[1:]...).CombinedOutput() //nolint:gosec // G204: our own command line
	if err != nil {
		said := strings.TrimSpace(string(out))
		if said == "" {
			said = err.Error()
		}
		return fmt.Errorf("'%s' failed: %s", shellLine(step), said)
	}
	return nil
}

// shellLine writes words as a POSIX shell reads them.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = word
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return !strings.ContainsRune(plain, r) }) {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// plain are the characters that mean nothing to a shell.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%"
