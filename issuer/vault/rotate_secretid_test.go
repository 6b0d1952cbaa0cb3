package vault_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/issuer/vault"
)

// secretIDPolicy is what docs/rotation/vault.md says that the rotation of the secret ID needs.
const secretIDPolicy = `
path "auth/approle/role/broker/role-id" { capabilities = ["read"] }
path "auth/approle/role/broker/secret-id" { capabilities = ["update", "list"] }
path "auth/approle/role/broker/secret-id/lookup" { capabilities = ["update"] }
path "auth/approle/role/broker/secret-id-accessor/lookup" { capabilities = ["update"] }
path "auth/approle/role/broker/secret-id-accessor/destroy" { capabilities = ["update"] }
`

// roleWorld is a world whose broker signs in by AppRole, with a secret ID that lies in a file.
type roleWorld struct {
	*world
	roleID, file string
}

const rolePath = "auth/approle/role/broker"

func newRoleWorld(t *testing.T) *roleWorld {
	w := &roleWorld{world: newWorld(t), file: filepath.Join(t.TempDir(), "secret_id")}
	w.Policy(t, "secretid", secretIDPolicy)
	w.roleID, _ = w.AppRole(t, "approle", "broker", []string{"daypass", "secretid"}, nil)
	w.fresh(t)
	return w
}

// fresh leaves the role with one secret ID, which lies in the file.
func (w *roleWorld) fresh(t *testing.T) {
	t.Helper()
	for _, accessor := range w.accessors(t) {
		w.Write(t, rolePath+"/secret-id-accessor/destroy", peers.Data{"secret_id_accessor": accessor})
	}
	made := w.Write(t, rolePath+"/secret-id", nil)
	if err := keyfile.Replace(w.file, cred.SecretString(made.Data["secret_id"].(string)+"\n")); err != nil {
		t.Fatal(err)
	}
}

func (w *roleWorld) list(ctx context.Context) (accessors []string, err error) {
	s, err := w.Client.Logical().ListWithContext(ctx, rolePath+"/secret-id")
	if err != nil || s == nil {
		return nil, err
	}
	for _, key := range s.Data["keys"].([]any) {
		accessors = append(accessors, key.(string))
	}
	return accessors, nil
}

func (w *roleWorld) accessors(t *testing.T) []string {
	t.Helper()
	accessors, err := w.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return accessors
}

func (w *roleWorld) inFile() (string, error) {
	content, err := keyfile.Read(w.file)
	return strings.TrimSpace(content.RevealString()), err
}

// login signs in with what lies in the file.
func (w *roleWorld) login(ctx context.Context) error {
	secret, err := w.inFile()
	if err != nil {
		return err
	}
	made, err := w.Client.Logical().WriteWithContext(ctx, "auth/approle/login", peers.Data{"role_id": w.roleID, "secret_id": secret})
	if err != nil {
		return err
	}
	return w.Client.Auth().Token().RevokeAccessorWithContext(ctx, made.Auth.Accessor)
}

func (w *roleWorld) issuer(t *testing.T, baseURL string) *vault.Issuer {
	t.Helper()
	cfg := w.config()
	cfg.Address, cfg.JWT = baseURL, nil
	cfg.AppRole = &vault.AppRole{RoleID: w.roleID, SecretIDFile: w.file}
	return newIssuer(t, cfg)
}

func rotatorOf(t *testing.T, iss *vault.Issuer, cfg vault.SecretIDConfig) issuer.Rotator {
	t.Helper()
	x, err := iss.SecretIDRotator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (w *roleWorld) broker() vault.SecretIDConfig {
	return vault.SecretIDConfig{RoleName: "broker", Verify: vault.VerifyConfig{Path: path, Probe: w.works}}
}

func TestRotateSecretID(t *testing.T) {
	t.Parallel()
	w := newRoleWorld(t)
	t.Run("contract", w.testSecretIDContract)
	t.Run("leases live on", w.testLeasesLiveOn)
	t.Run("findings", w.testSecretIDFindings)
	t.Run("somebody else", w.testSomebodyElse)
	t.Run("file in use", w.testSecretIDInUse)
	t.Run("lost answer", w.testLostSecretID)
	t.Run("somebody between", w.testSeenSecretID)
	t.Run("refused sign-in", w.testRefusedSignIn)
	w.wantAlive(t, 0)
	entries, err := os.ReadDir(filepath.Dir(w.file))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file lie %v, %v", entries, err)
	}
}

