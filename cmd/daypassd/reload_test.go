package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// TestReloadedTargetsAreListed holds that the leases of a target which a reload has added are compared with
// Vault's list as those of the others are.
func TestReloadedTargetsAreListed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	_, err := initialize(dir, initOptions{URL: "https://daypass.example.com", Listen: "127.0.0.1:0", Proxy: "edge-1", ProxyListen: "127.0.0.1:0"})
	must(t, err)
	path := filepath.Join(dir, "daypass.yaml")
	write := func(roles ...string) {
		var targets, may []string
		for _, r := range roles {
			targets = append(targets, fmt.Sprintf("  - { name: %s, credential: { issuer: vault, path: database/creds/%[1]s } }", r))
			may = append(may, "{ target: "+r+" }")
		}
		must(t, os.WriteFile(path, []byte(fmt.Sprintf(`
server: { url: "https://daypass.example.com", tls: { certificate: pki/server.pem, private_key: pki/server.key, client_ca: pki/ca.pem } }
identity_providers:
  - { name: github-actions, preset: github-actions, audiences: ["https://daypass.example.com"] }
issuers:
  - { name: vault, vault: { address: "http://127.0.0.1:1", auth: { jwt: { role: daypass } } } }
targets:
%s
rules:
  - { name: ci, who: principal.provider == "github-actions", may: [%s], ttl: 15m }
`, strings.Join(targets, "\n"), strings.Join(may, ", "))), 0o600))
	}
	write("old")
	s, err := loadSettings(path)
	must(t, err)
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	r, err := open(t.Context(), s, logger)
	must(t, err)
	t.Cleanup(r.close)
	wantNamed := func(role string, want bool) {
		t.Helper()
		handle := fmt.Sprintf(`{"v":1,"accessor":"a","path":"database/creds/%s","engine":"database","lease":"database/creds/%[1]s/1"}`, role)
		if name := r.issuers["vault"].(issuer.Lister).NameOf(cred.Lease{Handle: handle}); (name != "") != want {
			t.Errorf("a lease of %s has the name %q, want one %v", role, name, want)
		}
	}
	wantNamed("old", true)
	wantNamed("new", false)
	reload := newReloader(path, s, r.broker, r.issuers, logger)
	write("old", "new")
	reload.reload(t.Context())
	wantNamed("old", true)
	wantNamed("new", true)
	must(t, os.WriteFile(path, []byte("targets: 7"), 0o600)) // which changes nothing
	reload.reload(t.Context())
	wantNamed("new", true)
}
