package gitlab

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/issuer/kv"
)

var _ kv.Opener = (*Token)(nil)

// shelf is a kv.Keeper with KV's rules.
type shelf struct {
	mu       sync.Mutex // owns what follows
	versions []kv.Values
	fail     int // so many of the next writes are not done
}

func (s *shelf) ReadKV(context.Context, string) (map[string]cred.Secret, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.versions[len(s.versions)-1]), len(s.versions), nil
}

func (s *shelf) WriteKV(_ context.Context, _ string, v map[string]cred.Secret, cas int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fail > 0:
		s.fail--
		return 0, &cred.Error{Kind: cred.Unavailable, Op: "shelf", Public: "no answer"}
	case cas != len(s.versions):
		return 0, &cred.Error{Kind: cred.Conflict, Op: "shelf", Public: "another version"}
	}
	s.versions = append(s.versions, maps.Clone(v))
	return len(s.versions), nil
}

func (s *shelf) DestroyKV(context.Context, string, []int) error { return nil }

func (s *shelf) now() string {
	v, _, _ := s.ReadKV(context.Background(), "")
	return v["token"].RevealString()
}

// kept puts a token that was made in the project on a fresh shelf.
func (f *fake) kept(scopes ...string) *shelf {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, tok := range f.tokens {
		tok.revoked = tok.revoked || tok.project
	}
	tok := f.add("deploys", scopes, 30, true)
	return &shelf{versions: []kv.Values{{"token": cred.SecretString(tok.secret), "note": cred.SecretString("x")}}}
}

func (f *fake) rotator(t testing.TB, url string, s kv.Keeper, root bool) issuer.Rotator {
	t.Helper()
	cfg := TokenConfig{Config: f.config(url), Project: fakeProject}
	if !root {
		cfg.Root = nil
	}
	tok, err := NewToken(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tok.Close() })
	r, err := kv.New(kv.Config{Keeper: s, Path: "ci/gitlab", Opener: tok})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The whole contract, where a root token makes the new token beside the old one: no fault loses
// anything.
func TestTokenContract(t *testing.T) {
	f := newFake(t)
	var s *shelf
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New:    func(t *testing.T, url string) issuer.Rotator { return f.rotator(t, url, s, true) },
		Source: f.url,
		Fresh:  func(*testing.T) { s = f.kept("api") },
		Root:   func(context.Context) (string, error) { return s.now(), nil },
		Alive:  func(context.Context) (int, error) { return f.living(), nil },
		Works: func(context.Context) error {
			if tok := f.bySecret(s.now()); tok == nil || !f.alive(tok) || tok.level != 30 || strings.Join(tok.scopes, " ") != "api" {
				return errors.New("refused, or of other rights")
			}
			return nil
		},
		Secrets: func(context.Context) []string { return []string{s.now(), f.root} },
	})
}

func begin(t testing.TB, x issuer.Rotator) issuer.Rotation {
	t.Helper()
	r, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1, Began: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	r.Attempt = 1
	return r
}

