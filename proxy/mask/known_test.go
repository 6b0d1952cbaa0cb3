package mask

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

func knowing(t testing.TB, secrets ...string) *Masker {
	t.Helper()
	var s []cred.Secret
	for _, secret := range secrets {
		s = append(s, cred.SecretString(secret))
	}
	return compile(t).Masker(s...)
}

const secretSample = `p"ä/s\s w+o%rd😀&<é`

// Every encoding of a secret is masked whole.
func TestKnownForms(t *testing.T) {
	const secret = secretSample
	m := knowing(t, secret)
	for name, form := range encodings(secret) {
		for _, around := range [][2]string{{"", ""}, {"x=", " y"}, {`{"a":"`, `","b":1}`}, {"%20", "%20"}, {`\n`, `\n`}} {
			got := masked(t, m, around[0]+form+around[1])
			want := around[0] + "[masked:credential]" + around[1]
			if strings.TrimRight(strings.Replace(got, "]=", "]", 1), "=") != want && got != strings.Replace(want, `\n[`, "[", 1) {
				t.Errorf("%s %q: got %q, want %q", name, form, got, want)
			}
		}
	}
}

func encodings(secret string) map[string]string {
	quoted, _ := json.Marshal(secret)
	inJSON := strings.Trim(string(quoted), `"`)
	twice, _ := json.Marshal(inJSON)
	var unicode, upperUnicode, percent strings.Builder
	for _, r := range secret {
		if r > 0xffff {
			r -= 0x10000
			fmt.Fprintf(&unicode, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
			fmt.Fprintf(&upperUnicode, `\u%04X\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
			continue
		}
		fmt.Fprintf(&unicode, `\u%04x`, r)
		fmt.Fprintf(&upperUnicode, `\u%04X`, r)
	}
	for i := range len(secret) {
		fmt.Fprintf(&percent, "%%%02x", secret[i])
	}
	std := base64.StdEncoding.EncodeToString([]byte(secret))
	return map[string]string{
		"raw": secret, "json": inJSON, "json with \\/": strings.ReplaceAll(inJSON, "/", `\/`), "json in json": strings.Trim(string(twice), `"`),
		"unicode": unicode.String(), "upper unicode": upperUnicode.String(), "percent": percent.String(),
		"query": url.QueryEscape(secret), "path": url.PathEscape(secret), "query twice": url.QueryEscape(url.QueryEscape(secret)),
		"lower query": strings.ToLower(url.QueryEscape("")) + lowerEscapes(url.QueryEscape(secret)),
		"hex":         hex.EncodeToString([]byte(secret)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"base64": std, "raw base64": base64.RawStdEncoding.EncodeToString([]byte(secret)), "base64url": base64.URLEncoding.EncodeToString([]byte(secret)),
		"base64 in a query": strings.TrimRight(url.QueryEscape(strings.TrimRight(std, "=")), "="), "base64 in json": strings.ReplaceAll(std, "/", `\/`),
		"base64 in lines": std[:12] + "\n" + std[12:24] + "\r\n" + std[24:], "base64 in json lines": std[:12] + `\n` + std[12:24] + `\r\n` + std[24:],
	}
}

func lowerEscapes(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(string(b[i+1:i+3])))
		}
	}
	return string(b)
}

// In base64 of a longer text the secret is masked at each of the three alignments, and what is left
// does not hold any of its bytes.
func TestKnownBase64Alignments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), minEncoded, 40).Draw(t, "secret")
		before := rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "before")
		after := rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "after")
		all := append(append(append([]byte{}, before...), secret...), after...)
		m := (&Detectors{}).Masker(cred.NewSecret(secret))
		enc := rapid.SampledFrom([]*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding}).Draw(t, "encoding")
		text := enc.EncodeToString(all)
		out, counts := m.Bytes([]byte(text))
		head, tail, cut := strings.Cut(string(out), "[masked:credential]")
		if !cut || !strings.HasPrefix(text, head) || !strings.HasSuffix(text, tail) || len(counts) != 1 {
			t.Fatalf("%q became %q", text, out)
		}
		if len(head) > len(before)*4/3 || len(strings.TrimRight(tail, "=")) > (len(after)*8+5)/6 {
			t.Fatalf("%q left %q and %q of a secret", text, head, tail)
		}
	})
}

