package github

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testKey = sync.OnceValue(func() *rsa.PrivateKey { return newKey(2048) })

func newKey(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

var testSealer = sync.OnceValue(newSealer)

func newSealer() Sealer {
	h, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		panic(err)
	}
	a, err := aead.New(h)
	if err != nil {
		panic(err)
	}
	return a
}

// keyFile writes a key as GitHub hands it out.
func keyFile(t testing.TB, key *rsa.PrivateKey) KeyFile {
	f := KeyFile{filepath.Join(t.TempDir(), "app.pem")}
	writePEM(t, f.Path, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return f
}

func writePEM(t testing.TB, path string, blocks ...*pem.Block) {
	t.Helper()
	var content []byte
	for _, b := range blocks {
		content = append(content, pem.EncodeToMemory(b)...)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// config is a configuration that works with a fake at a URL.
func config(t testing.TB, url string) Config {
	return Config{App: fakeApp, BaseURL: url, AllowPlain: true, Signer: keyFile(t, testKey()), Sealer: testSealer(), Timeout: 5 * time.Second}
}

func open(t testing.TB, cfg Config) *Issuer {
	t.Helper()
	i, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

// world returns a GitHub and an issuer of its app.
func world(t testing.TB) (*fake, *Issuer) {
	f := newFake(t, "")
	return f, open(t, config(t, f.url))
}

// source is a target's credential at the fake.
func source(owner string) cred.CredentialSource {
	return cred.CredentialSource{Issuer: "github", Params: map[string]string{
		"owner": owner, "repositories": "api,web", "permissions": "contents:write,issues:read",
	}}
}

func specOf(src cred.CredentialSource, params map[string]string) issuer.Spec {
	now := time.Now()
	return issuer.Spec{
		ID: cred.NewLeaseID(now), Target: cred.Target{Name: "code", Credential: src}, Params: params, NotAfter: now.Add(10 * time.Minute),
	}
}

// issue issues from the organization's target.
func issue(t testing.TB, i *Issuer, params map[string]string) (cred.Credential, cred.Lease, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return i.Issue(ctx, specOf(source("octo-org"), params))
}

// wantRefusal checks an error of Issue after which nothing may live, and that it gives nothing away.
func wantRefusal(t testing.TB, f *fake, err error, kind cred.Kind, reason string) {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != kind || e.Reason != reason || e.Public == "" {
		t.Errorf("got %v, want kind %v and reason %q", err, kind, reason)
		return
	}
	if e.Kind == cred.Unavailable && !errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("the error leaves open whether a token was made: %v", err)
	}
	if n := f.alive(); n != 0 {
		t.Errorf("%d tokens live", n)
	}
	wantNoSecret(t, err)
}

func wantNoSecret(t testing.TB, err error) {
	t.Helper()
	if text := err.Error(); strings.Contains(text, "ghs"+"_") || strings.Contains(text, "eyJ") {
		t.Errorf("the error holds a secret: %s", text)
	}
}

// spend uses a credential at the fake.
func spend(ctx context.Context, base string, c cred.Credential) error {
	field := "token"
	if c.Type == cred.UserPassword {
		field = "password"
	}
	req, err := http.NewRequestWithContext(ctx, "GET", base+"/installation/repositories", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Fields[field].RevealString())
	req.Header.Set("User-Agent", "test")
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func TestContract(t *testing.T) {
	for name, c := range map[string]struct {
		owner, base string
		kind        cred.CredentialType
		stateless   bool
	}{
		"organization":        {owner: "octo-org"},
		"user, git, new form": {owner: "ada_corp", kind: cred.UserPassword, stateless: true},
		"enterprise server":   {owner: "octo-org", base: "/api/v3"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, c.base)
			f.stateless = c.stateless
			src := source(c.owner)
			src.Type = c.kind
			unknown, err := open(t, suiteConfig(t, f.url+c.base)).seal(cred.SecretString("ghs" + "_never"))
			if err != nil {
				t.Fatal(err)
			}
			issuertest.Test(t, issuertest.Harness{
				New:    func(t *testing.T, url string) issuer.Issuer { return open(t, suiteConfig(t, url+c.base)) },
				Source: f.url,
				Spec: func(notAfter time.Time) issuer.Spec {
					spec := specOf(src, nil)
					spec.NotAfter = notAfter
					return spec
				},
				Works:         func(ctx context.Context, got cred.Credential) error { return spend(ctx, f.url+c.base, got) },
				Alive:         func(context.Context) (int, error) { return f.alive(), nil },
				UnknownHandle: unknown,
			})
		})
	}
}

// suiteConfig is for the suite, which issues through a Front and revokes directly: what binds a handle
// to one URL is left out, and has a test of its own.
func suiteConfig(t testing.TB, url string) Config {
	cfg := config(t, url)
	cfg.Timeout = 2 * time.Second
	cfg.Sealer = unbound{cfg.Sealer}
	return cfg
}

// unbound is a Sealer that forgets what a handle is bound to.
type unbound struct{ Sealer }

func (u unbound) Encrypt(plain, _ []byte) ([]byte, error)  { return u.Sealer.Encrypt(plain, nil) }
func (u unbound) Decrypt(sealed, _ []byte) ([]byte, error) { return u.Sealer.Decrypt(sealed, nil) }

// TestIssuesWhatWasAsked looks at what the fake was asked for: the whole ceiling, or a part of it.
func TestIssuesWhatWasAsked(t *testing.T) {
	for name, c := range map[string]struct {
		params       map[string]string
		repositories []string
		permissions  map[string]string
	}{
		"ceiling":     {nil, []string{"api", "Web"}, map[string]string{"contents": "write", "issues": "read", "metadata": "read"}},
		"repository":  {map[string]string{"repositories": "Octo-Org/API"}, []string{"api"}, map[string]string{"contents": "write", "issues": "read", "metadata": "read"}},
		"permission":  {map[string]string{"permissions": "contents:read"}, []string{"api", "Web"}, map[string]string{"contents": "read", "metadata": "read"}},
		"both, twice": {map[string]string{"repositories": "web, web", "permissions": "issues:read"}, []string{"Web"}, map[string]string{"issues": "read", "metadata": "read"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, i := world(t)
			got, lease, err := issue(t, i, c.params)
			if err != nil {
				t.Fatal(err)
			}
			tok := f.tokens[got.Fields["token"].RevealString()]
			if tok == nil || !cmp.Equal(tok.repositories, c.repositories) || !cmp.Equal(tok.permissions, c.permissions) {
				t.Errorf("the token is %+v", tok)
			}
			if got.Type != cred.Bearer || !got.NotAfter.Equal(lease.NotAfter) || time.Until(lease.NotAfter) < 59*time.Minute {
				t.Errorf("type %s, ends %v, lease ends %v", got.Type, got.NotAfter, lease.NotAfter)
			}
			if !lease.Revocable || !strings.Contains(lease.Note, "revoked when its grant ends") {
				t.Errorf("the lease is %+v", lease)
			}
		})
	}
}

// TestLongTokens: tokens of 520 characters and more go through as they are and can be revoked.
func TestLongTokens(t *testing.T) {
	f, i := world(t)
	f.stateless = true
	c, lease, err := issue(t, i, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token := c.Fields["token"].RevealString(); len(token) < 480 || f.tokens[token] == nil || strings.Count(token, ".") != 2 {
		t.Errorf("a token of %d characters, which GitHub does not know", len(token))
	}
	if err := i.Revoke(t.Context(), cred.Lease{Handle: lease.Handle}); err != nil || f.alive() != 0 {
		t.Errorf("Revoke: %v, %d tokens live", err, f.alive())
	}
}

func TestGitPassword(t *testing.T) {
	_, i := world(t)
	src := source("octo-org")
	src.Type = cred.UserPassword
	c, _, err := i.Issue(t.Context(), specOf(src, nil))
	if err != nil || c.Fields["username"].RevealString() != "x-access-token" || c.Fields["password"].IsZero() || len(c.Fields) != 2 {
		t.Errorf("got %v with %d fields, %v", c.Type, len(c.Fields), err)
	}
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no app":               func(c *Config) { c.App = "" },
		"app with a space":     func(c *Config) { c.App = "Iv23 x" },
		"no key":               func(c *Config) { c.Signer = nil },
		"no sealing key":       func(c *Config) { c.Sealer = nil },
		"plain http":           func(c *Config) { c.BaseURL = "http://github.example.com/api/v3" },
		"plain, not permitted": func(c *Config) { c.BaseURL, c.AllowPlain = "http://127.0.0.1:1", false },
		"a query":              func(c *Config) { c.BaseURL = "https://github.example.com/api/v3?x=1" },
		"a password":           func(c *Config) { c.BaseURL = "https://a:b@github.example.com" },
		"no host":              func(c *Config) { c.BaseURL = "https:///api/v3" },
		"no such CA file":      func(c *Config) { c.CAFile = "/does/not/exist" },
	} {
		cfg := config(t, "https://github.example.com/api/v3")
		if _, err := New(cfg); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if _, err := New(cfg); cred.KindOf(err) != cred.Invalid || err == nil {
			t.Errorf("%s: %v, want kind invalid", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	f, i := world(t)
	if err := i.Check(t.Context()); err != nil {
		t.Errorf("an app that is in order: %v", err)
	}
	f.set(func() { f.key = &newKey(2048).PublicKey })
	if err := i.Check(t.Context()); cred.KindOf(err) != cred.Unavailable || cred.PublicText(err) != publicApp {
		t.Errorf("another key than GitHub has: %v", err)
	}
}

func TestLost(t *testing.T) {
	_, i := world(t)
	asked := time.Now()
	if end, note := i.Lost(asked); end.Sub(asked) != time.Hour+5*time.Second || !strings.Contains(note, "ends by itself") {
		t.Errorf("%v, %q", end.Sub(asked), note)
	}
}

func TestClosed(t *testing.T) {
	f, i := world(t)
	if _, lease, err := issue(t, i, nil); err != nil || i.Revoke(t.Context(), lease) != nil {
		t.Fatal(err)
	}
	_ = i.Close()
	_, _, err := issue(t, i, nil)
	wantRefusal(t, f, err, cred.Unavailable, "")
}
