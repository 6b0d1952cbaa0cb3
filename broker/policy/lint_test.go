package policy

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

var update = flag.Bool("update", false, "write what lint says into testdata")

// lintFixture is a fixture: a rule set, and what a configuration says beside it.
type lintFixture struct {
	IdentityProviders []struct {
		Name      string   `yaml:"name"`
		Preset    string   `yaml:"preset"`
		Issuer    string   `yaml:"issuer"`
		Audiences []string `yaml:"audiences"`
	} `yaml:"identity_providers"`
	Issuers []struct {
		Name   string `yaml:"name"`
		Driver string `yaml:"driver"`
	} `yaml:"issuers"`

	Source
}

func lintInputOf(tb testing.TB, file string, text []byte) LintInput {
	tb.Helper()
	root, problems := strictyaml.Parse(filepath.Base(file), text)
	var f lintFixture
	if problems = append(problems, root.Decode(&f)...); len(problems) > 0 {
		tb.Fatalf("%s: %v", file, problems)
	}
	f.At = root
	in := LintInput{
		Source: f.Source, Text: text, Drivers: map[string]string{}, PolicySource: "github.com/octo/access",
		Now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
	}
	for _, p := range f.IdentityProviders {
		in.Providers = append(in.Providers, LintProvider{p.Name, p.Preset, p.Issuer, p.Audiences})
	}
	for _, i := range f.Issuers {
		in.Drivers[i.Name] = i.Driver
	}
	return in
}

func lintFile(tb testing.TB, file string) []Flaw {
	tb.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return Lint(lintInputOf(tb, file, text))
}

func (f Flaw) line() string {
	text := fmt.Sprintf("%d:%d: %s: %s: %s: %s\n    why: %s\n    write: %s\n", f.Line, f.Column, f.Severity, f.ID, f.Subject, f.Message, f.Why, f.Rewrite)
	if f.Ignored != "" {
		text += "    ignored: " + f.Ignored + "\n"
	}
	return text
}

// TestLintFixtures: each ID has a fixture with the flaw, whose findings of that ID stand in a file
// beside it, and one without.
func TestLintFixtures(t *testing.T) {
	bites, err := filepath.Glob("testdata/lint/*.bites.yaml")
	if err != nil || len(bites) < 18 {
		t.Fatalf("%d fixtures, %v", len(bites), err)
	}
	for _, file := range bites {
		id := strings.TrimSuffix(filepath.Base(file), ".bites.yaml")
		t.Run(id, func(t *testing.T) {
			var got strings.Builder
			for _, f := range lintFile(t, file) {
				if f.ID == id {
					got.WriteString(f.line())
				}
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || len(want) == 0 {
				t.Fatalf("%s: %v; -update writes it", golden, err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Error(diff)
			}
			for _, f := range lintFile(t, strings.Replace(file, ".bites.", ".fine.", 1)) {
				if f.ID == id {
					t.Errorf("the fixture without the flaw has it:\n%s", f.line())
				}
			}
		})
	}
}

// TestLintFixturesAreComplete: every ID in the code has a fixture.
func TestLintFixturesAreComplete(t *testing.T) {
	sources, err := filepath.Glob("lint*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "ID:")[1:] {
			id, quoted := strings.CutPrefix(strings.TrimSpace(part), `"`)
			id, _, _ = strings.Cut(id, `"`)
			if !quoted {
				continue
			}
			found++
			if _, err := os.Stat("testdata/lint/" + id + ".fine.yaml"); err != nil {
				t.Errorf("%s: %s has no fixture", source, id)
			}
		}
	}
	if found < 18 {
		t.Errorf("found %d IDs; the pattern does not fit the code any more", found)
	}
}

// TestLintIgnoredFlawsAreMarked: an ignored flaw is still told, with the reason; flaws of other IDs in
// the same rule are not ignored.
func TestLintIgnoredFlawsAreMarked(t *testing.T) {
	var told []string
	for _, f := range lintFile(t, "testdata/lint/idle-ignore.fine.yaml") {
		told = append(told, f.ID+" in "+f.Subject+": "+f.Ignored)
	}
	want := []string{
		`any-provider in rule "above": only okta lists groups`,
		`fork-builds in rule "above": `,
		`any-provider in rule "beside": only okta lists groups`,
		`fork-builds in rule "beside": `,
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

// TestLintTellsOrder: findings come in the order of the file.
func TestLintTellsOrder(t *testing.T) {
	flaws := lintFile(t, "testdata/lint/name-only-subject.bites.yaml")
	if len(flaws) < 10 || !slices.IsSortedFunc(flaws, func(a, b Flaw) int { return a.Line - b.Line }) {
		t.Errorf("%d findings, not in the order of their lines", len(flaws))
	}
}

// FuzzLint: Lint takes whatever can be read, ends, and places each finding in the file.
func FuzzLint(f *testing.F) {
	files, err := filepath.Glob("testdata/lint/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		root, problems := strictyaml.Parse("rules.yaml", text)
		if len(problems) > 0 && root.Kind() == strictyaml.Null {
			return
		}
		var src lintFixture
		root.Decode(&src)
		src.At = root
		in := LintInput{Source: src.Source, Text: text, PolicySource: "github.com/octo/access", Now: noon}
		for _, p := range src.IdentityProviders {
			in.Providers = append(in.Providers, LintProvider{p.Name, p.Preset, p.Issuer, p.Audiences})
		}
		lines := strings.Count(string(text), "\n") + 1
		for _, flaw := range Lint(in) {
			if flaw.Line < 1 || flaw.Line > lines || flaw.Column < 1 {
				t.Errorf("%s stands at %d:%d of %d lines", flaw.ID, flaw.Line, flaw.Column, lines)
			}
		}
	})
}

// BenchmarkLint looks at 1,000 rules over 250 targets.
func BenchmarkLint(b *testing.B) {
	var text strings.Builder
	text.WriteString("identity_providers: [{ name: ci, preset: github-actions, audiences: [a] }, { name: okta, audiences: [b] }]\ntargets:\n")
	for i := range 250 {
		fmt.Fprintf(&text, "  - { name: db-%d, credential: { issuer: vault } }\n", i)
	}
	text.WriteString("rules:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "  - { name: rule-%d, who: 'principal.provider == \"ci\" && principal.claims.repository_id == \"%d\" && principal.claims.ref == \"refs/heads/main\"', may: [{ target: db-%d }], ttl: 15m }\n", i, i, i/4)
	}
	in := lintInputOf(b, "rules.yaml", []byte(text.String()))
	b.ReportAllocs()
	for b.Loop() {
		if flaws := Lint(in); len(flaws) != 0 {
			b.Fatal(flaws[0])
		}
	}
}
