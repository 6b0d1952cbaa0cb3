package userstate_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zalando/go-keyring"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/userstate"
)

// ring is a keyring with a switch.
type ring struct {
	mu     sync.Mutex // guards both
	values map[string]string
	broken bool
}

var errBroken = errors.New("no session bus")

func (r *ring) Set(account, value string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return errBroken
	}
	r.values[account] = value
	return nil
}

func (r *ring) Get(account string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return "", errBroken
	}
	value, ok := r.values[account]
	if !ok {
		return "", userstate.ErrNotInRing
	}
	return value, nil
}

func (r *ring) Delete(account string) error {
	_, err := r.Get(account)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.values, account)
	}
	return err
}

func open(t *testing.T, path string, o userstate.Options) *userstate.Dir {
	t.Helper()
	d, err := userstate.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantSecret(t *testing.T, want string, got cred.Secret, err error) {
	t.Helper()
	if err != nil || got.RevealString() != want {
		t.Errorf("got %q (%v), want %q", got.RevealString(), err, want)
	}
}

// files lists a folder with the modes of what is in it.
func files(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		all = append(all, info.Mode().String()+" "+e.Name())
	}
	return all
}

func TestASecretGoesIntoTheKeyring(t *testing.T) {
	path, r := filepath.Join(t.TempDir(), "state"), &ring{values: map[string]string{}}
	d := open(t, path, userstate.Options{Ring: r, Notice: func(text string) { t.Errorf("told %q", text) }})
	must(t, d.KeepSecret("a", cred.SecretString("one")))
	got, err := d.Secret("a")
	wantSecret(t, "one", got, err)
	if all := files(t, path); len(all) != 0 || len(r.values) != 1 {
		t.Errorf("files %v, keyring %v", all, r.values)
	}
	other := open(t, path+"-2", userstate.Options{Ring: r})
	if _, err := other.Secret("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another folder's state has the secret: %v", err)
	}
	must(t, d.DropSecret("a"))
	must(t, d.DropSecret("a"))
	if _, err := d.Secret("a"); !errors.Is(err, fs.ErrNotExist) || len(r.values) != 0 {
		t.Errorf("a dropped secret is there (%v), keyring %v", err, r.values)
	}
}

func TestASecretGoesIntoAFileWhereThereIsNoKeyring(t *testing.T) {
	for name, r := range map[string]userstate.Ring{"none": nil, "broken": &ring{broken: true}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			var told []string
			d := open(t, path, userstate.Options{Ring: r, Notice: func(text string) { told = append(told, text) }})
			must(t, d.KeepSecret("a", cred.SecretString("one")))
			must(t, d.KeepSecret("a", cred.SecretString("two")))
			must(t, d.KeepSecret("b", cred.SecretString("three")))
			got, err := d.Secret("a")
			wantSecret(t, "two", got, err)
			if all := files(t, path); !slices.Equal(all, []string{"-rw------- a.secret", "-rw------- b.secret"}) {
				t.Errorf("files %v", all)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the folder has mode %v (%v)", info.Mode(), err)
			}
			if len(told) != 1 || !strings.Contains(told[0], path) {
				t.Errorf("told %q, want one notice that names the folder", told)
			}
		})
	}
}

// TestTheNewerSecretCounts: a keyring that was away for a while has what was kept before.
func TestTheNewerSecretCounts(t *testing.T) {
	path, r := filepath.Join(t.TempDir(), "state"), &ring{values: map[string]string{}}
	d := open(t, path, userstate.Options{Ring: r})
	must(t, d.KeepSecret("a", cred.SecretString("old")))
	r.broken = true
	must(t, d.KeepSecret("a", cred.SecretString("new")))
	r.broken = false
	got, err := d.Secret("a")
	wantSecret(t, "new", got, err)
	must(t, d.KeepSecret("a", cred.SecretString("newest")))
	got, err = d.Secret("a")
	wantSecret(t, "newest", got, err)
	if all := files(t, path); len(all) != 0 {
		t.Errorf("files %v stay beside the keyring", all)
	}
	r.broken = true
	if _, err := d.Secret("a"); cred.KindOf(err) != cred.Unavailable || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a silent keyring: %v, want an error that does not say the secret is not there", err)
	}
}

func TestFilesThatOthersMayUseAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d := open(t, path, userstate.Options{})
	must(t, d.KeepSecret("a", cred.SecretString("one")))
	must(t, os.Chmod(filepath.Join(path, "a.secret"), 0o640))
	if _, err := d.Secret("a"); cred.KindOf(err) != cred.Invalid || !strings.Contains(cred.PublicText(err), "chmod 600") {
		t.Errorf("a file of mode 0640: %v", err)
	}
	must(t, os.Chmod(path, 0o770))
	if _, err := userstate.Open(path, userstate.Options{}); cred.KindOf(err) != cred.Invalid || !strings.Contains(cred.PublicText(err), "chmod 700") {
		t.Errorf("a folder of mode 0770: %v", err)
	}
	if _, err := userstate.Open(filepath.Join(path, "a.secret"), userstate.Options{}); cred.KindOf(err) != cred.Invalid {
		t.Errorf("a file in place of the folder: %v", err)
	}
}

