package login_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/clients/login/logintest"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/userstate"
)

// signedIn is a person who has signed in, in a bubble of synctest.
type signedIn struct {
	t    *testing.T
	p    *logintest.Provider
	k    login.Keeper
	path string
}

func newSignedIn(t *testing.T, change func(*logintest.Behaviour)) *signedIn {
	t.Helper()
	var said bytes.Buffer
	p, f := unserved(&said)
	p.Set(change)
	w := &signedIn{t: t, p: p, path: filepath.Join(t.TempDir(), "state")}
	w.k = w.another()
	time.AfterFunc(3*time.Second, func() { p.Enter("") })
	s, err := f.Device(t.Context())
	if err == nil {
		err = w.k.Save(t.Context(), s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// another is the keeper of another process.
func (w *signedIn) another() login.Keeper {
	state, err := userstate.Open(w.path, userstate.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return login.Keeper{State: state, Broker: "https://daypass.example.com", Client: login.NewClient(w.p.Transport()), Now: time.Now}
}

func (w *signedIn) token() string {
	w.t.Helper()
	tok, err := w.k.IDToken(w.t.Context())
	if err != nil || tok.IsZero() {
		w.t.Fatalf("no ID token: %v", err)
	}
	return tok.RevealString()
}

func (w *signedIn) fails(reason string) error {
	w.t.Helper()
	_, err := w.k.IDToken(w.t.Context())
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != reason {
		w.t.Errorf("got %v, want %s", err, reason)
	}
	return err
}

func nothing(*logintest.Behaviour) {}

// inBubble runs a test in a bubble, where an hour takes no time.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestAnIDTokenIsRefreshedShortlyBeforeItsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		lifetime, still, then time.Duration
	}{
		"ten minutes": {10 * time.Minute, 8*time.Minute + 50*time.Second, 9*time.Minute + 10*time.Second},
		"a day":       {24 * time.Hour, 44 * time.Minute, 46 * time.Minute}, // brokers don't take it for that long
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newSignedIn(t, func(b *logintest.Behaviour) { b.Lifetime = c.lifetime })
				first, began := w.token(), time.Now()
				time.Sleep(c.still)
				if w.token() != first || w.p.Count("refresh_token") != 0 {
					t.Errorf("it was refreshed after %v", c.still)
				}
				time.Sleep(c.then - time.Since(began))
				second := w.token()
				if second == first || w.token() != second || w.p.Count("refresh_token") != 1 {
					t.Errorf("after %v there were %d refreshes", c.then, w.p.Count("refresh_token"))
				}
				time.Sleep(c.then)
				if w.token() == second || w.p.Alive() != 1 {
					t.Error("the rotated refresh token was not kept")
				}
			})
		})
	}
}

// TestOneOfManyRefreshes: the provider ends a sign-in whose refresh token comes twice.
func TestOneOfManyRefreshes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, nothing)
		for round := 1; round <= 3; round++ {
			time.Sleep(time.Hour)
			tokens := make([]string, 16)
			var wg sync.WaitGroup
			for i := range tokens {
				k := w.another()
				wg.Go(func() {
					tok, err := k.IDToken(t.Context())
					if err != nil {
						t.Error(err)
					}
					tokens[i] = tok.RevealString()
				})
			}
			wg.Wait()
			for _, tok := range tokens {
				if tok == "" || tok != tokens[0] {
					t.Fatal("the processes have different tokens")
				}
			}
			if n := w.p.Count("refresh_token"); n != round {
				t.Fatalf("%d refreshes in round %d", n, round)
			}
		}
	})
}

func TestARefreshWithoutRotationKeepsTheToken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, func(b *logintest.Behaviour) { b.KeepRefresh = true })
		for range 3 {
			time.Sleep(time.Hour)
			w.token()
		}
		if n := w.p.Count("refresh_token"); n != 3 {
			t.Errorf("%d refreshes", n)
		}
	})
}

// TestWhoGivesUpLosesNothing: the request goes on when its caller has left, else the next refresh token
// would be lost.
func TestWhoGivesUpLosesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, nothing)
		time.Sleep(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.k.IDToken(ctx); err != nil {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Hour)
		w.token()
	})
}

func TestTheNextRefreshTokenIsKeptBeforeAnythingElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, nothing)
		for name, spoil := range map[string]func(*logintest.Behaviour){
			"no ID token":     func(b *logintest.Behaviour) { b.NoIDTokenRefresh = true },
			"somebody else's": claim("sub", "eve"),
			"another's":       claim("aud", "other"),
			"no time":         claim("exp", nil),
		} {
			time.Sleep(time.Hour)
			w.p.Set(spoil)
			if _, err := w.k.IDToken(t.Context()); err == nil {
				t.Errorf("%s: it is taken", name)
			}
			w.p.Set(func(b *logintest.Behaviour) { b.NoIDTokenRefresh, b.Claims = false, nil })
			w.token()
		}
	})
}

func TestASignInThatHasEnded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, nothing)
		w.p.EndAll()
		w.token() // lasts as long as its ID token
		time.Sleep(time.Hour)
		err := w.fails(login.ReasonEnded)
		if cred.KindOf(err) != cred.Unauthenticated || !strings.Contains(cred.PublicText(err), "daypass login") {
			t.Errorf("got %v", err)
		}
		n := w.p.Count("refresh_token")
		w.fails(login.ReasonSignedOut)
		if w.p.Count("refresh_token") != n {
			t.Error("a refresh token that is good no more is sent again")
		}
		if left, err := os.ReadDir(w.path); err != nil || len(left) != 1 {
			t.Errorf("%d files are left, want the key alone (%v)", len(left), err)
		}
	})
}

