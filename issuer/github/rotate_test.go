package github

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// person does at GitHub what the rotation asks for, as soon as it does.
type person struct {
	issuer.Rotator
	t *testing.T
	w *keyWorld
}

func (p person) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	next, err := p.Rotator.Prepare(ctx, r)
	if cred.KindOf(err) == cred.Pending {
		p.w.generate(p.t)
	}
	return next, err
}

func (p person) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	next, err := p.Rotator.Retire(ctx, r)
	if cred.KindOf(err) == cred.Pending {
		p.w.delete(p.w.inUse(p.t))
	}
	return next, err
}

// Undo: who has generated a key that is not needed deletes it.
func (p person) Undo(ctx context.Context, r issuer.Rotation) error {
	err := p.Rotator.Undo(ctx, r)
	if err == nil {
		p.w.delete(p.w.inUse(p.t))
		_ = os.Remove(p.w.next.Path)
	}
	return err
}

// keyWorld is a GitHub App whose key is to be replaced.
type keyWorld struct {
	*fake
	key, next KeyFile
	spare     []*rsa.PrivateKey // generated beforehand: that takes long
}

func newKeyWorld(t testing.TB) *keyWorld {
	dir := t.TempDir()
	w := &keyWorld{fake: newFake(t, ""), key: KeyFile{filepath.Join(dir, "app.pem")}, next: KeyFile{filepath.Join(dir, "next.pem")}}
	w.spare = []*rsa.PrivateKey{testKey(), newKey(2048)}
	w.fresh(t)
	return w
}

// fresh gives the app the first key and no other.
func (w *keyWorld) fresh(t testing.TB) {
	_ = os.Remove(w.next.Path)
	writePEM(t, w.key.Path, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(w.spare[0])})
	w.set(func() { w.fake.key, w.second = &w.spare[0].PublicKey, nil })
}

// generate makes the second key, and puts it where the rotation wants it.
func (w *keyWorld) generate(t testing.TB) {
	writePEM(t, w.next.Path, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(w.spare[1])})
	w.set(func() { w.second = &w.spare[1].PublicKey })
}

func (w *keyWorld) inUse(t testing.TB) appKey {
	key, err := readKey(w.key)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// delete leaves the app one key alone.
func (w *keyWorld) delete(except appKey) {
	w.set(func() { w.fake.key, w.second = &except.key.PublicKey, nil })
}

func (w *keyWorld) rotator(t testing.TB, url string) issuer.Rotator {
	t.Helper()
	cfg := KeyRotatorConfig{Config: config(t, url), Key: w.key, Next: w.next, Verify: cred.CredentialSource{
		Params: map[string]string{"owner": "octo-org", "repositories": "api", "permissions": "contents:read"},
	}}
	r, err := NewKeyRotator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestKeyRotatorContract(t *testing.T) {
	w := newKeyWorld(t)
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New:    func(t *testing.T, url string) issuer.Rotator { return person{w.rotator(t, url), t, w} },
		Source: w.url,
		Fresh:  func(t *testing.T) { w.fresh(t) },
		Root:   func(context.Context) (string, error) { return w.inUse(t).name(), nil },
		Works: func(ctx context.Context) error {
			cfg := config(t, w.url)
			cfg.Signer = w.key
			i := open(t, cfg)
			return i.Check(ctx)
		},
		// The second key is the person's until the rotation ends.
		Alive: func(context.Context) (int, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.second != nil {
				return 2, nil
			}
			return 1, nil
		},
		Secrets: func(context.Context) []string { return []string{"PRIVATE KEY"} },
	})
	// The token whose answer the suite has lost is the one that nobody can revoke.
	if n := w.alive(); n > 1 {
		t.Errorf("%d tokens of Verify live on, want the lost one alone", n)
	}
}

