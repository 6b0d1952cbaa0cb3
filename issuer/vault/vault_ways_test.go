package vault_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/vault"
)

func (w *world) testCheck(t *testing.T) {
	if err := newIssuer(t, w.config()).Check(t.Context()); err != nil {
		t.Errorf("what the documentation says is enough: %v", err)
	}
	for name, tc := range map[string]struct {
		policies []string
		role     peers.Data
		want     []string
	}{
		"not periodic":    {[]string{"daypass"}, peers.Data{"token_period": "0", "token_ttl": "1h"}, []string{"auth/jwt/role/", "token_period"}},
		"with a maximum":  {[]string{"daypass"}, peers.Data{"token_explicit_max_ttl": "2h"}, []string{"token_explicit_max_ttl=0"}},
		"limited uses":    {[]string{"daypass"}, peers.Data{"token_num_uses": 10}, []string{"token_num_uses=0"}},
		"batch":           {[]string{"daypass"}, peers.Data{"token_period": "0", "token_ttl": "1h", "token_type": "batch"}, []string{"token_type=service"}},
		"no rights":       {nil, nil, []string{`update on "auth/token/create"`, `read on "database/creds/ro"`, `list and sudo on "sys/leases/lookup/database/creds/ro/": without it its leases can't be listed`, `read and sudo on "sys/leases": `}},
		"several at once": {nil, peers.Data{"token_period": "0"}, []string{"token_period", `"sys/leases/revoke"`}},
	} {
		t.Run(name, func(t *testing.T) {
			role := strings.ReplaceAll(name, " ", "-")
			w.JWTRole(t, "jwt", role, "vault", tc.policies, tc.role)
			cfg := w.config()
			cfg.JWT.Role = role
			err := newIssuer(t, cfg).Check(t.Context())
			if cred.KindOf(err) != cred.Invalid {
				t.Fatalf("Check: %v, want kind invalid", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(cred.PublicText(err), want) {
					t.Errorf("Check says %q, which lacks %q", cred.PublicText(err), want)
				}
			}
		})
	}
}

func (w *world) testRefusals(t *testing.T) {
	iss := newIssuer(t, w.config())
	at := func(path string, params map[string]string) issuer.Spec {
		s := spec(in(time.Minute))
		s.Target.Credential.Path, s.Target.Credential.Params = path, params
		return s
	}
	for name, tc := range map[string]struct {
		spec      issuer.Spec
		kind      cred.Kind
		notIssued bool
	}{
		"no such role":    {at("database/creds/nosuch", nil), cred.Invalid, false},
		"no right":        {at("sys/raw/x", nil), cred.Unavailable, true},
		"no such secret":  {at("secret/nosuch", nil), cred.Invalid, false},
		"path goes up":    {at("database/../sys/seal", nil), cred.Invalid, false},
		"path has query":  {at("database/creds/ro?x", nil), cred.Invalid, false},
		"method":          {at(path, map[string]string{"method": "list"}), cred.Invalid, false},
		"nothing is left": {spec(in(500 * time.Millisecond)), cred.Invalid, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := iss.Issue(t.Context(), tc.spec)
			if cred.KindOf(err) != tc.kind || errors.Is(err, issuer.ErrNotIssued) != tc.notIssued {
				t.Errorf("%v, want kind %v, not issued %v", err, tc.kind, tc.notIssued)
			}
		})
	}
	t.Run("type does not fit", func(t *testing.T) {
		s := spec(in(time.Minute))
		s.Target.Credential.Type = cred.AWS
		if _, _, err := iss.Issue(t.Context(), s); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%v, want kind invalid", err)
		}
	})
	t.Run("sign-in", func(t *testing.T) {
		cfg := w.config()
		cfg.JWT.Audience = "somebody-else"
		_, err := newIssuer(t, cfg).Reserve(t.Context(), spec(in(time.Minute)))
		if cred.KindOf(err) != cred.Unavailable || !errors.Is(err, issuer.ErrNotIssued) || !strings.Contains(cred.PublicText(err), "sign in") {
			t.Errorf("%v, want unavailable, not issued, sign in", err)
		}
	})
	if err := iss.Revoke(t.Context(), cred.Lease{Handle: "something else"}); cred.KindOf(err) != cred.Invalid {
		t.Errorf("Revoke of what is no handle: %v", err)
	}
	w.wantAlive(t, 0)
}

func reveal(c cred.Credential) map[string]string {
	out := map[string]string{}
	for name, v := range c.Fields {
		out[name] = v.RevealString()
	}
	return out
}

