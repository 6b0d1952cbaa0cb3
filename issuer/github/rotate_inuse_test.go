package github

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// switchedKey returns a rotation after Switch, with the old key and the new one, both of which GitHub takes.
func switchedKey(t *testing.T, w *keyWorld, x issuer.Rotator) (r issuer.Rotation, old, next appKey) {
	t.Helper()
	w.generate(t)
	r, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1, Began: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = x.Switch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if old, next, err = keysOf(r); err != nil {
		t.Fatal(err)
	}
	return r, old, next
}

// put writes a key into the file in use, as somebody else does.
func (w *keyWorld) put(t *testing.T, key *rsa.PrivateKey) {
	writePEM(t, w.key.Path, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// askApp lets a test answer the question who the app is in GitHub's place.
func (w *keyWorld) askApp(answer func(w http.ResponseWriter, n int) bool) {
	n := 0
	w.set(func() {
		w.intercept = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/app" {
				return false
			}
			n++
			return answer(rw, n)
		}
	})
}

// A new key that GitHub refuses is undone, and the old one makes tokens again.
func TestKeyThatGitHubRefusesIsUndone(t *testing.T) {
	w := newKeyWorld(t)
	for name, x := range map[string]issuer.Rotator{"mints": w.rotator(t, w.url), "asks": w.askingRotator(t)} {
		t.Run(name, func(t *testing.T) {
			w.fresh(t)
			r, old, _ := switchedKey(t, w, x)
			w.delete(old) // somebody has deleted the wrong key
			err := x.Verify(t.Context(), r)
			if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Invalid || e.Reason != "KEY_REFUSED" || !strings.Contains(e.Public, r.New) {
				t.Fatalf("Verify: %v, want kind invalid with the new key's name", err)
			}
			if err := x.Undo(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if now := w.inUse(t); now.name() != old.name() {
				t.Errorf("the key %s is in use, want the old one", now.name())
			}
			cfg := config(t, w.url)
			cfg.Signer = w.key
			if err := open(t, cfg).Check(t.Context()); err != nil {
				t.Errorf("after Undo: %v", err)
			}
		})
	}
}

// askingRotator has nothing to mint.
func (w *keyWorld) askingRotator(t *testing.T) issuer.Rotator {
	x, err := NewKeyRotator(KeyRotatorConfig{Config: config(t, w.url), Key: w.key, Next: w.next})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// What is no refusal of the key is none: the old key would not do any better.
func TestKeyIsNotUndoneForOtherTroubles(t *testing.T) {
	w := newKeyWorld(t)
	for name, c := range map[string]struct {
		trouble func(old, next appKey)
		want    cred.Kind // zero: Verify succeeds
	}{
		"GitHub takes no key at all": {trouble: func(appKey, appKey) { w.set(func() { w.fake.key, w.second = &newKey(2048).PublicKey, nil }) }, want: cred.Unavailable},
		"a proxy wants a sign-in": {trouble: func(appKey, appKey) {
			w.askApp(func(rw http.ResponseWriter, _ int) bool {
				http.Error(rw, "<html>sign in</html>", http.StatusUnauthorized)
				return true
			})
		}, want: cred.Unavailable},
		"a proxy wants a sign-in, at first": {trouble: func(appKey, appKey) {
			w.askApp(func(rw http.ResponseWriter, n int) bool {
				if n <= 2 {
					http.Error(rw, "<html>sign in</html>", http.StatusUnauthorized)
				}
				return n <= 2
			})
		}, want: cred.Unavailable},
		"GitHub does not answer": {trouble: func(appKey, appKey) {
			w.askApp(func(rw http.ResponseWriter, _ int) bool { problemAnswer(rw, 503, "no server"); return true })
		}, want: cred.Unavailable},
		"the old key can't be asked about": {trouble: func(appKey, appKey) {
			w.askApp(func(rw http.ResponseWriter, n int) bool {
				if n > 2 {
					problemAnswer(rw, 503, "no server")
				} else {
					problemAnswer(rw, 401, "A JSON web token could not be decoded")
				}
				return true
			})
		}, want: cred.Unavailable},
		"GitHub is confused for a moment": {trouble: func(appKey, appKey) {
			w.askApp(func(rw http.ResponseWriter, n int) bool { // each question is asked twice
				if n <= 2 {
					problemAnswer(rw, 401, "A JSON web token could not be decoded")
				}
				return n <= 2
			})
		}},
		"our clock is five minutes off":   {trouble: func(appKey, appKey) { w.set(func() { w.skew = -5 * time.Minute }) }},
		"our clock is half an hour off":   {trouble: func(appKey, appKey) { w.set(func() { w.skew = -30 * time.Minute }) }, want: cred.Unavailable},
		"the old key is deleted too soon": {trouble: func(_, next appKey) { w.delete(next) }},
	} {
		t.Run(name, func(t *testing.T) {
			w.fresh(t)
			w.set(func() { w.intercept, w.skew = nil, 0 })
			x := w.rotator(t, w.url)
			r, old, next := switchedKey(t, w, x)
			c.trouble(old, next)
			err := x.Verify(t.Context(), r)
			if (err == nil) != (c.want == 0) || err != nil && cred.KindOf(err) != c.want {
				t.Errorf("Verify: %v, want kind %v", err, c.want)
			}
		})
	}
}

// As long as the key in use is not the new one, nobody is asked to delete the old one, and the new one's
// other copy stays.
func TestRetireOfAKeyThatIsInUse(t *testing.T) {
	w := newKeyWorld(t)
	third := newKey(2048)
	for name, c := range map[string]struct {
		change func(t *testing.T)
		want   cred.Kind
	}{
		"rolled back":      {func(t *testing.T) { w.put(t, w.spare[0]) }, cred.Conflict},
		"a third one":      {func(t *testing.T) { w.put(t, third) }, cred.Conflict},
		"no file":          {func(*testing.T) { _ = os.Remove(w.key.Path) }, cred.Unavailable},
		"half a file":      {func(*testing.T) { _ = os.WriteFile(w.key.Path, []byte("-----BEGIN RSA"), 0o600) }, cred.Unavailable},
		"readable for all": {func(*testing.T) { _ = os.Chmod(w.key.Path, 0o644) }, cred.Unavailable},
	} {
		for _, deleted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w.fresh(t)
				_ = os.Chmod(w.key.Path, 0o600)
				x := w.rotator(t, w.url)
				r, _, next := switchedKey(t, w, x)
				c.change(t)
				if deleted {
					w.delete(next)
				}
				_, err := x.Retire(t.Context(), r)
				if cred.KindOf(err) != c.want {
					t.Errorf("Retire: %v, want kind %v", err, c.want)
				}
				if text := cred.PublicText(err); c.want == cred.Conflict && (!strings.Contains(text, r.New) || !strings.Contains(text, w.next.Path)) {
					t.Errorf("%q does not say what to put back, and from where", text)
				}
				if left, err := readKey(w.next); err != nil || left.name() != next.name() {
					t.Errorf("the new key's own file: %v", err)
				}
				_ = os.Chmod(w.key.Path, 0o600)
				w.put(t, w.spare[1]) // somebody mends it
				w.delete(next)
				if _, err := x.Retire(t.Context(), r); err != nil {
					t.Errorf("Retire after the new key was put back: %v", err)
				}
			})
		}
	}
}

