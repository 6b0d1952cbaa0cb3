package vault_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/vault"
)

// The engines that the tests' Vault does not have: which paths each asks, and what names its root. The
// answers are those of their API pages.
func TestRootKinds(t *testing.T) {
	const ldapBefore, ldapAfter = `{"data":{"binddn":"cn=vault","last_bind_password_rotation":"2026-01-01T00:00:00Z"}}`, `{"data":{"binddn":"cn=vault","last_bind_password_rotation":"2026-02-02T00:00:00Z"}}`
	for name, tc := range map[string]struct {
		path, mountType string // no type: Vault won't say
		config          string // the path that is read
		before, after   string // what it answers
		answer          string // to the rotation
		old, new        string
		verify          string // the path that is minted from by itself
	}{
		"ldap":         {path: "ldap/rotate-root", config: "ldap/config", before: ldapBefore, after: ldapAfter, old: "2026-01-01T00:00:00Z", new: "2026-02-02T00:00:00Z"},
		"openldap":     {path: "corp/dir/rotate-root", mountType: "openldap", config: "corp/dir/config", before: ldapBefore, after: ldapAfter, old: "2026-01-01T00:00:00Z", new: "2026-02-02T00:00:00Z"},
		"auth ldap":    {path: "auth/ldap/config/rotate-root", config: "auth/ldap/config", before: `{"data":{"binddn":"cn=vault"}}`, after: `{"data":{"binddn":"cn=vault"}}`},
		"ldap role":    {path: "ldap/rotate-role/ada", config: "ldap/static-role/ada", before: `{"data":{"username":"ada","last_vault_rotation":"one"}}`, after: `{"data":{"username":"ada","last_vault_rotation":"two"}}`, old: "one", new: "two", verify: "ldap/static-cred/ada"},
		"auth aws":     {path: "auth/aws/config/rotate-root", mountType: "aws", config: "auth/aws/config/client", before: `{"data":{"access_key":"AKIAONE"}}`, after: `{"data":{"access_key":"AKIATWO"}}`, answer: `{"data":{"access_key":"AKIATWO"}}`, old: "AKIAONE", new: "AKIATWO"},
		"gcp":          {path: "gcp/config/rotate-root", mountType: "gcp", config: "gcp/config", before: `{"data":{"ttl":0}}`, after: `{"data":{"ttl":0}}`, answer: `{"data":{"private_key_id":"key2"}}`, new: "key2"},
		"external aws": {path: "cloud/config/rotate-root", mountType: "vault-plugin-secrets-aws", config: "cloud/config/root", before: `{"data":{"access_key":"AKIAONE"}}`, after: `{"data":{"access_key":"AKIATWO"}}`, old: "AKIAONE", new: "AKIATWO"},
		"database":     {path: "db/rotate-root/x", config: "db/config/x", before: `{"data":{"plugin_name":"p","connection_details":{"username":"u"}}}`, after: `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			if tc.mountType != "" {
				mount := strings.TrimSuffix(strings.TrimSuffix(tc.path, "rotate-root"), "config/")
				f.handle("GET sys/internal/ui/mounts/"+tc.path, answer(`{"data":{"path":"`+mount+`","type":"`+tc.mountType+`"}}`))
			}
			f.handle("GET "+tc.config, answer(tc.before))
			f.handle("PUT "+tc.path, func(w http.ResponseWriter, r *http.Request) {
				f.handle("GET "+tc.config, answer(tc.after))
				answer(tc.answer)(w, r)
			})
			f.handle("PUT db/reset/x", answer(``))
			probed := 0
			cfg := vault.RootConfig{Path: tc.path, Verify: vault.VerifyConfig{Probe: func(_ context.Context, c cred.Credential) error {
				probed++
				if tc.verify != "" && c.Fields["password"].RevealString() != "pw" {
					t.Errorf("probed with %d fields", len(c.Fields))
				}
				return nil
			}}}
			if tc.verify != "" {
				f.handle("GET "+tc.verify, answer(`{"data":{"username":"ada","password":"pw","ttl":900,"rotation_period":86400}}`))
			}
			x, err := newIssuer(t, f.config()).RootRotator(cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := issuer.Rotation{ID: "rot-1", Attempt: 1, Began: time.Now()}
			if r, err = x.Prepare(t.Context(), r); err != nil || r.Old != tc.old {
				t.Fatalf("Prepare: old %q, %v, want %q", r.Old, err, tc.old)
			}
			if r, err = x.Switch(t.Context(), r); err != nil || r.New != tc.new {
				t.Fatalf("Switch: new %q, %v, want %q", r.New, err, tc.new)
			}
			if err := x.Verify(t.Context(), r); err != nil || probed != 1 {
				t.Errorf("Verify: %v, probed %d times", err, probed)
			}
			if n := f.count("PUT " + tc.path); n != 1 {
				t.Errorf("rotated %d times", n)
			}
			if err := x.Undo(t.Context(), r); cred.KindOf(err) != cred.Invalid {
				t.Errorf("Undo after Switch: %v", err)
			}
			again := r
			again.Attempt, again.Notes = 2, nil
			if _, err := x.Switch(t.Context(), again); err != nil {
				t.Errorf("a second try: %v", err)
			}
			want := 1 // the name tells that it is done
			if tc.old == "" {
				want = 2
			}
			if n := f.count("PUT " + tc.path); n != want {
				t.Errorf("after a second try it was rotated %d times, want %d", n, want)
			}
		})
	}
}

// Azure: Vault takes the new password into use by itself, some time later.
func TestAzureAdoptsLater(t *testing.T) {
	f := newFake(t, false)
	const config = `{"data":{"client_id":"c","tenant_id":"t","root_password_expiration_date":"`
	f.handle("GET azure/config", answer(config+`2027-01-01T00:00:00Z"}}`))
	f.handle("PUT azure/rotate-root", answer(``))
	x, err := newIssuer(t, f.config()).RootRotator(vault.RootConfig{Path: "azure/rotate-root", Verify: vault.VerifyConfig{Probe: func(context.Context, cred.Credential) error { return nil }}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = x.Switch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	err = x.Verify(t.Context(), r)
	if wait, ok := cred.RetryAfter(err); cred.KindOf(err) != cred.Pending || !ok || wait == 0 {
		t.Errorf("Verify before it is adopted: %v, want kind pending and when to come back", err)
	}
	f.handle("GET azure/config", answer(config+`2027-06-01T00:00:00Z"}}`))
	if err := x.Verify(t.Context(), r); err != nil {
		t.Errorf("Verify once it is adopted: %v", err)
	}
	if _, err := x.Retire(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// What Vault's health and replication say is found, and forbids what can't go well.
func TestRotationHealth(t *testing.T) {
	const off = `{"data":{"dr":{"mode":"disabled"},"performance":{"mode":"disabled"}}}`
	for name, tc := range map[string]struct {
		health      int
		replication http.HandlerFunc
		finding     string
		ok          bool
		text        string
	}{
		"active":              {200, answer(off), "vault", true, "active"},
		"standby":             {429, answer(off), "vault", true, "standby"},
		"performance standby": {473, answer(off), "vault", true, "standby"},
		"disaster recovery":   {472, answer(off), "vault", false, "disaster recovery"},
		"sealed":              {503, answer(off), "vault", false, "sealed"},
		"not initialised":     {501, answer(off), "vault", false, "not initialised"},
		"no replication":      {200, answer(off), "replication", true, "none"},
		"primary":             {200, answer(`{"data":{"dr":{"mode":"primary","state":"running"},"performance":{"mode":"disabled"}}}`), "replication", true, `primary of the replication "dr"`},
		"secondary":           {200, answer(`{"data":{"performance":{"mode":"secondary","state":"stream-wals"}}}`), "replication", true, "stream-wals"},
		"behind":              {200, answer(`{"data":{"performance":{"mode":"secondary","state":"merkle-sync"}}}`), "replication", false, "merkle-sync"},
		"dr secondary":        {200, answer(`{"data":{"dr":{"mode":"secondary","state":"stream-wals"}}}`), "replication", false, "secondary"},
		"OpenBao":             {200, status(404, `{"errors":[]}`), "vault", true, "active"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.handle("GET sys/health", status(tc.health, fmt.Sprintf(`{"initialized":true,"standby":%v}`, tc.health != 200)))
			f.handle("GET sys/replication/status", tc.replication)
			x, err := newIssuer(t, f.config()).RootRotator(vault.RootConfig{Path: "ldap/rotate-root", Verify: vault.VerifyConfig{Path: "ldap/creds/x"}})
			if err != nil {
				t.Fatal(err)
			}
			if got := finding(t, x, tc.finding); got.OK != tc.ok || !strings.Contains(got.Text, tc.text) {
				t.Errorf("%+v, want %v and %q", got, tc.ok, tc.text)
			}
		})
	}
}

// A database's root that no longer works after a lost answer is not rotated over: Vault could not do it,
// and somebody has to look.
func TestLostRotationOfABrokenRoot(t *testing.T) {
	f := newFake(t, false)
	var broken atomic.Bool
	f.handle("PUT db/reset/x", func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			status(500, `{"errors":["password authentication failed for postgresql://root:hush@db"]}`)(w, r)
		}
	})
	f.handle("PUT db/rotate-root/x", status(500, `{"errors":["failed to update user"]}`))
	x, err := newIssuer(t, f.config()).RootRotator(vault.RootConfig{Path: "db/rotate-root/x", Verify: vault.VerifyConfig{Probe: func(context.Context, cred.Credential) error { return nil }}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = x.Switch(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1})
	if cred.KindOf(err) != cred.Unavailable || strings.Contains(err.Error(), "failed to update user") {
		t.Errorf("the first try: %v, want kind unavailable without the source's words", err)
	}
	broken.Store(true)
	_, err = x.Switch(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 2})
	if cred.KindOf(err) != cred.Unavailable || strings.Contains(err.Error(), "hush") {
		t.Errorf("the second try: %v, want kind unavailable without what a URL holds", err)
	}
	if n := f.count("PUT db/rotate-root/x"); n != 1 {
		t.Errorf("rotated %d times, want once", n)
	}
}

func TestRootConfigRefused(t *testing.T) {
	iss := newIssuer(t, newFake(t, false).config())
	probe := vault.VerifyConfig{Probe: func(context.Context, cred.Credential) error { return nil }}
	for name, cfg := range map[string]vault.RootConfig{
		"no path":         {Verify: probe},
		"no rotation":     {Path: "database/creds/x", Verify: probe},
		"no mount":        {Path: "rotate-root", Verify: probe},
		"dotted":          {Path: "a/../rotate-root", Verify: probe},
		"no proof":        {Path: "database/rotate-root/x"},
		"bad verify path": {Path: "database/rotate-root/x", Verify: vault.VerifyConfig{Path: "a//b"}},
	} {
		if _, err := iss.RootRotator(cfg); cred.KindOf(err) != cred.Invalid || err == nil {
			t.Errorf("%s: %v, want kind invalid", name, err)
		}
	}
	if _, err := iss.RootRotator(vault.RootConfig{Path: "database/rotate-role/x"}); err != nil {
		t.Errorf("a static role has its own path to read: %v", err)
	}
}

// A credential that somebody has seen while the new key is tried is an alarm, and not taken for a key that
// AWS does not know yet.
func TestVerifyPassesAlarmOn(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET aws/config/root", answer(`{"data":{"access_key":"AKIANEW"}}`))
	f.handle("GET aws/creds/r", answer(`{"wrap_info":{"token":"wt","ttl":30,"creation_path":"aws/creds/r"}}`))
	f.handle("PUT sys/wrapping/lookup", status(400, `{"errors":["wrapping token is not valid or does not exist"]}`))
	x, err := newIssuer(t, f.config()).RootRotator(vault.RootConfig{
		Path: "aws/config/rotate-root", Engine: "aws", Verify: vault.VerifyConfig{Path: "aws/creds/r", Params: map[string]string{"wrap": "30s"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = x.Verify(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1, Began: time.Now(), Old: "AKIAOLD"})
	if _, alarming := issuer.Alarm(err); !alarming {
		t.Errorf("Verify: %v, want an alarm", err)
	}
}
