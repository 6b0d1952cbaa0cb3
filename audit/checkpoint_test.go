package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

var someRoot = tlog.Hash(sha256.Sum256([]byte("root")))

func TestCheckpointRoundTrip(t *testing.T) {
	s, err := GenerateSigner("daypass.example.com/audit")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Checkpoint(12345, someRoot)
	if err != nil {
		t.Fatal(err)
	}
	const body = "daypass.example.com/audit\n12345\nSBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=\n\n\u2014 daypass.example.com/audit "
	if !strings.HasPrefix(string(signed), body) || strings.Count(string(signed), "\n") != 5 {
		t.Errorf("note %q", signed)
	}
	got, err := OpenCheckpoint(signed, s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	want := Checkpoint{Origin: "daypass.example.com/audit", Size: 12345, Root: someRoot, Note: signed, VerifierKey: s.VerifierKey()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Checkpoint(1<<63, someRoot); cred.KindOf(err) != cred.Invalid {
		t.Errorf("a size of 2^63: %v", err)
	}
}

// Ed25519 is deterministic, so the whole note is: old checkpoints must go on to verify.
func TestCheckpointBytes(t *testing.T) {
	s := fixedSigner(t, "log.example.com")
	signed, err := s.Checkpoint(7, someRoot)
	if err != nil {
		t.Fatal(err)
	}
	const wantKey = "log.example.com+4a66a772+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
	const want = "log.example.com\n7\nSBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=\n\n" +
		"\u2014 log.example.com SmancjjQJQ0fAHD2KsEzE3sOXG4ZXRnPVKKINs6Yk90/N0SKd8mY1SScLob5hGexGK6fzGdwlX2f8hi3LOBgCAQW/gg=\n"
	if string(signed) != want || s.VerifierKey() != wantKey {
		t.Errorf("key %q, note %q", s.VerifierKey(), signed)
	}
}

func TestOpenCheckpointIgnoresWitnesses(t *testing.T) {
	l := newTestLog(t, sampleEvents(3)...)
	witness, err := GenerateSigner("witness.example.com")
	if err != nil {
		t.Fatal(err)
	}
	end := l.trailer()
	both := cosign(t, end.Note, l.signer, witness)
	if c, err := OpenCheckpoint(both, end.VerifierKey); err != nil || c.Size != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = tryExport(FormatJSONL, Trailer{Note: both, VerifierKey: end.VerifierKey})
	refused(t, err, "signature alone")
}

func cosign(t *testing.T, signed []byte, by, witness *Signer) []byte {
	t.Helper()
	v, err := note.NewVerifier(by.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(n, witness.note)
	if err != nil {
		t.Fatal(err)
	}
	return both
}

// signText signs any text with a log's key, as a faulty log might.
func signText(t *testing.T, s *Signer, text string) []byte {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, s.note)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestOpenCheckpointRefuses(t *testing.T) {
	s, _ := GenerateSigner("log.example.com")
	other, _ := GenerateSigner("log.example.com")
	good, err := s.Checkpoint(7, someRoot)
	if err != nil {
		t.Fatal(err)
	}
	key, root := s.VerifierKey(), someRoot.String()
	upper := strings.Replace(key, keyName(key), "log.example.com+"+strings.ToUpper(keyName(key)[len("log.example.com+"):]), 1)
	text := func(format string, args ...any) string { return string(signText(t, s, fmt.Sprintf(format, args...))) }
	for name, c := range map[string]struct{ signed, key, words string }{
		"another key":      {string(good), other.VerifierKey(), "not signed by the key"},
		"no key":           {string(good), "", "verifier key"},
		"key with hash":    {string(good), key[:len(key)-4] + "AAAA", "verifier key"},
		"key in two lines": {string(good), key[:len(key)-4] + "\n" + key[len(key)-4:], "verifier key"},
		"no note":          {"", key, "not a signed note"},
		"changed size":     {strings.Replace(string(good), "\n7\n", "\n8\n", 1), key, "does not verify"},
		"changed origin":   {strings.Replace(string(good), "log.example", "lag.example", 1), key, "does not verify"},
		"other origin":     {text("lag.example.com\n7\n%s\n", root), key, "origin"},
		"extension line":   {text("log.example.com\n7\n%s\nmore\n", root), key, "text"},
		"no root":          {text("log.example.com\n7\n"), key, "text"},
		"short root":       {text("log.example.com\n7\nAAAA\n"), key, "text"},
		"loose root":       {text("log.example.com\n7\n%s\n", strings.Replace(root, "I=", "J=", 1)), key, "text"},
		"padded size":      {text("log.example.com\n07\n%s\n", root), key, "text"},
		"size with sign":   {text("log.example.com\n+7\n%s\n", root), key, "text"},
		"size of 2^63":     {text("log.example.com\n9223372036854775808\n%s\n", root), key, "text"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := OpenCheckpoint([]byte(c.signed), c.key)
			refused(t, err, c.words)
		})
	}
	if upper != key { // eight digits without a letter are rare but happen
		_, err := OpenCheckpoint(good, upper)
		refused(t, err, "verifier key")
	}
}

func TestSignerEncode(t *testing.T) {
	s, err := GenerateSigner("log.example.com")
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSigner(s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if again.Origin() != "log.example.com" || again.VerifierKey() != s.VerifierKey() {
		t.Errorf("origin %q, key %q", again.Origin(), again.VerifierKey())
	}
	a, _ := s.Checkpoint(1, someRoot)
	b, _ := again.Checkpoint(1, someRoot)
	if string(a) != string(b) {
		t.Error("the two sign differently")
	}
}

// Half of all keys have a plus sign in their base64, which also parts the fields of a key.
func TestSignerWithPlusInItsKey(t *testing.T) {
	for range 1000 {
		s, err := GenerateSigner("log.example.com")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(s.Encode().RevealString(), "+") == 4 || strings.Count(s.VerifierKey(), "+") == 2 {
			continue
		}
		signed, err := s.Checkpoint(1, someRoot)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCheckpoint(signed, s.VerifierKey()); err != nil {
			t.Error(err)
		}
		if name := keyName(s.VerifierKey()); name != s.VerifierKey()[:len("log.example.com+01234567")] {
			t.Errorf("the key %s is called %s", s.VerifierKey(), name)
		}
		return
	}
	t.Fatal("no such key in a thousand")
}

func TestSignerDoesNotPrintItsKey(t *testing.T) {
	s, _ := GenerateSigner("log.example.com")
	private := s.Encode().RevealString()
	seed := strings.SplitN(private, "+", 5)[4]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{s, *s} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, seed[:20]) || strings.Contains(out, "PRIVATE") {
				t.Errorf("%s prints %s", verb, out)
			}
		}
	}
	_, err := ParseSigner(cred.SecretString(private[:len(private)-2]))
	if err == nil || strings.Contains(err.Error(), seed[:20]) {
		t.Errorf("error %v", err)
	}
}

func TestSignerRefuses(t *testing.T) {
	for _, origin := range []string{"", "two words", "a+b", "a\nb", "a\x7fb", "caf\u00e9", strings.Repeat("x", 129)} {
		_, err := GenerateSigner(origin)
		refused(t, err, "origin")
	}
	if _, err := GenerateSigner(strings.Repeat("x", 128)); err != nil {
		t.Error(err)
	}
	private, public, err := note.GenerateKey(rand.Reader, "caf\u00e9")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "PRIVATE+KEY", public, private} {
		_, err := ParseSigner(cred.SecretString(text))
		refused(t, err)
	}
}