// Any mixture of plain and escaped characters is the secret still.
func TestKnownMixedEscapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringN(1, 30, -1).Filter(func(s string) bool { return len(s) > 0 }).Draw(t, "secret")
		var text strings.Builder
		for _, r := range secret {
			text.WriteString(escapedRune(t, r))
		}
		m := (&Detectors{}).Masker(cred.SecretString(secret))
		out, _ := m.Bytes([]byte("\x00" + text.String() + "\x01"))
		if !strings.Contains(string(out), "[masked:credential]") || len(secret) > 3 && string(out) != "\x00[masked:credential]\x01" {
			t.Fatalf("secret %q as %q became %q", secret, text.String(), out)
		}
	})
}

func escapedRune(t *rapid.T, r rune) string {
	raw := string(r)
	switch rapid.IntRange(0, 4).Draw(t, "how") {
	case 0:
		return strings.ReplaceAll(url.QueryEscape(raw), "+", "%20")
	case 1:
		var all strings.Builder
		for i := range len(raw) {
			fmt.Fprintf(&all, "%%25%02x", raw[i])
		}
		return all.String()
	case 2:
		if r <= 0xffff {
			return fmt.Sprintf(`\u%04x`, r)
		}
	case 3:
		quoted, _ := json.Marshal(raw)
		return strings.Trim(string(quoted[1:len(quoted)-1]), "")
	}
	if r == '\\' || r == '%' { // alone beside what follows these would be another escape
		return `\u` + fmt.Sprintf("%04X", r)
	}
	return raw
}

// Short secrets are masked as they are, but not looked for in encodings.
func TestKnownShort(t *testing.T) {
	for _, secret := range []string{"x", "ab", "abc", "pass", "12345"} {
		m := knowing(t, secret)
		if got := masked(t, m, ">"+secret); got != ">[masked:credential]" {
			t.Errorf("%q: %q", secret, got)
		}
		if text := base64.StdEncoding.EncodeToString([]byte(secret)); masked(t, m, text) != text && len(secret) > 2 {
			t.Errorf("%q in base64 was masked", secret)
		}
	}
	if got := masked(t, knowing(t, ""), "text"); got != "text" {
		t.Errorf("an empty secret: %q", got)
	}
}

// A secret of several lines is found with its lines indented or ended otherwise.
func TestKnownLines(t *testing.T) {
	secret := rep("abcdefg1", 40) + "\n" + rep("hijklmn2", 40) + "\nend"
	got := masked(t, knowing(t, secret), "key:\n  "+strings.ReplaceAll(secret, "\n", "\r\n  "))
	if want := "key:\n  [masked:credential]\r\n  [masked:credential]\r\n  end"; got != want {
		t.Errorf("got %q", got)
	}
}

// Where a detector finds the same token, it is known to be ours.
func TestKnownComesFirst(t *testing.T) {
	token := "gh" + "s_" + "123456_" + jwtSample()
	m := compile(t, Secrets, PII).Masker(cred.SecretString(token), cred.SecretString("unseen"))
	_, counts := m.Bytes([]byte("https://x-access-token:" + token + "@github.com/o/r"))
	if diff := cmp.Diff([]Count{{Credential, 1}}, counts); diff != "" {
		t.Error(diff)
	}
}

// Masking leaves JSON that can be parsed, wherever in a string the secret stands.
func TestJSONStaysJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringN(1, 12, -1).Draw(t, "secret")
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{secret, "\n", "\\", `"`, "a", "/", "é", "\u2028", "gh" + "p_" + rep(mixed, 36), "jane@example.com"}), 1, 12).Draw(t, "parts")
		text, _ := json.Marshal(map[string]string{"k": strings.Join(parts, "")})
		if secret == "" || strings.ContainsAny(secret, `k":{}`) && len(secret) < 4 {
			return // it would be found in the frame around the string
		}
		d := compileRapid(t, Secrets, PII)
		out, _ := d.Masker(cred.SecretString(secret)).Bytes(text)
		if !json.Valid(out) {
			t.Fatalf("secret %q: %s became %s", secret, text, out)
		}
	})
}

func compileRapid(t *rapid.T, names ...string) *Detectors {
	d, err := Compile(names)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
