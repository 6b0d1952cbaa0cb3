package mask

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func compile(t testing.TB, names ...string) *Detectors {
	t.Helper()
	d, err := Compile(names)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func masked(t testing.TB, m *Masker, text string) string {
	t.Helper()
	out, _ := m.Bytes([]byte(text))
	return string(out)
}

// Every sample is masked whole, whatever stands beside it in JSON, URLs, headers and prose.
func TestSamples(t *testing.T) {
	m := compile(t, Secrets, PII).Masker()
	around := [][2]string{
		{"", ""},
		{" ", " "},
		{`{"k":"`, `"}`},
		{`{"k":"line\n`, `\nmore"}`},
		{"https://host/?a=", "&b=1"},
		{"x: ", "\r\n"},
		{"(", ")"},
		{`\"`, `\"`},
		{"a%3A", "%20b"},
		{"<v>", "</v>"},
		{"'", "'"},
		{"é", "é"},
	}
	for _, s := range samples() {
		for _, a := range around {
			want := a[0] + "[masked:" + s.detector + "]" + a[1]
			if got := masked(t, m, a[0]+s.token+a[1]); got != want && got != strings.Replace(want, `\n[`, `[`, 1) {
				t.Errorf("%s %q between %q:\n got %q\nwant %q", s.detector, s.token, a, got, want)
			}
		}
	}
}

func TestEveryDetectorHasASample(t *testing.T) {
	for _, name := range Names() {
		if name == "private-key" || name == "aws-secret-key" {
			continue // they have tests of their own
		}
		if !slices.ContainsFunc(samples(), func(s sample) bool { return s.detector == name }) {
			t.Errorf("no sample for %s", name)
		}
	}
}

// What looks like a find and is none stays as it is.
func TestClean(t *testing.T) {
	m := compile(t, Secrets, PII).Masker()
	for _, text := range []string{
		"task_test_integration and disk_live_migration", "task-ant-colony-optimisation-for-large-scale-scheduling",
		"s.getElementsByClassNameOnce()", "the github_pattern", "-----BEGIN PRIVATE KEY-----` is the header",
		"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUZ\n-----END CERTIFICATE-----", "1765000000123", "1765000000123456789",
		"0.4111111111111111", "4111111111111112", "a4111111111111111", "078-05-1120", "123-45-6789", "900-12-3456", "666-12-3456", "000-12-3456",
		"DE89370400440532013001", "de89ab12-0000", "foo@1.2.3", "@user hello", "git@github.com:org/repo", "user@localhost",
		"192.168.100.200", "2026-11-21", "they eyed the key", "sk-learn", "xoxo", "2411-1234-1234-1234",
		"the secret access key is in the vault", "AKIAIOSFODNN", "eyJhbGciOiJub25lIn0 alone", "550e8400-e29b-41d4-a716-446655440000",
	} {
		if got := masked(t, m, text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestAWSSecret(t *testing.T) {
	key := rep("aB3/dE5+fG7h", 40)
	escaped := strings.ReplaceAll(key, "/", `\/`)
	m := compile(t, "aws-secret-key").Masker()
	for _, c := range []struct{ before, key, after string }{
		{`{"SecretAccessKey":"`, key, `"}`},
		{`{"SecretAccessKey" : "`, escaped, `"}`},
		{"<SecretAccessKey>", key, "</SecretAccessKey>"},
		{"aws_secret_access_key = ", key, "\n"},
		{"AWS_SECRET_ACCESS_KEY=", key, ""},
		{`{\"secretAccessKey\":\"`, key, `\"}`},
		{"secret access key: ", key, "."},
		{"SecretAccessKey%22%3A%22", key, "%22"},
	} {
		want := c.before + "[masked:aws-secret-key]" + c.after
		if got := masked(t, m, c.before+c.key+c.after); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, text := range []string{"secret_access_key=" + key + "A", "secret_access_key=" + key[:39], "access_key=" + key, "secret_access_key " + key} {
		if got := masked(t, m, text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func pem(kind, newline string, lines int) string {
	return "-----BEGIN " + kind + "-----" + newline + strings.Repeat(rep(mixed+"+/", 64)+newline, lines) + "-----END " + kind + "-----"
}

func TestPrivateKey(t *testing.T) {
	m := compile(t, "private-key").Masker()
	for _, kind := range []string{"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PGP PRIVATE KEY BLOCK"} {
		for _, newline := range []string{"\n", "\r\n", `\n`, `\\n`, " ", "%0A", "\n    ", "\\n\" +\n  \""} {
			for _, lines := range []int{1, 25, 2000} {
				text := "before " + pem(kind, newline, lines) + " after"
				if got := masked(t, m, text); got != "before -----[masked:private-key] after" {
					t.Fatalf("%s with %q, %d lines: %.200q", kind, newline, lines, got)
				}
			}
		}
	}
	encrypted := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n" + rep(mixed, 64) + "\n-----END RSA PRIVATE KEY-----"
	open := "-----BEGIN PRIVATE KEY-----\n" + rep(mixed, 64) + "\n-----END CERTIFICATE----- " + pem("EC PRIVATE KEY", "\n", 3) + " after"
	for _, text := range []string{encrypted + " after", open} {
		if got := masked(t, m, text); got != "-----[masked:private-key] after" {
			t.Errorf("%q", got)
		}
	}
	unending := "-----BEGIN PRIVATE KEY-----\n" + rep(mixed, 1<<20)
	if got := masked(t, m, unending); got != "-----[masked:private-key]" {
		t.Errorf("%.100q", got)
	}
}

// A token longer than what is waited for is masked to its end.
func TestEndlessToken(t *testing.T) {
	m := compile(t, Secrets).Masker()
	for _, prefix := range []string{"gh" + "p_", "gh" + "s_", header + ".", "gl" + "pat-", "sk-" + "ant-", "hooks." + "slack.com/services/T0/"} {
		for _, n := range []int{maxRun - 1, maxRun, maxRun + 1, maxJWTHeader, 300_000} {
			got := masked(t, m, prefix+rep("a1", n)+" end")
			if n < maxRun && (prefix[0] == 'h' || prefix[0] == 'e') {
				continue // without a third part it is no webhook, and no JWT
			}
			if len(got) > 60 || !strings.HasSuffix(got, " end") {
				t.Errorf("%s with %d: %d bytes left: %.100q", prefix, n, len(got), got)
			}
		}
	}
}

// Overlapping finds are one place; those side by side are two.
func TestOverlaps(t *testing.T) {
	m := compile(t, Secrets, PII).Masker()
	token := "gh" + "p_" + rep(mixed, 36)
	out, counts := m.Bytes([]byte(token + "@example.com " + token + "," + token))
	if want := "[masked:github-token] [masked:github-token],[masked:github-token]"; string(out) != want {
		t.Errorf("got %q", out)
	}
	if diff := cmp.Diff([]Count{{"github-token", 3}}, counts); diff != "" {
		t.Error(diff)
	}
}

func TestCompile(t *testing.T) {
	if _, err := Compile([]string{"secrets", "nonsense"}); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Errorf("unknown name: %v", err)
	}
	m := compile(t, "email").Masker()
	text := "jane@example.com " + jwtSample()
	if got := masked(t, m, text); got != "[masked:email] "+jwtSample() {
		t.Errorf("got %q", got)
	}
	if got := masked(t, compile(t).Masker(), text); got != text {
		t.Errorf("no detectors: %q", got)
	}
	if len(Names()) != len(Describe()) || Describe()[0].Finds == "" || Names()[0] != Describe()[0].Name {
		t.Error("Names and Describe differ")
	}
}

// The sieve has 64 bits: the detectors must leave room for known secrets.
func TestSieveHasRoom(t *testing.T) {
	bits := 0
	for _, d := range detectors {
		bits += len(d.anchors)
	}
	if bits > 48 {
		t.Errorf("the anchors take %d bits of the sieve", bits)
	}
}

// brokenWriter fails after some bytes.
type brokenWriter struct {
	left  int
	calls int
}

var errBroken = fmt.Errorf("broken")

func (b *brokenWriter) Write(p []byte) (int, error) {
	b.calls++
	if b.left -= len(p); b.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestDestinationError(t *testing.T) {
	dst := &brokenWriter{left: 10}
	w := compile(t, Secrets).Masker().Writer(dst)
	if _, err := w.Write(bytes.Repeat([]byte("z "), 20)); err != errBroken {
		t.Fatalf("first: %v", err)
	}
	calls := dst.calls
	_, err1 := w.Write([]byte("zz"))
	if err1 != errBroken || w.Flush() != errBroken || w.Close() != errBroken || dst.calls != calls {
		t.Errorf("later calls: %v, %d calls", err1, dst.calls-calls)
	}
}