func TestSealedFiles(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state")
	d := open(t, path, userstate.Options{Ring: &ring{values: map[string]string{}}})
	value := strings.Repeat("a secret of some length ", 500)
	must(t, d.Keep(ctx, "x", cred.SecretString(value)))
	must(t, d.Keep(ctx, "y", cred.SecretString("other")))
	got, err := d.Load("x")
	wantSecret(t, value, got, err)
	raw, err := os.ReadFile(filepath.Join(path, "x.sealed"))
	must(t, err)
	if strings.Contains(string(raw), "secret of") {
		t.Error("the file is not sealed")
	}
	if _, err := d.Load("z"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was never kept: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(path, "y.sealed"), raw, 0o600))
	if _, err := d.Load("y"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one file's content opens under another name: %v", err)
	}
	raw[len(raw)/2] ^= 1
	must(t, os.WriteFile(filepath.Join(path, "x.sealed"), raw, 0o600))
	if _, err := d.Load("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a changed file opens: %v", err)
	}
	must(t, d.Drop("x"))
	must(t, d.Drop("x"))
	if names, err := d.Names(""); err != nil || !slices.Equal(names, []string{"y"}) {
		t.Errorf("names %v (%v)", names, err)
	}
}

func TestALostKeyLosesWhatItSealedAndNoMore(t *testing.T) {
	ctx, r := t.Context(), &ring{values: map[string]string{}}
	d := open(t, filepath.Join(t.TempDir(), "state"), userstate.Options{Ring: r})
	must(t, d.Keep(ctx, "x", cred.SecretString("one")))
	clear(r.values)
	if _, err := d.Load("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its key: %v", err)
	}
	must(t, d.Keep(ctx, "x", cred.SecretString("two")))
	got, err := d.Load("x")
	wantSecret(t, "two", got, err)
}

func TestNames(t *testing.T) {
	a, b := userstate.Name("grant", "broker", "x", "yz"), userstate.Name("grant", "broker", "xy", "z")
	if a == b || !strings.HasPrefix(a, userstate.Prefix("grant", "broker")) || strings.HasPrefix(a, userstate.Prefix("grant", "other")) {
		t.Errorf("names %s and %s", a, b)
	}
	if strings.ContainsAny(userstate.Name("grant", "https://b.example.com/../x", "/y"), "/.:") {
		t.Error("a name has what a file's name must not have")
	}
}

// TestOneHolderAtATime counts in a file under the lock, from goroutines with descriptors of their own, as
// processes have them.
func TestOneHolderAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	inside, most := 0, 0
	var mu sync.Mutex // guards both
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d, err := userstate.Open(path, userstate.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			for range 40 {
				unlock, err := d.Lock(t.Context(), "l")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				if _, err := os.ReadDir(path); err != nil { // takes a while, in which others could come in
					t.Error(err)
				}
				mu.Lock()
				inside--
				mu.Unlock()
				unlock()
			}
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}
	if all := files(t, path); len(all) != 0 {
		t.Errorf("locks are left: %v", all)
	}
}

func TestALockIsNotWaitedForWithoutEnd(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "state"), userstate.Options{})
	unlock, err := d.Lock(t.Context(), "l")
	must(t, err)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Lock(ctx, "l"); cred.KindOf(err) != cred.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestDefaultPath(t *testing.T) {
	t.Setenv("DAYPASS_HOME", "/some/where")
	if path, err := userstate.DefaultPath(); err != nil || path != "/some/where" {
		t.Errorf("got %s (%v)", path, err)
	}
	t.Setenv("DAYPASS_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "/config")
	t.Setenv("HOME", "/home/ann")
	if path, err := userstate.DefaultPath(); err != nil || filepath.Base(path) != "daypass" {
		t.Errorf("got %s (%v)", path, err)
	}
}

// TestSystemRing goes through the library with its own stand-in for a system's keyring.
func TestSystemRing(t *testing.T) {
	keyring.MockInit()
	var r userstate.SystemRing
	must(t, r.Set("a", "one"))
	if value, err := r.Get("a"); err != nil || value != "one" {
		t.Errorf("got %q (%v)", value, err)
	}
	must(t, r.Delete("a"))
	if _, err := r.Get("a"); !errors.Is(err, userstate.ErrNotInRing) || errors.Is(err, userstate.ErrNoRing) {
		t.Errorf("got %v", err)
	}
	keyring.MockInitWithError(errBroken)
	if _, err := r.Get("a"); !errors.Is(err, userstate.ErrNoRing) {
		t.Errorf("got %v", err)
	}
	d := open(t, filepath.Join(t.TempDir(), "state"), userstate.Options{Ring: r})
	must(t, d.KeepSecret("a", cred.SecretString("one")))
	got, err := d.Secret("a")
	wantSecret(t, "one", got, err)
	must(t, d.DropSecret("a"))
}