// Without a root token: what goes well, and what nobody can put right again.
func TestTokenRotatesItself(t *testing.T) {
	t.Run("goes well", func(t *testing.T) {
		f := newFake(t)
		s := f.kept("self_rotate")
		x, old := f.rotator(t, f.url, s, false), s.now()
		findings, err := x.Check(t.Context(), issuer.Rotation{ID: "rot-1"})
		if err != nil || len(findings) == 0 || !findings[len(findings)-1].OK {
			t.Fatalf("Check: %+v, %v", findings, err)
		}
		r := begin(t, x)
		if r, err = x.Switch(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := x.Verify(t.Context(), r); err != nil {
			t.Error(err)
		}
		if _, err := x.Retire(t.Context(), r); err != nil {
			t.Error(err)
		}
		if err := x.Undo(t.Context(), r); cred.KindOf(err) != cred.Invalid {
			t.Errorf("Undo: %v, want kind invalid", err)
		}
		if s.now() == old || !f.alive(f.bySecret(s.now())) {
			t.Error("the new token does not work, or is none: the old one was used again")
		}
	})
	t.Run("the outcome of Switch is lost", func(t *testing.T) {
		f := newFake(t)
		s := f.kept("api")
		x := f.rotator(t, f.url, s, false)
		r := begin(t, x)
		if _, err := x.Switch(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := f.rotator(t, f.url, s, false).Undo(t.Context(), r); cred.KindOf(err) != cred.Invalid {
			t.Errorf("Undo: %v, want kind invalid", err)
		}
		r.Attempt = 2
		r, err := f.rotator(t, f.url, s, false).Switch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Verify(t.Context(), r); err != nil || f.count("POST /api/v4/projects/octo/api/access_tokens/self/rotate") != 1 {
			t.Errorf("Verify: %v", err)
		}
	})
	t.Run("the answer is lost", func(t *testing.T) {
		f := newFake(t)
		s := f.kept("api")
		front := issuertest.NewFront(t, f.url)
		x := f.rotator(t, front.URL, s, false)
		r := begin(t, x)
		front.Break(issuertest.DoneLost, 1)
		if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
			t.Fatalf("Switch: %v, want kind unavailable", err)
		}
		r.Attempt = 2
		if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Invalid || !strings.Contains(cred.PublicText(err), "make a new one") {
			t.Errorf("Switch again: %v, want kind invalid", err)
		}
		if err := x.Undo(t.Context(), r); cred.KindOf(err) != cred.Invalid {
			t.Errorf("Undo: %v, want kind invalid", err)
		}
		if len(s.versions) != 1 {
			t.Errorf("%d versions, want the one that was", len(s.versions))
		}
	})
	t.Run("it never left", func(t *testing.T) {
		f := newFake(t)
		s := f.kept("api")
		front := issuertest.NewFront(t, f.url)
		x := f.rotator(t, front.URL, s, false)
		r := begin(t, x)
		front.Break(issuertest.NotDone, 1)
		if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
			t.Fatalf("Switch: %v, want kind unavailable", err)
		}
		if err := x.Undo(t.Context(), r); err != nil {
			t.Errorf("Undo: %v", err)
		}
		r.Attempt = 2
		if r, err := x.Switch(t.Context(), r); err != nil || x.Verify(t.Context(), r) != nil {
			t.Errorf("Switch again: %v", err)
		}
	})
	t.Run("Vault does not answer", func(t *testing.T) {
		f := newFake(t)
		s := f.kept("api")
		x := f.rotator(t, f.url, s, false)
		r := begin(t, x)
		s.fail = tries
		if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
			t.Fatalf("Switch: %v, want kind unavailable", err)
		}
		r.Attempt = 2
		r, err := x.Switch(t.Context(), r)
		if err != nil || x.Verify(t.Context(), r) != nil || !f.alive(f.bySecret(s.now())) {
			t.Errorf("Switch again: %v: the only copy was thrown away", err)
		}
	})
	t.Run("may not", func(t *testing.T) {
		f := newFake(t)
		s := f.kept("read_api")
		x := f.rotator(t, f.url, s, false)
		findings, err := x.Check(t.Context(), issuer.Rotation{ID: "rot-1"})
		if err != nil || findings[len(findings)-1].OK {
			t.Errorf("Check: %+v, %v", findings, err)
		}
		if _, err := x.Switch(t.Context(), begin(t, x)); cred.KindOf(err) != cred.Invalid {
			t.Errorf("Switch: %v, want kind invalid", err)
		}
	})
}

// GitLab may take longer for a rotation than other requests may, and its answer has the only copy: we don't
// hang up.
func TestTokenRotationIsAwaited(t *testing.T) {
	const usual = 50 * time.Millisecond
	f := newFake(t)
	s := f.kept("api")
	to, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	on := httputil.NewSingleHostReverseProxy(to)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(4 * usual)
		on.ServeHTTP(w, r)
	}))
	t.Cleanup(slow.Close)
	cfg := f.config(slow.URL)
	cfg.Root, cfg.Timeout = nil, usual
	x, err := NewToken(TokenConfig{Config: cfg, Project: fakeProject})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	made, err := x.rotate(t.Context(), cred.SecretString(s.now()))
	if err != nil || !f.alive(f.bySecret(made.RevealString())) {
		t.Errorf("the new token is lost: %v", err)
	}
}

// The fake has the trap that all of this is for.
func TestFakeDetectsReuse(t *testing.T) {
	f := newFake(t)
	s := f.kept("api")
	old := s.now()
	x := f.rotator(t, f.url, s, false)
	if _, err := x.Switch(t.Context(), begin(t, x)); err != nil {
		t.Fatal(err)
	}
	if err := f.works(t.Context(), cred.Credential{Fields: map[string]cred.Secret{"token": cred.SecretString(old)}}); err == nil {
		t.Error("the old token works")
	}
	if f.alive(f.bySecret(s.now())) {
		t.Error("the new token outlived the use of the old one")
	}
}

func TestTokenCheckFinds(t *testing.T) {
	f := newFake(t)
	s := f.kept("api")
	x := f.rotator(t, f.url, s, true)
	f.set(func() { f.tokens[0].level = 30 })
	findings, err := x.Check(t.Context(), issuer.Rotation{ID: "rot-1"})
	if err != nil || findings[len(findings)-1].OK {
		t.Errorf("a root token without the role: %+v, %v", findings, err)
	}
}

func TestNewTokenRefuses(t *testing.T) {
	f := newFake(t)
	for name, cfg := range map[string]TokenConfig{
		"project":              {Config: f.config(f.url), Project: "x"},
		"root without project": {Config: f.config(f.url)},
		"address":              {Config: Config{BaseURL: "http://gitlab.example.com"}},
	} {
		if _, err := NewToken(cfg); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	personal, err := NewToken(TokenConfig{Config: Config{BaseURL: f.url + "/api/v4", AllowPlain: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer personal.Close()
	f.set(func() { f.add("mine", []string{"api"}, 0, false) })
	mine := f.tokens[len(f.tokens)-1].secret
	if _, err := personal.rotate(t.Context(), cred.SecretString(mine)); err != nil || f.count(http.MethodPost+" /api/v4/personal_access_tokens/self/rotate") != 1 {
		t.Errorf("a personal token: %v", err)
	}
}