func (w *roleWorld) testSecretIDContract(t *testing.T) {
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New: func(t *testing.T, baseURL string) issuer.Rotator {
			return rotatorOf(t, w.issuer(t, baseURL), w.broker())
		},
		Source: w.URL, Fresh: w.fresh, Works: w.login,
		Root: func(context.Context) (string, error) { return w.inFile() },
		Alive: func(ctx context.Context) (int, error) {
			accessors, err := w.list(ctx)
			return len(accessors), err
		},
		Secrets: func(ctx context.Context) []string {
			secret, err := w.inFile()
			accessors, err2 := w.list(ctx)
			if err != nil || err2 != nil {
				t.Error(err, err2)
			}
			return append(accessors, secret)
		},
	})
}

// The issuer's token was got with the old secret ID. It, and the lease that hangs on it, outlive that.
func (w *roleWorld) testLeasesLiveOn(t *testing.T) {
	w.fresh(t)
	iss := w.issuer(t, w.URL)
	c, l := w.issue(t, iss, spec(in(10*time.Minute)))
	x := rotatorOf(t, iss, w.broker())
	r := issuer.Rotation{ID: "rot-live", Attempt: 1}
	var err error
	for _, act := range []func(context.Context, issuer.Rotation) (issuer.Rotation, error){x.Prepare, x.Switch, x.Retire} {
		if r, err = act(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.works(t.Context(), c); err != nil {
		t.Errorf("the lease died with the old secret ID: %v", err)
	}
	if err := iss.Revoke(t.Context(), l); err != nil { // with the token that was got with the old one
		t.Error(err)
	}
	w.Write(t, "sys/leases/revoke-prefix/auth/approle/login", peers.Data{"sync": true})
	w.issueAndRevoke(t, iss) // signs in anew, with the new one
}

func (w *roleWorld) testSecretIDFindings(t *testing.T) {
	w.fresh(t)
	want := func(x issuer.Rotator, name string, ok bool, text string) {
		t.Helper()
		if f := finding(t, x, name); f.OK != ok || !strings.Contains(f.Text, text) {
			t.Errorf("%s: OK %v, %q, want %v and %q", name, f.OK, f.Text, ok, text)
		}
	}
	good := rotatorOf(t, w.issuer(t, w.URL), w.broker())
	want(good, "others", true, "0 other secret IDs")
	w.Write(t, rolePath+"/secret-id", nil)
	want(good, "others", true, "1 other secret IDs")
	w.AppRole(t, "approle", "other", nil, nil)
	want(rotatorOf(t, w.issuer(t, w.URL), vault.SecretIDConfig{RoleName: "other"}), "rights", false, `lacks list and update on "auth/approle/role/other/secret-id"`)
	w.Policy(t, "secretid", secretIDPolicy+strings.ReplaceAll(secretIDPolicy, "role/broker", "role/other"))
	want(rotatorOf(t, w.issuer(t, w.URL), vault.SecretIDConfig{RoleName: "other"}), "role", false, "not the one that the broker signs in as")
	w.Policy(t, "secretid", secretIDPolicy)
	made := w.Write(t, rolePath+"/secret-id", peers.Data{"num_uses": 20, "ttl": "1h"})
	if err := keyfile.Replace(w.file, cred.SecretString(made.Data["secret_id"].(string))); err != nil {
		t.Fatal(err)
	}
	want(good, "secret ID", false, "set secret_id_num_uses=0")
	for _, cfg := range []vault.SecretIDConfig{{}, {RoleName: "broker", File: "/elsewhere"}, {RoleName: "a/../b"}} {
		if _, err := w.issuer(t, w.URL).SecretIDRotator(cfg); cred.KindOf(err) != cred.Invalid || err == nil {
			t.Errorf("%+v: %v, want kind invalid", cfg, err)
		}
	}
	if _, err := newIssuer(t, w.config()).SecretIDRotator(w.broker()); cred.KindOf(err) != cred.Invalid || err == nil {
		t.Errorf("an issuer without AppRole: %v, want kind invalid", err)
	}
	if _, err := vault.New(vault.Config{Address: w.URL, AppRole: &vault.AppRole{RoleID: "r", SecretID: cred.SecretString("s"), SecretIDFile: w.file}}); cred.KindOf(err) != cred.Invalid || err == nil {
		t.Errorf("a secret ID twice: %v, want kind invalid", err)
	}
}

// What somebody else writes into the file, or destroys, is never overwritten, nor taken for ours.
func (w *roleWorld) testSomebodyElse(t *testing.T) {
	w.fresh(t)
	x := rotatorOf(t, w.issuer(t, w.URL), w.broker())
	r, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-else", Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	before, err := w.inFile()
	if err != nil {
		t.Fatal(err)
	}
	put := func(content string) {
		t.Helper()
		if err := keyfile.Replace(w.file, cred.SecretString(content)); err != nil {
			t.Fatal(err)
		}
	}
	theirs := w.Write(t, rolePath+"/secret-id", nil).Data["secret_id"].(string)
	put(theirs)
	if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Switch: %v, want kind conflict", err)
	}
	if err := x.Verify(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Verify: %v, want kind conflict", err)
	}
	if now, err := w.inFile(); now != theirs || err != nil {
		t.Errorf("their secret ID was overwritten: %v", err)
	}
	put(before)
	if r, err = x.Switch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	w.Write(t, rolePath+"/secret-id-accessor/destroy", peers.Data{"secret_id_accessor": r.Notes["new_accessor"].RevealString()})
	if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Retire with the new one gone: %v, want kind conflict", err)
	}
	if !slices.Contains(w.accessors(t), r.Notes["old_accessor"].RevealString()) {
		t.Error("the old secret ID was destroyed although the new one is gone")
	}
	if err := x.Verify(t.Context(), r); cred.KindOf(err) != cred.Invalid {
		t.Errorf("Verify with the new one gone: %v, want kind invalid", err)
	}
	if err := x.Undo(t.Context(), r); err != nil {
		t.Error(err)
	}
	if now, err := w.inFile(); now != before || err != nil {
		t.Errorf("Undo did not put the old secret ID back: %v", err)
	}
}

