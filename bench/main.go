// Command bench measures daypass against baselines that run on the same machine in the same minute,
// each pair in turn, so that what it prints are ratios and not the machine's mood. It prints a table
// and writes bench/latest.json. It takes under three minutes.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// result is one line of the table.
type result struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline float64 `json:"baseline,omitempty"` // in the same unit
	Against  string  `json:"against,omitempty"`  // what the baseline is
	Ratio    float64 `json:"ratio,omitempty"`
	Goal     string  `json:"goal,omitempty"`
}

// ratio compares a value with its baseline.
func ratio(name, unit string, value, baseline float64, against, goal string) result {
	r := result{Name: name, Value: value, Unit: unit, Baseline: baseline, Against: against, Goal: goal}
	if baseline > 0 {
		r.Ratio = value / baseline
	}
	return r
}

// benchmark is one thing that is measured.
type benchmark struct {
	name string
	run  func(ctx context.Context, b *bench) ([]result, error)
}

var benchmarks = []benchmark{
	{"mask", benchMask},
	{"log", benchLog},
	{"policy", benchPolicy},
	{"proxy", benchProxy},
	{"exchange", benchExchange},
	{"overhead", benchOverhead},
	{"sweep", benchSweep},
}

// bench is what the benchmarks share.
type bench struct {
	dir    string // temporary
	rounds int
	round  time.Duration
	short  bool // what grows with its size is small
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		serveChild(os.Args[2:])
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "sweep" {
		sweepChild(os.Args[2])
		return
	}
	only := flag.String("only", "", "measure this one alone: mask, log, policy, proxy, exchange, overhead or sweep")
	rounds := flag.Int("rounds", 3, "how often each side of a pair runs")
	round := flag.Duration("round", 2*time.Second, "how long one side runs")
	short := flag.Bool("short", false, "measure the sweep of ten thousand leases in place of a million")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &bench{rounds: *rounds, round: *round, short: *short}, *only); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, b *bench, only string) (err error) {
	if b.dir, err = os.MkdirTemp("", "daypass-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	var all []result
	for _, m := range benchmarks {
		if only != "" && only != m.name {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "measuring %s …", m.name)
		results, err := m.run(ctx, b)
		fmt.Fprintf(os.Stderr, " %s\n", time.Since(began).Round(time.Second))
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		all = append(all, results...)
	}
	printTable(all)
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile("bench/latest.json", append(text, '\n'), 0o644)
}

func printTable(all []result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "what\tvalue\tunit\tbaseline\tratio\tgoal\t")
	for _, r := range all {
		baseline, share := "", ""
		if r.Baseline > 0 {
			baseline, share = number(r.Baseline), fmt.Sprintf("%.2f", r.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Name, number(r.Value), r.Unit, baseline, share, r.Goal)
	}
	w.Flush()
	for _, r := range all {
		if r.Against != "" {
			fmt.Printf("%s: the baseline is %s\n", r.Name, r.Against)
		}
	}
}

func number(f float64) string {
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return strings.TrimPrefix(s, ",")
}

// inTurn measures a value and its baseline alternately and returns the median of each.
func (b *bench) inTurn(value, baseline func() (float64, error)) (float64, float64, error) {
	var values, baselines []float64
	for range b.rounds {
		for _, side := range []struct {
			into *[]float64
			run  func() (float64, error)
		}{{&baselines, baseline}, {&values, value}} {
			v, err := side.run()
			if err != nil {
				return 0, 0, err
			}
			*side.into = append(*side.into, v)
		}
	}
	return median(values), median(baselines), nil
}