func (w *world) testKV(t *testing.T) {
	w.KV(t, "apps/x", peers.Data{"token": "one", "n": 7, "list": []string{"a", "b"}})
	w.KV(t, "apps/x", peers.Data{"token": "two"})
	iss := newIssuer(t, w.config())
	for name, tc := range map[string]struct {
		source cred.CredentialSource
		kind   cred.CredentialType
		want   map[string]string
	}{
		"as people write it": {cred.CredentialSource{Path: "secret/apps/x"}, cred.KV, map[string]string{"token": "two"}},
		"as the API does":    {cred.CredentialSource{Path: "secret/data/apps/x"}, cred.KV, map[string]string{"token": "two"}},
		"an older version": {
			cred.CredentialSource{Path: "secret/apps/x", Params: map[string]string{"engine": "kv2", "version": "1"}},
			cred.KV,
			map[string]string{"token": "one", "n": "7", "list": "a\nb"},
		},
		"as a bearer": {cred.CredentialSource{Path: "secret/apps/x", Type: cred.Bearer}, cred.Bearer, map[string]string{"token": "two"}},
		"renamed": {
			cred.CredentialSource{Path: "secret/apps/x", Fields: map[string]string{"key": "token"}},
			cred.KV,
			map[string]string{"key": "two"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(in(time.Minute))
			s.Target.Credential = tc.source
			handle, err := iss.Reserve(t.Context(), s)
			if err != nil || handle != "" {
				t.Errorf("Reserve: %q, %v, want nothing", handle, err)
			}
			c, l, err := iss.Issue(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, reveal(c)); diff != "" || c.Type != tc.kind {
				t.Errorf("type %q, fields (-want +got):\n%s", c.Type, diff)
			}
			if l.Revocable || l.Handle != "" || !strings.Contains(l.Note, "nothing ends it") || !l.NotAfter.Equal(s.NotAfter) || !c.NotAfter.IsZero() {
				t.Errorf("the lease of a value that stands: %+v", l)
			}
			if err := iss.Revoke(t.Context(), l); cred.KindOf(err) != cred.Invalid {
				t.Errorf("Revoke: %v, want kind invalid", err)
			}
		})
	}
}

// A pinned version stays what it is, or is refused: never another version in its place.
func (w *world) testKVPinned(t *testing.T) {
	for _, value := range []string{"one", "two", "three", "four"} {
		w.KV(t, "apps/pinned", peers.Data{"token": value})
	}
	w.Write(t, "secret/delete/apps/pinned", peers.Data{"versions": []int{2}})
	w.Write(t, "secret/destroy/apps/pinned", peers.Data{"versions": []int{3}})
	iss := newIssuer(t, w.config())
	for version, want := range map[string]string{"1": "one", "4": "four", "": "four", "2": "", "3": "", "5": "", "0": "", "-1": "", "latest": ""} {
		s := spec(in(time.Minute))
		s.Target.Credential = cred.CredentialSource{Path: "secret/apps/pinned", Params: map[string]string{"version": version}}
		c, _, err := iss.Issue(t.Context(), s)
		if got := c.Fields["token"].RevealString(); got != want || (err != nil) != (want == "") {
			t.Errorf("version %q: %q, %v, want %q", version, got, err, want)
		}
		if err != nil && cred.KindOf(err) != cred.Invalid {
			t.Errorf("version %q: %v, want kind invalid", version, err)
		}
	}
}

// A static role's password stands until Vault rotates it: no lease.
func (w *world) testStaticRole(t *testing.T) {
	if err := w.pg.Exec(t.Context(), `create role standing with login password 'x'`); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.pg.Exec(t.Context(), `drop role standing`) }()
	w.Write(t, "database/static-roles/standing", peers.Data{"db_name": "pg", "username": "standing", "rotation_period": "24h"})
	s := spec(in(time.Minute))
	s.Target.Credential.Path = "database/static-creds/standing"
	c, l := w.issue(t, newIssuer(t, w.config()), s)
	if c.Type != cred.UserPassword || l.Revocable || l.Handle != "" || !strings.Contains(l.Note, "rotates it next") || !strings.Contains(l.Note, "later than was asked") {
		t.Errorf("type %q, lease %+v", c.Type, l)
	}
	if left := time.Until(l.NotAfter); left < 24*time.Hour-time.Minute || left > 24*time.Hour || !c.NotAfter.Equal(l.NotAfter) {
		t.Errorf("of a password that is rotated in 24 h the lease says that it lives %v, the credential ends %v", left, c.NotAfter)
	}
	if diff := cmp.Diff([]string{"password", "username"}, slices.Sorted(maps.Keys(c.Fields))); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func (w *world) testAppRole(t *testing.T) {
	roleID, secretID := w.AppRole(t, "approle", "daypass", []string{"daypass"}, nil)
	cfg := w.config()
	cfg.JWT, cfg.AppRole = nil, &vault.AppRole{RoleID: roleID, SecretID: cred.SecretString(secretID)}
	w.issueAndRevoke(t, newIssuer(t, cfg))
}