func TestKeyRotationTellsWhatToDo(t *testing.T) {
	w := newKeyWorld(t)
	x := w.rotator(t, w.url)
	ctx := t.Context()
	r := issuer.Rotation{ID: "rot-1", Attempt: 1, Began: time.Now()}
	wantTodo := func(err error, parts ...string) {
		t.Helper()
		if !issuer.WaitsForPerson(err) {
			t.Fatalf("%v, want that it waits for a person", err)
		}
		for _, part := range parts {
			if !strings.Contains(cred.PublicText(err), part) {
				t.Errorf("%q lacks %q", cred.PublicText(err), part)
			}
		}
	}
	settings := "https://github.com/organizations/octo-org/settings/apps/daypass"
	_, err := x.Prepare(ctx, r)
	wantTodo(err, "generate a second private key", settings, w.next.Path)

	// Half a file, the key in use, and a key that GitHub does not know are all not it.
	_ = os.WriteFile(w.next.Path, []byte("-----BEGIN RSA"), 0o600)
	_, err = x.Prepare(ctx, r)
	wantTodo(err, w.next.Path)
	writePEM(t, w.next.Path, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(w.spare[0])})
	_, err = x.Prepare(ctx, r)
	wantTodo(err, w.next.Path)
	w.generate(t)
	w.set(func() { w.second = nil })
	_, err = x.Prepare(ctx, r)
	wantTodo(err, "does not take", w.next.Path)

	w.generate(t)
	if r, err = x.Prepare(ctx, r); err != nil || r.Old == r.New || !strings.HasPrefix(r.New, "SHA256:") {
		t.Fatalf("Prepare: %v, %q to %q", err, r.Old, r.New)
	}
	if r, err = x.Switch(ctx, r); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(w.key.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
	if err := x.Verify(ctx, r); err != nil {
		t.Fatal(err)
	}
	_, err = x.Retire(ctx, r)
	wantTodo(err, "delete the private key "+r.Old, settings)

	// GitHub that takes no key at all proves nothing of the old one.
	w.set(func() { w.fake.key, w.second = &newKey(2048).PublicKey, nil })
	if _, err = x.Retire(ctx, r); cred.KindOf(err) != cred.Invalid {
		t.Errorf("Retire while the new key is refused: %v, want kind invalid", err)
	}
	w.delete(w.inUse(t))
	if r, err = x.Retire(ctx, r); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.next.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the next key's file is still there: %v", err)
	}
	if err := x.Undo(ctx, r); cred.KindOf(err) != cred.Invalid {
		t.Errorf("Undo after the old key was deleted: %v, want kind invalid", err)
	}
}

// The clock of the broker is off: a refused JWT says nothing of the key then.
func TestKeyRotationWithASkewedClock(t *testing.T) {
	w := newKeyWorld(t)
	w.skew = -5 * time.Minute
	x := w.rotator(t, w.url)
	w.generate(t)
	r, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = x.Switch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := x.Verify(t.Context(), r); err != nil {
		t.Error(err)
	}
	if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Pending {
		t.Errorf("Retire: %v, want kind pending: the old key works", err)
	}
}

func TestKeyRotatorFindsAChangedKey(t *testing.T) {
	w := newKeyWorld(t)
	x := w.rotator(t, w.url)
	w.generate(t)
	r, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Verify(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Verify with the old key in place: %v, want kind conflict", err)
	}
	if _, err := x.Switch(t.Context(), issuer.Rotation{ID: "rot-1"}); cred.KindOf(err) != cred.Internal {
		t.Errorf("Switch without notes: %v", err)
	}
}

func TestNewKeyRotatorRefuses(t *testing.T) {
	w := newKeyWorld(t)
	for name, change := range map[string]func(*KeyRotatorConfig){
		"no key":    func(c *KeyRotatorConfig) { c.Key = KeyFile{} },
		"no next":   func(c *KeyRotatorConfig) { c.Next = KeyFile{} },
		"same file": func(c *KeyRotatorConfig) { c.Next = KeyFile{filepath.Dir(c.Key.Path) + "/./app.pem"} },
		"verify":    func(c *KeyRotatorConfig) { c.Verify.Params = map[string]string{"owner": "octo-org"} },
		"address":   func(c *KeyRotatorConfig) { c.BaseURL = "http://github.example.com" },
	} {
		cfg := KeyRotatorConfig{Config: config(t, w.url), Key: w.key, Next: w.next}
		change(&cfg)
		if _, err := NewKeyRotator(cfg); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// GitHub shows keys by the fingerprint that openssl makes of them.
func TestSettingsPage(t *testing.T) {
	for want, a := range map[string]appAnswer{
		"https://github.com/settings/apps/x":                 {Slug: "x", URL: "https://github.com/apps/x"},
		"GitHub (Settings, Developer settings, GitHub Apps)": {Slug: "x", URL: "::"},
		"https://ghes.example.com/organizations/o/settings/apps/x%2F": {Slug: "x/", URL: "https://ghes.example.com/github-apps/x", Owner: struct {
			Login string `json:"login"`
			Type  string `json:"type"`
		}{"o", "Organization"}},
	} {
		if got := a.settings(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
