package daypass_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/proxy/mask"
)

// page is a page of the documentation by its path, with what the tests below look at.
type page struct {
	path, text string
	blocks     []block
}

// block is a fenced block of code.
type block struct{ language, text string }

var fenced = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// pages returns README.md, its neighbours, and everything in docs/.
func pages(t *testing.T) []page {
	t.Helper()
	paths := []string{"README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"}
	err := filepath.WalkDir("docs", func(file string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(file, ".md") {
			paths = append(paths, filepath.ToSlash(file))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := make([]page, len(paths))
	for i, file := range paths {
		all[i] = page{path: file, text: read(t, file)}
		for _, m := range fenced.FindAllStringSubmatch(all[i].text, -1) {
			all[i].blocks = append(all[i].blocks, block{m[1], m[2]})
		}
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// prose is a page without its blocks of code.
func (p page) prose() string { return fenced.ReplaceAllString(p.text, "") }

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinksLeadSomewhere holds every link within the repository against files and headings.
func TestLinksLeadSomewhere(t *testing.T) {
	found := 0
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.prose(), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, ":") {
				continue // https:, mailto:
			}
			found++
			target := path.Join(path.Dir(p.path), file)
			if file == "" {
				target = p.path
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", p.path, m[1])
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", p.path, m[1], target)
			}
		}
	}
	if found < 20 {
		t.Errorf("found %d links; the pattern does not fit the pages any more", found)
	}
}

var (
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names that GitHub gives to headings.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(notInSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

// TestPagesListWhatTheCodeHas holds the pages' tables against the names in the code.
func TestPagesListWhatTheCodeHas(t *testing.T) {
	for _, c := range []struct {
		page, source, pattern string
		least                 int
	}{
		{"docs/audit.md", "audit/event.go", `Kind = "([a-z.]+)"`, 20},
		{"docs/proxy.md", "proxy/*.go", `refusal\(cred\.[A-Za-z]+, "([a-z_]+)"`, 25},
		{"docs/proxy.md", "cmd/daypass-proxy/config.go", "yaml:\"([a-z_]+)", 15},
		{"docs/operations.md", "broker/rpc/metrics.go", `"(daypass_[a-z_]+)"`, 3},
		{"docs/issuers/vault.md", "cmd/daypassd/issuers.go", "yaml:\"([a-z_]+)", 10},
	} {
		text := read(t, c.page)
		names := namesIn(t, c.source, c.pattern)
		if len(names) < c.least {
			t.Errorf("%s: found %d names with %s, want %d at the least", c.source, len(names), c.pattern, c.least)
		}
		for _, name := range names {
			if !regexp.MustCompile("\\b" + regexp.QuoteMeta(name) + "\\b").MatchString(text) {
				t.Errorf("%s has %q, and %s does not tell of it", c.source, name, c.page)
			}
		}
	}
}

// namesIn returns what a pattern finds in files that are no tests, each once.
func namesIn(t *testing.T, glob, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.FromSlash(glob))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, file), -1) {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestMaskingPageListsTheDetectors holds the tables of docs/masking.md against the code, both ways.
func TestMaskingPageListsTheDetectors(t *testing.T) {
	text := read(t, "docs/masking.md")
	rows := 0
	for _, d := range mask.Describe() {
		row := fmt.Sprintf("| `%s` | %s |\n", d.Name, d.Finds)
		if rows++; !strings.Contains(text, row) {
			t.Errorf("docs/masking.md lacks the row\n%s", row)
		}
	}
	if n := len(regexp.MustCompile("(?m)^\\| `[a-z-]+` \\| ").FindAllString(text, -1)); n != rows+2 {
		t.Errorf("docs/masking.md has %d rows of detectors and groups, and there are %d detectors and 2 groups", n, rows)
	}
}

var (
	testName = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	anyTest  = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z][A-Za-z0-9_]*`)
)

// TestClaimsAreTheReadmes: docs/claims.md says what the README says, and each test that it names exists.
func TestClaimsAreTheReadmes(t *testing.T) {
	claims := read(t, "docs/claims.md")
	_, holds, _ := strings.Cut(read(t, "README.md"), "## What holds\n")
	holds, _, _ = strings.Cut(holds, "\n## ")
	flat := strings.Join(strings.Fields(strings.ReplaceAll(claims, "\n> ", " ")), " ")
	lines := bullets(holds)
	if len(lines) < 5 {
		t.Fatalf("README.md has %d lines under \"What holds\"", len(lines))
	}
	for _, line := range lines {
		if !strings.Contains(flat, line) {
			t.Errorf("docs/claims.md lacks the README's line: %s", line)
		}
	}
	if n := strings.Count(claims, "\n## "); n != len(lines) {
		t.Errorf("docs/claims.md has %d sections, README.md %d lines", n, len(lines))
	}
	named := testName.FindAllStringSubmatch(claims, -1)
	if all := anyTest.FindAllString(claims, -1); len(all) != len(named) {
		t.Errorf("docs/claims.md has %d names of tests, of which %d have the form `package.TestName`", len(all), len(named))
	}
	for _, m := range named {
		if !slices.Contains(testsOf(t, m[1]), m[2]) {
			t.Errorf("docs/claims.md names %s, and there is no such test in %s", m[2], m[1])
		}
	}
}

// bullets returns the points of a list, each on one line.
func bullets(text string) []string {
	var all []string
	for _, part := range strings.Split(text, "\n- ")[1:] {
		part, _, _ = strings.Cut(part, "\n\n")
		all = append(all, strings.Join(strings.Fields(part), " "))
	}
	return all
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)

// testsOf returns the names of the tests in a folder.
func testsOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		for _, m := range testFunc.FindAllStringSubmatch(read(t, file), -1) {
			names = append(names, m[1])
		}
	}
	return names
}

// TestCommandsInThePagesExist holds every command line of ours in the pages against the commands'
// own help, and every configuration that is marked as a whole one against the commands' own check.
func TestCommandsInThePagesExist(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the commands")
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/", "./cmd/...").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Run("lines", func(t *testing.T) {
		lines := 0
		h := &helps{t: t, bin: bin, known: map[string]help{}}
		for _, p := range pages(t) {
			for _, line := range commandLines(p) {
				lines++
				h.check(p.path, line)
			}
		}
		if lines < 25 {
			t.Errorf("found %d command lines; the patterns do not fit the pages any more", lines)
		}
	})
	t.Run("configurations", func(t *testing.T) { checkConfigurations(t, bin) })
}

var (
	// shellCommand finds our commands where a shell would look for one, up to what ends a command.
	shellCommand = regexp.MustCompile("(?m)(?:^|[$(|;&] ?|bin/|run: ) *((?:daypassd|daypass-proxy|daypass) [^|;&)<>#\n]*)")
	spanCommand  = regexp.MustCompile("`((?:daypassd|daypass-proxy|daypass) [^`\n]*)`")
)

// commandLines returns command lines of ours: those in blocks of shell and its like, and spans of code
// that begin with one.
func commandLines(p page) []string {
	var all []string
	for _, b := range p.blocks {
		if slices.Contains([]string{"sh", "yaml", "ini"}, b.language) {
			for _, m := range shellCommand.FindAllStringSubmatch(strings.ReplaceAll(b.text, "\\\n", " "), -1) {
				all = append(all, m[1])
			}
		}
	}
	for _, m := range spanCommand.FindAllStringSubmatch(p.prose(), -1) {
		all = append(all, m[1])
	}
	return all
}

// help is what a command says of itself.
type help struct {
	commands []string
	flags    []string // as on the command line: --scope, -o
}

type helps struct {
	t     *testing.T
	bin   string
	known map[string]help
}

// check holds a command line against the help of the command that it calls.
func (h *helps) check(where, line string) {
	words := strings.Fields(line)
	called := words[0]
	for _, word := range words[1:] {
		word = strings.Trim(word, "[]'.,…")
		flag, _, _ := strings.Cut(word, "=")
		now := h.of(called)
		switch {
		case strings.HasPrefix(word, "-") && word != "-":
			if !slices.Contains(now.flags, flag) {
				h.t.Errorf("%s: %q: %s has no flag %s", where, line, called, flag)
			}
		case len(now.commands) > 0 && word != "":
			if !slices.Contains(now.commands, word) {
				h.t.Errorf("%s: %q: %s has no command %s", where, line, called, word)
				return
			}
			called += " " + word
		}
	}
}

var (
	helpCommand = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) +\S`)
	helpFlag    = regexp.MustCompile(`(?m)^ +(?:(-[a-z]), |    )(--[a-z-]+)`)
)

func (h *helps) of(command string) help {
	if known, ok := h.known[command]; ok {
		return known
	}
	words := strings.Fields(command)
	out, err := exec.Command(filepath.Join(h.bin, words[0]), append(words[1:], "--help")...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s --help: %v\n%s", command, err, out)
	}
	_, list, _ := strings.Cut(string(out), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	var got help
	for _, m := range helpCommand.FindAllStringSubmatch(list, -1) {
		got.commands = append(got.commands, m[1])
	}
	for _, m := range helpFlag.FindAllStringSubmatch(string(out), -1) {
		got.flags = append(got.flags, m[1], m[2])
	}
	h.known[command] = got
	return got
}

const (
	wholeBroker = "# daypass.yaml\n"
	wholeProxy  = "# proxy.yaml\n"
	server      = "server: { url: \"https://daypass.example.com\", tls: { certificate: pki/server.pem, private_key: pki/server.key, client_ca: pki/ca.pem } }\n"
)

// jobs is an identity provider for configurations that begin with issuers.
const jobs = "identity_providers: [{ name: github-actions, preset: github-actions, audiences: [\"https://daypass.example.com\"] }]\n"

// sources are issuers and people for configurations that begin with rotations.
const sources = `
issuers:
  - { name: prod-vault, vault: { address: "https://vault.example.com:8200", auth: { jwt: { role: daypass } } } }
  - { name: github, github_app: { app: "123456", private_key: { file: keys/github-app.pem } } }
targets: [{ name: orders-db, credential: { issuer: prod-vault, path: database/creds/orders-ro } }]
groups: [{ name: security, members: [{ provider: github-actions, subject: s }] }]
`

var (
	secretFile = regexp.MustCompile(`file:([\w./-]+)`)
	caFile     = regexp.MustCompile(`ca_file: ([\w./-]+)`)
	keyFile    = regexp.MustCompile(`\{ file: ([\w./-]+) \}`)
)

// makeFiles makes the files that a configuration names.
func makeFiles(t *testing.T, dir, text string) {
	for _, m := range secretFile.FindAllStringSubmatch(text, -1) {
		content := strings.Repeat("c2VjcmV0", 5) // base64, which signing keys have to be
		if strings.HasSuffix(m[1], ".url") {
			content = "https://example.com/hook"
		}
		makeFile(t, dir, m[1], content)
	}
	for _, m := range caFile.FindAllStringSubmatch(text, -1) {
		makeFile(t, dir, m[1], read(t, filepath.Join(dir, "pki", "ca.pem")))
	}
	for _, m := range keyFile.FindAllStringSubmatch(text, -1) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		makeFile(t, dir, m[1], string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	}
}

// makeFile makes a file, unless there is one.
func makeFile(t *testing.T, dir, name, content string) {
	path := name
	if !filepath.IsAbs(name) {
		path = filepath.Join(dir, name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkConfigurations runs 'check' on the configurations in the pages: those that begin with identity
// providers, issuers or rotations, and those that a first line calls whole but for 'server'.
func checkConfigurations(t *testing.T, bin string) {
	dir := filepath.Join(t.TempDir(), "etc")
	if out, err := exec.Command(filepath.Join(bin, "daypassd"), "init", dir, "--url", "https://daypass.example.com").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checked := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			command, file, text := "daypassd", "daypass.yaml", server+b.text
			switch {
			case strings.HasPrefix(b.text, wholeProxy):
				command, file, text = "daypass-proxy", "proxy.yaml", b.text
			case b.language == "yaml" && strings.HasPrefix(b.text, "issuers:"):
				text = server + jobs + b.text
			case b.language == "yaml" && strings.HasPrefix(b.text, "rotations:"):
				text = server + jobs + sources + b.text
			case !strings.HasPrefix(b.text, wholeBroker) && !strings.HasPrefix(b.text, "identity_providers:"):
				continue
			}
			checked++
			makeFiles(t, dir, text)
			config := filepath.Join(dir, file)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(filepath.Join(bin, command), "check", "--config", config).CombinedOutput(); err != nil {
				t.Errorf("%s: a configuration does not pass: %v\n%s", p.path, err, out)
			}
		}
	}
	if checked < 5 {
		t.Errorf("checked %d configurations; the patterns do not fit the pages any more", checked)
	}
}
