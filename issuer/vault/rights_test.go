package vault_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer/vault"
)

// capable answers what the token may do: all that is needed, but at some paths nothing.
func capable(lacking ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Paths []string }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		data := map[string]any{}
		for _, path := range asked.Paths {
			data[path] = []string{"read", "update", "list", "sudo"}
			if slices.Contains(lacking, path) {
				data[path] = []string{"deny"}
			}
		}
		b, _ := json.Marshal(map[string]any{"data": data})
		_, _ = w.Write(b)
	}
}

// kept lets a handler read the body that the fake has read.
func (f *fake) kept(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		_, body, _ := strings.Cut(f.seen[len(f.seen)-1], " sys/capabilities-self ")
		f.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(body))
		h(w, r)
	}
}

// Check asks for a right where it serves something, and says what the lack of it means in one sentence.
func TestCheckAsksWhereNeeded(t *testing.T) {
	health := `{"initialized":true,"version":%q%s}`
	bare := []string{"auth/token/create", "auth/token/revoke-accessor", "sys/leases/revoke", "sys/leases/lookup", "auth/token/renew-self"}
	database := append(slices.Clone(bare), "db/creds/r", "sys/leases/lookup/db/creds/r/", "sys/leases/renew")
	for name, tc := range map[string]struct {
		engine, health string
		change         func(*vault.Config)
		signs          bool
		want           []string // that are asked about
		lacking        []string
		says           []string
	}{
		"key-value":          {engine: "kv", want: append(slices.Clone(bare), "db/creds/r")},
		"database":           {engine: "database", want: append(slices.Clone(database), "sys/leases")},
		"no renewal":         {engine: "kv", want: append(slices.Clone(bare), "db/creds/r"), lacking: []string{"auth/token/renew-self"}, says: []string{`lacks update on "auth/token/renew-self": without it the broker's token ends`}},
		"ssh":                {engine: "ssh", want: append(slices.Clone(bare), "db/creds/r", "sys/leases/lookup/db/creds/r/")},
		"Vault 1.21":         {engine: "database", health: fmt.Sprintf(health, "1.21.0", `,"enterprise":false`), want: append(slices.Clone(database), "sys/leases")},
		"Vault 1.7":          {engine: "database", health: fmt.Sprintf(health, "1.7.3", ""), want: database},
		"OpenBao 2.1":        {engine: "database", health: fmt.Sprintf(health, "2.1.0", ""), want: append(slices.Clone(database), "sys/leases")},
		"no version":         {engine: "database", health: fmt.Sprintf(health, "", ""), want: append(slices.Clone(database), "sys/leases")},
		"audit device":       {engine: "kv", change: func(c *vault.Config) { c.AuditDevice = "file" }, want: append(slices.Clone(bare), "db/creds/r", "sys/audit-hash/file"), lacking: []string{"sys/audit-hash/file"}, says: []string{`lacks update on "sys/audit-hash/file": without it leases do not say`}},
		"transit":            {engine: "kv", signs: true, want: append(slices.Clone(bare), "db/creds/r", "transit/sign/app/sha2-256"), lacking: []string{"transit/sign/app/sha2-256"}, says: []string{`lacks update on "transit/sign/app/sha2-256": without it nothing can be signed`}},
		"leases":             {engine: "database", want: append(slices.Clone(database), "sys/leases"), lacking: []string{"sys/leases", "sys/leases/renew", "sys/leases/lookup"}, says: []string{`lacks read and sudo on "sys/leases": without it a lease`, `lacks update on "sys/leases/renew": without it credentials end`, `lacks update on "sys/leases/lookup": without it`}},
		"namespace, OpenBao": {engine: "kv", health: fmt.Sprintf(health, "2.1.0", ""), change: func(c *vault.Config) { c.Namespace = "team" }, want: append(slices.Clone(bare), "db/creds/r")},
		"namespace, Vault":   {engine: "kv", health: fmt.Sprintf(health, "1.21.0", `,"enterprise":false`), change: func(c *vault.Config) { c.Namespace = "team" }, want: append(slices.Clone(bare), "db/creds/r"), says: []string{"this Vault is not Enterprise and has none"}},
		"namespace, Enterp.": {engine: "kv", health: fmt.Sprintf(health, "1.21.0+ent", `,"enterprise":true`), change: func(c *vault.Config) { c.Namespace = "team" }, want: append(slices.Clone(bare), "db/creds/r")},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.handle("GET sys/internal/ui/mounts/db/creds/r", answer(fmt.Sprintf(`{"data":{"path":"db/","type":%q}}`, tc.engine)))
			f.handle("PUT sys/capabilities-self", f.kept(capable(tc.lacking...)))
			if tc.health != "" {
				f.handle("GET sys/health", answer(tc.health))
			}
			cfg := f.config()
			cfg.Paths = []string{"db/creds/r"}
			if tc.change != nil {
				tc.change(&cfg)
			}
			iss := newIssuer(t, cfg)
			for range 2 {
				if !tc.signs {
					continue
				}
				if _, err := iss.TransitSigner("", "app"); err != nil {
					t.Fatal(err)
				}
			}
			err := iss.Check(t.Context())
			if cred.KindOf(err) != map[bool]cred.Kind{true: cred.Invalid}[len(tc.says) > 0] {
				t.Fatalf("Check: %v, want it to say %q", err, tc.says)
			}
			for _, want := range tc.says {
				if strings.Count(cred.PublicText(err), want) != 1 {
					t.Errorf("Check says %q, which lacks %q", cred.PublicText(err), want)
				}
			}
			if err != nil && strings.Count(cred.PublicText(err), "; ") != len(tc.says)-1 {
				t.Errorf("Check says %q, want %d sentences", cred.PublicText(err), len(tc.says))
			}
			f.wantAsked(t, tc.want)
		})
	}
}

// wantAsked compares the paths whose capabilities were asked for.
func (f *fake) wantAsked(t *testing.T, want []string) {
	t.Helper()
	for n, line := range f.seen {
		if line == "GET sys/health?perfstandbyok=true&standbyok=true" && f.heads[n].Get("X-Vault-Namespace") != "" {
			t.Error("sys/health was asked for in a namespace")
		}
		_, body, ok := strings.Cut(line, "PUT sys/capabilities-self ")
		if !ok {
			continue
		}
		var asked struct{ Paths []string }
		if err := json.Unmarshal([]byte(body), &asked); err != nil {
			t.Fatal(err)
		}
		slices.Sort(asked.Paths)
		want = slices.Sorted(slices.Values(want))
		if !slices.Equal(asked.Paths, want) {
			t.Errorf("asked about %q, want %q", asked.Paths, want)
		}
		return
	}
	t.Error("nothing was asked about")
}
