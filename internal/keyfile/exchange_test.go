package keyfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

func TestExchange(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "key"), filepath.Join(t.TempDir(), "link")
	if err := Create(path, cred.SecretString("first")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{path: 0o600, link: 0o400} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := MayExchange(name); err != nil {
			t.Error(err)
		}
		if err := Exchange(name, cred.SecretString("new "+name)); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil || got.RevealString() != "new "+name {
			t.Errorf("read %q, %v", got.RevealString(), err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, mode)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestExchangeNeedsAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing")
	for _, err := range []error{Exchange(path, cred.SecretString("x")), MayExchange(path)} {
		if cred.KindOf(err) != cred.Invalid {
			t.Errorf("got %v, want an Invalid error", err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made")
	}
}