func TestAnIssuerThatIsDown(t *testing.T) {
	for name, status := range map[string]int{"answers 503": 503, "breaks": -1} {
		for _, path := range []string{"/token", "/.well-known/openid-configuration"} {
			t.Run(name+" at "+path, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					w := newSignedIn(t, func(b *logintest.Behaviour) { b.KeepRefresh = true })
					first := w.token()
					w.p.Set(fail(path, status))
					time.Sleep(59*time.Minute + 30*time.Second - 6*time.Second)
					if w.token() != first {
						t.Error("the present token is not used while it lasts")
					}
					time.Sleep(time.Minute)
					if _, err := w.k.IDToken(t.Context()); cred.KindOf(err) != cred.Unavailable {
						t.Errorf("got %v, want that it is unavailable", err)
					}
					w.p.Set(func(b *logintest.Behaviour) { b.Fail = nil })
					if w.token() == first {
						t.Error("an old token was given")
					}
				})
			})
		}
	}
}

func TestWithoutARefreshToken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, func(b *logintest.Behaviour) { b.NoRefresh = true })
		first := w.token()
		time.Sleep(59 * time.Minute)
		if w.token() != first {
			t.Error("another token")
		}
		time.Sleep(2 * time.Minute)
		w.fails(login.ReasonEnded)
	})
}

// TestSaveReplaces: a sign-in without a refresh token leaves none of the one before.
func TestSaveReplaces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, nothing)
		s, err := w.k.Current()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.k.Save(t.Context(), s); err != nil { // Current has no refresh token
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		w.fails(login.ReasonEnded)
		if w.p.Count("refresh_token") != 0 {
			t.Error("the refresh token of the sign-in before was used")
		}
	})
}

func TestNoSecretInTheFiles(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, nothing)
		s, err := w.k.Current()
		if err != nil || s.Subject != "ann" || !s.Refresh.IsZero() {
			t.Fatalf("session %+v (%v)", s, err)
		}
		entries, err := os.ReadDir(w.path)
		if err != nil || len(entries) != 3 {
			t.Fatalf("files %v (%v)", entries, err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(w.path, e.Name()))
			if err != nil || bytes.Contains(b, []byte("eyJ")) || bytes.Contains(b, []byte("ann")) {
				t.Errorf("%s shows the sign-in (%v)", e.Name(), err)
			}
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", e.Name(), info.Mode())
			}
		}
	})
}

func TestSignOut(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*logintest.Behaviour)
		revoked bool
		alive   int
		reason  string
	}{
		"revokes":          {nothing, true, 0, ""},
		"no endpoint":      {func(b *logintest.Behaviour) { b.NoRevocation = true }, false, 1, ""},
		"no refresh token": {func(b *logintest.Behaviour) { b.NoRefresh = true }, false, 0, ""},
		"endpoint is down": {fail("/revoke", 503), false, 1, "NOT_REVOKED"},
		"endpoint breaks":  {fail("/revoke", -1), false, 0, "NOT_REVOKED"},
		"issuer is silent": {fail("/.well-known/openid-configuration", 503), false, 1, "NOT_REVOKED"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newSignedIn(t, func(b *logintest.Behaviour) { b.NoRefresh = name == "no refresh token" })
				w.p.Set(c.change)
				out, err := w.k.SignOut(t.Context())
				e, _ := errors.AsType[*cred.Error](err)
				if out.Was.Subject != "ann" || out.Revoked != c.revoked || w.p.Alive() != c.alive || (err == nil) != (c.reason == "") || err != nil && e.Reason != c.reason {
					t.Errorf("got %+v (%v), %d sign-ins are alive", out, err, w.p.Alive())
				}
				w.fails(login.ReasonSignedOut)
				if left, err := os.ReadDir(w.path); err != nil || len(left) != 1 {
					t.Errorf("%d files are left, want the key alone (%v)", len(left), err)
				}
				if out, err := w.k.SignOut(t.Context()); err != nil || out.Was.Subject != "" {
					t.Errorf("again: %+v (%v)", out, err)
				}
			})
		})
	}
}

// TestAWiderModeIsRefused: a refresh token in a file that others may read is not used.
func TestAWiderModeIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, nothing)
		files, err := filepath.Glob(filepath.Join(w.path, "login-*.secret"))
		if err != nil || len(files) != 1 {
			t.Fatalf("files %v (%v)", files, err)
		}
		if err := os.Chmod(files[0], 0o644); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := w.k.IDToken(t.Context()); cred.KindOf(err) != cred.Invalid || !strings.Contains(cred.PublicText(err), "chmod 600") {
			t.Errorf("got %v", err)
		}
	})
}

// TestBrokersAreApart: a sign-in at one broker is none at another.
func TestBrokersAreApart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newSignedIn(t, nothing)
		other := w.k
		other.Broker = "https://other.example.com"
		if _, err := other.Current(); err == nil {
			t.Error("another broker has the sign-in")
		}
		if _, err := other.SignOut(t.Context()); err != nil {
			t.Error(err)
		}
		w.token()
	})
}
