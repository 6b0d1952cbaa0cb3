package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// A rule that demands a key: without one nothing is granted; with one the token is of no use to whoever
// finds it. Everything goes through the commands that people use.
func TestBoundGrant(t *testing.T) {
	var seen atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		if r.Header.Get("DPoP") != "" || r.Header.Get("Authorization") != "Bearer "+upstreamKey {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(upstream.Close)
	c := newCluster(t)
	c.configure(fmt.Sprintf(`
issuers:
  - { name: keys, static: { secrets: { api: { token: "env:UPSTREAM_KEY" } } } }
targets:
  - { name: api, credential: { issuer: keys, path: api }, http: { upstream: "%s", allow_private: true } }
rules:
  - { name: jobs, who: principal.provider == "ci", may: [{ target: api }], ttl: 10m, bind: [dpop] }
`, upstream.URL))
	c.startBroker("UPSTREAM_KEY=" + upstreamKey)
	c.startProxy()
	if _, err := c.as(c.job()).Exchange(t.Context(), cred.Request{Target: "api"}); reasonOf(err) != "BINDING_REQUIRED" {
		t.Fatalf("without a key: %v", err)
	}

	dir := t.TempDir()
	key, idToken, tokenFile := filepath.Join(dir, "key.jwk"), filepath.Join(dir, "id"), filepath.Join(dir, "token")
	write(t, idToken, c.job())
	tok := c.daypass("exchange", "api", "--id-token-file", idToken, "--dpop", key, "-o", "token")
	write(t, tokenFile, tok)
	proof := func() string {
		return c.daypass("proof", "--dpop", key, "--url", c.proxyURL+"/api/x", "--token-file", tokenFile)
	}
	used := proof()
	stolen := filepath.Join(dir, "thief.jwk")
	write(t, idToken, c.job())
	c.daypass("exchange", "api", "--id-token-file", idToken, "--dpop", stolen, "-o", "token")
	thiefs := c.daypass("proof", "--dpop", stolen, "--url", c.proxyURL+"/api/x", "--token-file", tokenFile)
	for i, step := range []struct {
		name, scheme, proof string
		status              int
		rule                string
	}{
		{"the holder", "DPoP", used, 200, ""},
		{"the token alone", "Bearer", "", 401, "proof_missing"},
		{"what was sent, again", "DPoP", used, 401, "dpop_proof_replayed"},
		{"a thief's key", "DPoP", thiefs, 401, "dpop_key_mismatch"},
		{"the holder again", "DPoP", proof(), 200, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.proxyURL+"/api/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", step.scheme+" "+tok)
		if step.proof != "" {
			req.Header.Set("DPoP", step.proof)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != step.status {
			t.Fatalf("%d, %s: status %d, want %d", i, step.name, resp.StatusCode, step.status)
		}
		if step.rule != "" {
			eventually(t, "the refusal in the broker's log", func() error { return c.refusedUse(step.rule) })
		}
	}
	if seen.Load() != 2 {
		t.Errorf("the upstream was asked %d times, want twice", seen.Load())
	}
}

// daypass runs the command line as its user would, and returns what it prints.
func (c *cluster) daypass(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), program(c.t, "daypass"), args...)
	cmd.Env = append(os.Environ(), "DAYPASS_BROKER="+c.url, "DAYPASS_CA_FILE="+c.path("pki/ca.pem"))
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			c.t.Logf("%s", exit.Stderr)
		}
		c.t.Fatalf("daypass %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// refusedUse looks for a use that was refused by a rule, with the grant that it was tried under.
func (c *cluster) refusedUse(rule string) error {
	for _, e := range c.export() {
		if e.Kind == audit.UseRefused && e.Use.Rule == rule && e.Grant != "" {
			return nil
		}
	}
	return fmt.Errorf("no use was refused by %s", rule)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func reasonOf(err error) string {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e.Reason
	}
	return ""
}
