package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

func newPolicyLint() *cobra.Command {
	var source, output string
	var strict bool
	cmd := &cobra.Command{
		Use:   "lint [FILE]",
		Short: "Name what in the rules bites: what is there, what can happen, what to write",
		Long: `lint reads FILE, daypass.yaml where none is named, and names what is right as YAML
and as a rule, and lets in somebody who is not meant, or does nothing at all.

It ends with 1 where a finding is an error, and with --strict where there is any.
A comment '# lint:ignore ID reason' on a line of a rule, or above it, takes the
findings of that ID in it out of the count.`,
		Example: `  daypass policy lint --strict --policy-source github.com/octo/access`,
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, text, problems := readPolicy(configFile(args))
			if c == nil {
				return problems
			}
			l := linted{flaws: policy.Lint(lintInput(c, text, source)), source: source, problems: problems}
			show := l.text
			if output == cli.JSON {
				show = l.json
			}
			if err := show(cmd.OutOrStdout()); err != nil {
				return err
			}
			return errors.Join(problems, l.failure(strict))
		},
	}
	cmd.Flags().StringVar(&source, "policy-source", "", "the repository that holds FILE, such as github.com/octo/access: finds grants that can write to it")
	cmd.Flags().BoolVar(&strict, "strict", false, "end with 1 also where there are only warnings and notes")
	cli.AddOutput(cmd, &output)
	return cmd
}

func lintInput(c *config.Config, text []byte, source string) policy.LintInput {
	in := policy.LintInput{Source: c.Source, Text: text, Drivers: map[string]string{}, PolicySource: source, Now: time.Now()}
	resolved := c.Providers()
	for i, p := range c.IdentityProviders {
		in.Providers = append(in.Providers, policy.LintProvider{
			Name: p.Name, Preset: p.Preset, Issuer: resolved[i].PrincipalIssuer(), Audiences: p.Audiences,
		})
	}
	for _, i := range c.Issuers {
		in.Drivers[i.Name] = i.Driver
	}
	return in
}

// linted is what lint found.
type linted struct {
	flaws    []policy.Flaw
	source   string
	problems error
}

// counts returns how many flaws there are of each severity, and how many are ignored.
func (l linted) counts() (bySeverity map[policy.Severity]int, ignored int) {
	bySeverity = map[policy.Severity]int{}
	for _, f := range l.flaws {
		if f.Ignored != "" {
			ignored++
		} else {
			bySeverity[f.Severity]++
		}
	}
	return bySeverity, ignored
}

// failure is the error of findings that make the command fail.
func (l linted) failure(strict bool) error {
	n, _ := l.counts()
	switch found := n[policy.SeverityError] + n[policy.SeverityWarning] + n[policy.SeverityInfo]; {
	case n[policy.SeverityError] > 0:
		return errors.New(counted(n[policy.SeverityError], "error") + " in the rules")
	case strict && found > 0:
		return errors.New(counted(found, "finding") + " in the rules, and --strict allows none")
	}
	return nil
}

func (l linted) text(w io.Writer) error {
	for _, f := range l.flaws {
		if f.Ignored != "" {
			continue
		}
		cli.Row(w, fmt.Sprintf("%s:%d:%d: %s: %s: %s: %s", f.File, f.Line, f.Column, f.Severity, f.ID, f.Subject, f.Message))
		cli.Row(w, "    why: "+f.Why)
		if f.Rewrite != "" {
			cli.Row(w, "    write: "+f.Rewrite)
		}
	}
	n, ignored := l.counts()
	fmt.Fprintf(w, "%s, %s, %s, %d ignored\n", counted(n[policy.SeverityError], "error"),
		counted(n[policy.SeverityWarning], "warning"), counted(n[policy.SeverityInfo], "note"), ignored)
	if l.source == "" {
		fmt.Fprintln(w, "not looked for: grants that can write to these rules; name their repository with --policy-source")
	}
	return nil
}

func (l linted) json(w io.Writer) error {
	type finding struct {
		ID       string          `json:"id"`
		Severity policy.Severity `json:"severity"`
		Subject  string          `json:"subject"`
		File     string          `json:"file"`
		Line     int             `json:"line"`
		Column   int             `json:"column"`
		Path     string          `json:"path"`
		Message  string          `json:"message"`
		Why      string          `json:"why"`
		Rewrite  string          `json:"rewrite,omitempty"`
		Ignored  string          `json:"ignored,omitempty"`
	}
	findings := make([]finding, len(l.flaws))
	for i, f := range l.flaws {
		findings[i] = finding(f)
	}
	problems := []cli.Problem{}
	if wrong, ok := errors.AsType[strictyaml.Problems](l.problems); ok {
		for _, p := range wrong.Sorted() {
			problems = append(problems, cli.Problem(p))
		}
	}
	n, ignored := l.counts()
	return cli.WriteJSON(w, map[string]any{
		"findings": findings, "errors": n[policy.SeverityError], "warnings": n[policy.SeverityWarning], "notes": n[policy.SeverityInfo],
		"ignored": ignored, "problems": problems, "policy_source": l.source,
	})
}

// counted returns "1 word" or "n words".
func counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%s %ss", thousands(n), word)
}
