package keyfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, content := range []string{"first", "second", "3"} { // the first time there is nothing to replace
		if err := Replace(path, cred.SecretString(content)); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path) // which refuses a wide mode
		if err != nil || got.RevealString() != content {
			t.Errorf("read %q, %v; want %q", got.RevealString(), err, content)
		}
	}
	wantAlone(t, path)
}

// The file keeps its mode, but for what would be too wide, and a link stays what it is.
func TestReplaceKeepsModeAndLink(t *testing.T) {
	path, link := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "link")
	if err := Create(path, cred.SecretString("first")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		is, want os.FileMode
	}{{path, 0o600, 0o600}, {link, 0o400, 0o400}, {link, 0o640, 0o600}} {
		if err := os.Chmod(path, c.is); err != nil {
			t.Fatal(err)
		}
		if err := MayReplace(c.name); err != nil {
			t.Error(err)
		}
		if err := Replace(c.name, cred.SecretString("new "+c.name)); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil || got.RevealString() != "new "+c.name {
			t.Errorf("read %q, %v", got.RevealString(), err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != c.want {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, c.want)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info.Mode(), err)
	}
	wantAlone(t, path)
}

func TestReplacePublic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	for _, content := range []string{"one", "two"} {
		if err := ReplacePublic(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("read %q, %v", got, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	wantAlone(t, path)
}

func TestReplaceLeavesTheOldSecretWhereItFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "key") // a directory in the file's place can't be replaced
	if err := os.MkdirAll(filepath.Join(dir, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(dir, cred.SecretString("new")); cred.KindOf(err) != cred.Invalid || err == nil {
		t.Errorf("replaced a directory: %v", err)
	}
	wantAlone(t, dir)
	missing := filepath.Join(dir, "nosuch", "key")
	for _, err := range []error{Replace(missing, cred.SecretString("new")), MayReplace(missing)} {
		if cred.KindOf(err) != cred.Invalid || err == nil {
			t.Errorf("wrote into a directory that is not there: %v", err)
		}
	}
}

// wantAlone wants nothing beside the file: what a failure leaves is a secret, too.
func wantAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file lie %v, %v", entries, err)
	}
}