// The old key comes back while GitHub is being asked: the new one's other copy stays. A broker that is
// killed there finds the same.
func TestRetireLooksAgainBeforeItClears(t *testing.T) {
	w := newKeyWorld(t)
	x := w.rotator(t, w.url)
	r, _, next := switchedKey(t, w, x)
	w.delete(next)
	w.askApp(func(http.ResponseWriter, int) bool { w.put(t, w.spare[0]); return false })
	if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Retire: %v, want kind conflict", err)
	}
	if _, err := readKey(w.next); err != nil {
		t.Errorf("the new key's own file: %v", err)
	}
	w.set(func() { w.intercept = nil })
	w.put(t, w.spare[1])
	for attempt := range 2 { // once more, as after a crash behind the last act
		r.Attempt = attempt + 2
		if _, err := x.Retire(t.Context(), r); err != nil {
			t.Errorf("attempt %d: %v", r.Attempt, err)
		}
	}
}

// A key that somebody else has put there is not overwritten by the old one.
func TestUndoLeavesAThirdKey(t *testing.T) {
	w := newKeyWorld(t)
	third := newKey(2048)
	x := w.rotator(t, w.url)
	r, old, _ := switchedKey(t, w, x)
	w.put(t, third)
	if err := x.Undo(t.Context(), r); cred.KindOf(err) != cred.Conflict || !strings.Contains(cred.PublicText(err), old.name()) {
		t.Errorf("Undo: %v, want kind conflict with the old key's name", err)
	}
	if now := w.inUse(t); now.name() != (appKey{third}).name() {
		t.Errorf("the key %s is in use, want the one that somebody has put there", now.name())
	}
	w.put(t, w.spare[1])
	if err := x.Undo(t.Context(), r); err != nil || w.inUse(t).name() != old.name() {
		t.Errorf("Undo after the new key was put back: %v", err)
	}
}

// What stands before GitHub and answers 401 in its place says nothing of the old key.
func TestStrangersRefuseNoKey(t *testing.T) {
	w := newKeyWorld(t)
	x := w.rotator(t, w.url)
	r, _, _ := switchedKey(t, w, x)
	stranger := func(from int) {
		w.askApp(func(rw http.ResponseWriter, n int) bool {
			if n >= from {
				http.Error(rw, "<html>sign in</html>", http.StatusUnauthorized)
			}
			return n >= from
		})
	}
	stranger(2) // the new key is asked about first
	if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("Retire: %v, want kind unavailable", err)
	}
	if _, err := readKey(w.next); err != nil {
		t.Errorf("the new key's own file: %v", err)
	}
	stranger(1)
	if err := x.Undo(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("Undo: %v, want kind unavailable", err)
	}
}
