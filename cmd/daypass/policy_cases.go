package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

func newPolicyTest() *cobra.Command {
	var config, output string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Try the rules on cases that stand beside them",
		Long: `test decides the request of every case in the FILEs, and compares what comes of it
with what the case expects. It ends with 1 where a case fails.`,
		Example: `  daypass policy test policy-cases.yaml
  daypass policy test --config changed.yaml cases/*.yaml -o json`,
		Args: cli.Args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			cases, err := readCases(files)
			if err != nil {
				return err
			}
			conf, err := loadPolicy(config)
			if err != nil {
				return err
			}
			identify, now := identifier(conf), time.Now()
			results := make([]policy.CaseResult, len(cases))
			for i, c := range cases {
				results[i] = conf.Policy.Test(c, identify, now)
			}
			if output == cli.JSON {
				return casesJSON(cmd.OutOrStdout(), results)
			}
			return casesText(cmd.OutOrStdout(), results, verbose)
		},
	}
	addConfig(cmd, &config)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also list the cases that pass")
	cli.AddOutput(cmd, &output)
	return cmd
}

// readCases reads all files, so that the problems of all are told.
func readCases(files []string) ([]policy.Case, error) {
	var all []policy.Case
	var problems strictyaml.Problems
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the cases can't be read: %w", err)
		}
		cases, wrong := policy.ParseCases(file, text)
		all, problems = append(all, cases...), append(problems, wrong...)
	}
	return all, problems.Err()
}

// failedCases is the error of a run in which cases failed.
func failedCases(failed, all int) error {
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %s failed", failed, counted(all, "case"))
}

func countFailed(results []policy.CaseResult) int {
	failed := 0
	for _, r := range results {
		if len(r.Wrong) > 0 {
			failed++
		}
	}
	return failed
}

func casesText(w io.Writer, results []policy.CaseResult, verbose bool) error {
	for _, r := range results {
		at := fmt.Sprintf("%s:%d:%d: %s", r.File, r.Line, r.Column, r.Name)
		if len(r.Wrong) == 0 {
			if verbose {
				cli.Row(w, "ok    "+at)
			}
			continue
		}
		cli.Row(w, "FAIL  "+at)
		for _, m := range r.Wrong {
			cli.Row(w, fmt.Sprintf("        %s: want %s, got %s", m.What, m.Want, orNone(m.Got)))
		}
		if why := r.Decision.Private.Condition; why != "" {
			cli.Row(w, fmt.Sprintf("        rule %q: %s", r.Decision.Private.Rule, why))
		}
	}
	failed := countFailed(results)
	fmt.Fprintf(w, "%s: %d passed, %d failed\n", counted(len(results), "case"), len(results)-failed, failed)
	return failedCases(failed, len(results))
}

func casesJSON(w io.Writer, results []policy.CaseResult) error {
	type mismatch struct {
		What string `json:"what"`
		Want string `json:"want"`
		Got  string `json:"got"`
	}
	type result struct {
		Name      string     `json:"name"`
		File      string     `json:"file"`
		Line      int        `json:"line"`
		Column    int        `json:"column"`
		OK        bool       `json:"ok"`
		Decision  string     `json:"decision"`
		Rule      string     `json:"rule,omitempty"`
		Reason    string     `json:"reason,omitempty"`
		Condition string     `json:"condition,omitempty"`
		Wrong     []mismatch `json:"wrong"`
	}
	all := make([]result, len(results))
	for i, r := range results {
		all[i] = result{
			Name: r.Name, File: r.File, Line: r.Line, Column: r.Column, OK: len(r.Wrong) == 0,
			Decision: string(r.Decision.Outcome()), Rule: r.Decision.Private.Rule,
			Reason: r.Decision.Private.Reason, Condition: r.Decision.Private.Condition, Wrong: []mismatch{},
		}
		for _, m := range r.Wrong {
			all[i].Wrong = append(all[i].Wrong, mismatch(m))
		}
	}
	failed := countFailed(results)
	err := cli.WriteJSON(w, map[string]any{"cases": all, "passed": len(all) - failed, "failed": failed})
	if err != nil {
		return err
	}
	return failedCases(failed, len(all))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