// What the file holds is in use: as long as that is not the new secret ID, the old one is kept. Where
// somebody has removed the file the new one comes back, which nobody else could put there.
func (w *roleWorld) testSecretIDInUse(t *testing.T) {
	third := w.Write(t, rolePath+"/secret-id", nil).Data["secret_id"].(string)
	put := func(content string) func(issuer.Rotation) error {
		return func(issuer.Rotation) error { return keyfile.Replace(w.file, cred.SecretString(content)) }
	}
	for name, c := range map[string]struct {
		change func(r issuer.Rotation) error
		want   cred.Kind
		says   string
	}{
		"rolled back": {func(r issuer.Rotation) error { return keyfile.Replace(w.file, r.Notes["old_secret_id"]) }, cred.Conflict, "holds the old secret ID"},
		"a third one": {put(third), cred.Conflict, "holds another secret ID"},
		"blank":       {put("\n"), cred.Unavailable, "can't be read"},
		"for all":     {func(issuer.Rotation) error { return os.Chmod(w.file, 0o644) }, cred.Unavailable, "can't be read"},
		"gone":        {func(issuer.Rotation) error { return os.Remove(w.file) }, cred.Unavailable, "puts the new one there again"},
	} {
		t.Run(name, func(t *testing.T) {
			w.fresh(t)
			x := rotatorOf(t, w.issuer(t, w.URL), w.broker())
			r, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-in-use", Attempt: 1})
			if err != nil {
				t.Fatal(err)
			}
			if r, err = x.Switch(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if err := c.change(r); err != nil {
				t.Fatal(err)
			}
			if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != c.want || !strings.Contains(cred.PublicText(err), c.says) {
				t.Errorf("Retire: %v, want kind %v and %q", err, c.want, c.says)
			}
			if !slices.Contains(w.accessors(t), r.Notes["old_accessor"].RevealString()) {
				t.Error("the old secret ID was destroyed")
			}
			if name != "gone" { // somebody mends it as the error says: by removing what they wrote
				if err := os.Remove(w.file); err != nil {
					t.Fatal(err)
				}
				if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
					t.Errorf("Retire without the file: %v, want kind unavailable", err)
				}
			}
			for range 2 { // twice, as after a crash
				if _, err := x.Retire(t.Context(), r); err != nil {
					t.Errorf("Retire after it was mended: %v", err)
				}
			}
			if now, err := w.inFile(); err != nil || now != r.Notes["new_secret_id"].RevealString() || w.login(t.Context()) != nil {
				t.Errorf("the new secret ID is not in use: %v", err)
			}
			if slices.Contains(w.accessors(t), r.Notes["old_accessor"].RevealString()) {
				t.Error("the old secret ID lives")
			}
			if err := keyfile.Replace(w.file, r.Notes["old_secret_id"]); err != nil {
				t.Fatal(err)
			}
			if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Conflict {
				t.Errorf("Retire with the old secret ID back in the file after it was destroyed: %v, want kind conflict", err)
			}
		})
	}
}

