package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred/token/dpop"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// What proof prints is a proof by the key, for what it was asked for.
func TestProofIsTaken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.jwk")
	key, err := dpop.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := key.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Create(file, encoded); err != nil {
		t.Fatal(err)
	}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("a.grant.token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nonces := dpop.NewNonces(time.Now, 0)
	const url = "https://proxy.example.com/t/x"
	for _, c := range []struct {
		name  string
		args  []string
		want  dpop.Want
		nonce string
	}{
		{"least", nil, dpop.Want{Method: "GET", URL: url}, ""},
		{"method", []string{"--method", "POST"}, dpop.Want{Method: "POST", URL: url}, ""},
		{"token", []string{"--token-file", tokenFile}, dpop.Want{Method: "GET", URL: url, AccessToken: "a.grant.token"}, ""},
		{"token from standard input", []string{"--token-file", "-"}, dpop.Want{Method: "GET", URL: url, AccessToken: "from.standard.input"}, ""},
		{"nonce", []string{"--nonce", nonces.Current()}, dpop.Want{Method: "GET", URL: url}, nonces.Current()},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"proof", "--dpop", file, "--url", url + "?q=1"}, c.args...)
		if code := run(args, strings.NewReader("from.standard.input\n"), &stdout, &stderr); code != 0 || stderr.Len() > 0 {
			t.Fatalf("%s: exit %d, %s", c.name, code, &stderr)
		}
		c.want.Thumbprint = key.Thumbprint()
		o := dpop.Options{}
		if c.nonce != "" {
			o.Nonces = nonces
		}
		// The verifier is older than the proof, as every one is outside of tests.
		at := time.Now()
		o.Now = func() time.Time { return at.Add(-time.Second) }
		got, err := dpop.New(o).Verify(strings.TrimSuffix(stdout.String(), "\n"), c.want)
		if err != nil || got.Nonce != c.nonce {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{"proof", "--dpop", file, "--url", "proxy.example.com/t"}, strings.NewReader(""), &stdout, &stderr); code != 1 || stdout.Len() > 0 ||
		!strings.Contains(stderr.String(), "an http or https URL") {
		t.Errorf("a URL that is none: exit %d, %q, %q", code, &stdout, &stderr)
	}
}
