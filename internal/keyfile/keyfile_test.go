package keyfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

func TestCreateThenRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := Create(path, cred.SecretString("first")); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, cred.SecretString("second")); !errors.Is(err, os.ErrExist) {
		t.Errorf("creating over a key: %v, want os.ErrExist", err)
	}
	got, err := Read(path)
	if err != nil || got.RevealString() != "first" {
		t.Errorf("read %q, %v; want the first key", got.RevealString(), err)
	}
}

func TestReadRefusesWhatOthersMayUse(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o700, 0o620, 0o602, 0o666} {
		path := filepath.Join(t.TempDir(), "key")
		if err := Create(path, cred.SecretString("k")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path)
		if cred.KindOf(err) != cred.Invalid || !strings.Contains(cred.PublicText(err), "chmod 600 "+path) {
			t.Errorf("mode %o: %v, want a refusal that names the chmod", mode, err)
		}
	}
}

func TestReadRefusesWhatIsNoKeyFile(t *testing.T) {
	dir := t.TempDir()
	pipe, empty := filepath.Join(dir, "pipe"), filepath.Join(dir, "empty")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, empty, dir, filepath.Join(dir, "absent")} {
		if _, err := Read(path); cred.KindOf(err) != cred.Invalid || err == nil {
			t.Errorf("%s: %v, want a refusal", filepath.Base(path), err)
		}
	}
	if _, err := Read(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v, want os.ErrNotExist", err)
	}
}

func TestOwner(t *testing.T) {
	for _, c := range []struct {
		owner uint32
		self  int
		want  bool
	}{{0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {1000, 0, false}} {
		if got := ownerAllowed(c.owner, c.self); got != c.want {
			t.Errorf("a file of user %d read by %d: %v, want %v", c.owner, c.self, got, c.want)
		}
	}
}