// A secret ID whose answer was lost is destroyed by the next try, not only at the end.
func (w *roleWorld) testLostSecretID(t *testing.T) {
	w.fresh(t)
	front := issuertest.NewFront(t, w.URL)
	x := rotatorOf(t, w.issuer(t, front.URL), w.broker())
	r := issuer.Rotation{ID: "rot-lost", Attempt: 1}
	if _, err := x.Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	front.Break(issuertest.DoneLost, 2) // the first looks up the secret ID in use
	if _, err := x.Prepare(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
		t.Fatalf("a lost answer: %v, want kind unavailable", err)
	}
	front.Break(issuertest.None, 0)
	if n := len(w.accessors(t)); n != 2 {
		t.Fatalf("%d secret IDs after a lost answer, want 2", n)
	}
	r.Attempt = 2
	r, err := x.Prepare(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(w.accessors(t)); n != 2 {
		t.Errorf("%d secret IDs after the next try, want 2", n)
	}
	w.Write(t, rolePath+"/secret-id", peers.Data{"metadata": `{"daypass_rotation":"rot-lost"}`}) // one that came late
	w.Write(t, rolePath+"/secret-id", peers.Data{"metadata": `{"daypass_rotation":"another"}`})
	if r, err = x.Switch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err = x.Retire(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n := len(w.accessors(t)); n != 2 {
		t.Errorf("%d secret IDs after Retire, want the new one and one of another rotation", n)
	}
}

// A new secret ID that somebody took out of its wrapping on the way is an alarm, and destroyed by the next try.
func (w *roleWorld) testSeenSecretID(t *testing.T) {
	w.fresh(t)
	to, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	front := issuertest.NewFront(t, w.URL)
	x := rotatorOf(t, w.issuer(t, front.URL), w.broker())
	front.Answer(1, at("sys/wrapping/unwrap"), w.thief(t, to))
	r := issuer.Rotation{ID: "rot-seen", Attempt: 1}
	_, err = x.Prepare(t.Context(), r)
	if _, alarming := issuer.Alarm(err); !alarming || cred.KindOf(err) != cred.Unavailable {
		t.Errorf("Prepare: %v, want an alarm of kind unavailable", err)
	}
	seen := w.accessors(t)
	r.Attempt = 2
	if r, err = x.Prepare(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if left := w.accessors(t); len(seen) != 2 || len(left) != 2 || slices.Equal(seen, left) {
		t.Errorf("the secret IDs were %q, and are %q", seen, left)
	}
	if err := x.Undo(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// A new secret ID that can't sign in is destroyed again, and the rotation goes no further.
func (w *roleWorld) testRefusedSignIn(t *testing.T) {
	w.fresh(t)
	iss := w.issuer(t, w.URL)
	if err := iss.Check(t.Context()); err != nil { // signs in
		t.Fatal(err)
	}
	w.Write(t, rolePath, peers.Data{"token_policies": []string{"daypass", "secretid"}, "token_period": "1h", "secret_id_bound_cidrs": []string{"192.0.2.0/24"}})
	_, err := rotatorOf(t, iss, w.broker()).Prepare(t.Context(), issuer.Rotation{ID: "rot-refused", Attempt: 1})
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Invalid || e.Reason != "SIGN_IN_REFUSED" {
		t.Errorf("Prepare: %v", err)
	}
	if n := len(w.accessors(t)); n != 1 {
		t.Errorf("%d secret IDs are left, want 1", n)
	}
}
