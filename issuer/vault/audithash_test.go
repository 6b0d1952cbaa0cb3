package vault_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
)

// The hash in the lease's note is the one that Vault's own log has for what it gave out, and the entry
// there names our grant and lease.
func (w *world) testAuditHash(t *testing.T) {
	w.KV(t, "apps/hashed", peers.Data{"token": "of the store"})
	file := filepath.Join(t.TempDir(), "audit.log")
	w.Write(t, "sys/audit/file", peers.Data{"type": "file", "options": map[string]string{"file_path": file}})
	defer func() { _, _ = w.Client.Logical().DeleteWithContext(t.Context(), "sys/audit/file") }()
	cfg := w.config()
	cfg.AuditDevice = "file"
	iss := newIssuer(t, cfg)
	kv := spec(in(time.Minute))
	kv.Target.Credential.Path = "secret/apps/hashed"
	s := spec(in(time.Minute))
	_, leased := w.issue(t, iss, s)
	_, standing, err := iss.Issue(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		lease  cred.Lease
		path   string
		values func(data map[string]any) any
	}{
		"with a lease": {leased, path, func(d map[string]any) any { return d["password"] }},
		"of a store":   {standing, "secret/data/apps/hashed", func(d map[string]any) any { return d["data"].(map[string]any)["token"] }},
	} {
		_, hash, ok := strings.Cut(tc.lease.Note, " is hmac-sha256:")
		if !ok {
			t.Errorf("%s: the note is %q", name, tc.lease.Note)
			continue
		}
		entry := findAudited(t, file, tc.path)
		if got := tc.values(entry.Response.Data); got != "hmac-sha256:"+hash {
			t.Errorf("%s: the note says %q, Vault's log %v", name, hash, got)
		}
		if name == "with a lease" && (entry.Auth.Metadata["daypass_lease"] != string(s.ID) || entry.Auth.Metadata["daypass_grant"] != string(s.Grant)) {
			t.Errorf("Vault's log names %v, not %s", entry.Auth.Metadata, s.ID)
		}
	}
	if err := iss.Revoke(t.Context(), leased); err != nil {
		t.Error(err)
	}
	w.withoutHash(t, iss, cfg.AuditDevice)
}

// withoutHash wants a lease all the same where Vault does not tell the hash.
func (w *world) withoutHash(t *testing.T, iss issuer.Issuer, device string) {
	t.Helper()
	if _, err := w.Client.Logical().DeleteWithContext(t.Context(), "sys/audit/"+device); err != nil {
		t.Fatal(err)
	}
	_, l, err := iss.Issue(t.Context(), spec(in(time.Minute)))
	if err != nil || strings.Contains(l.Note, "hmac") {
		t.Fatalf("without the device: %v, note %q", err, l.Note)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
}

// audited is what matters of an entry of Vault's audit log.
type audited struct {
	Type     string
	Request  struct{ Path string }
	Auth     struct{ Metadata map[string]string }
	Response struct{ Data map[string]any }
}

func findAudited(t *testing.T, file, path string) audited {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		var entry audited
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Type == "response" && entry.Request.Path == path {
			return entry
		}
	}
	t.Fatalf("Vault's log has no answer of %s", path)
	return audited{}
}