// Vault's Kubernetes method asks a cluster, which there is none of here: in its place stands the JWT
// method, whose login is the same request (role and jwt). A token of the file that was replaced is
// taken at the next sign-in.
func (w *world) testKubernetes(t *testing.T) {
	w.Write(t, "sys/auth/kubernetes", peers.Data{"type": "jwt"})
	w.JWTAuth(t, "kubernetes", peers.Data{"jwks_url": w.jwks, "bound_issuer": "https://daypass.example.com"})
	w.JWTRole(t, "kubernetes", "daypass", "vault", []string{"daypass"}, nil)
	file := filepath.Join(t.TempDir(), "token")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cfg := w.config()
	cfg.JWT, cfg.Kubernetes = nil, &vault.Kubernetes{Role: "daypass", Path: file}
	iss := newIssuer(t, cfg)
	for name, content := range map[string]string{"empty": " \n", "too long": strings.Repeat("a", 100<<10), "not a token": "x"} {
		write(content)
		if _, err := iss.Reserve(t.Context(), spec(in(time.Minute))); !errors.Is(err, issuer.ErrNotIssued) {
			t.Errorf("a file that is %s: %v", name, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := iss.Reserve(t.Context(), spec(in(time.Minute))); !errors.Is(err, issuer.ErrNotIssued) || !strings.Contains(cred.PublicText(err), "service account") {
		t.Errorf("no file: %v", err)
	}
	token, err := w.identity(t.Context(), "vault")
	if err != nil {
		t.Fatal(err)
	}
	write(token.RevealString() + "\n")
	w.issueAndRevoke(t, iss)
}

func (w *world) issueAndRevoke(t *testing.T, iss *vault.Issuer) {
	t.Helper()
	if err := iss.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	c, l := w.issue(t, iss, spec(in(time.Minute)))
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Errorf("Revoke: %v", err)
	}
	if err := w.works(t.Context(), c); err == nil {
		t.Error("the user can sign in after Revoke")
	}
}

// The file's token is taken as it is; when it has ended, the file is read again.
func (w *world) testTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string, mode os.FileMode) {
		if err := errors.Join(os.WriteFile(file, []byte(token+"\n"), mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := w.config()
	cfg.JWT, cfg.TokenFile = nil, &vault.TokenFile{Path: file}
	iss := newIssuer(t, cfg)
	first := w.Token(t, []string{"daypass"}, peers.Data{"period": "1h"})
	write(first, 0o640)
	if _, err := iss.Reserve(t.Context(), spec(in(time.Minute))); !errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("took a token from a file that its group can read: %v", err)
	}
	write(first, 0o600)
	w.issueAndRevoke(t, iss)
	w.Write(t, "auth/token/revoke", peers.Data{"token": first})
	write(w.Token(t, []string{"daypass"}, peers.Data{"period": "1h"}), 0o600)
	w.issueAndRevoke(t, iss)
}

// With a token role that makes orphans, leases outlive the issuer's own token.
func (w *world) testOrphans(t *testing.T) {
	w.Write(t, "auth/token/roles/orphans", peers.Data{"orphan": true, "allowed_policies": []string{"daypass"}})
	w.JWTRole(t, "jwt", "ending", "vault", []string{"daypass"}, peers.Data{"token_period": "0", "token_ttl": "1m"})
	cfg := w.config()
	cfg.JWT.Role, cfg.TokenRole = "ending", "orphans"
	iss := newIssuer(t, cfg)
	if err := iss.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	notAfter := in(time.Hour)
	c, l := w.issue(t, iss, spec(notAfter))
	if l.NotAfter.Before(notAfter.Add(-2 * time.Second)) {
		t.Errorf("the lease ends %v too early", notAfter.Sub(l.NotAfter))
	}
	w.Write(t, "sys/leases/revoke-prefix/auth/jwt/login", peers.Data{"sync": true})
	if err := w.works(t.Context(), c); err != nil {
		t.Errorf("the lease ended with the issuer's token: %v", err)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
	w.wantAlive(t, 0)
}

// A parent that ends bounds the lease, and the lease says so.
func (w *world) testBoundedByParent(t *testing.T) {
	w.JWTRole(t, "jwt", "short", "vault", []string{"daypass"}, peers.Data{"token_period": "0", "token_ttl": "20s", "token_max_ttl": "20s"})
	cfg := w.config()
	cfg.JWT.Role = "short"
	iss := newIssuer(t, cfg)
	_, l := w.issue(t, iss, spec(in(time.Hour)))
	if left := time.Until(l.NotAfter); left > 20*time.Second || left < 5*time.Second {
		t.Errorf("under a parent of 20 s the lease says that it lives %v", left)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
	w.wantAlive(t, 0)
}
