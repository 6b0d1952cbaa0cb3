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

func TestReplaceLeavesTheOldSecretWhereItFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "key") // a directory in the file's place can't be replaced
	if err := os.MkdirAll(filepath.Join(dir, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(dir, cred.SecretString("new")); cred.KindOf(err) != cred.Invalid || err == nil {
		t.Errorf("replaced a directory: %v", err)
	}
	wantAlone(t, dir)
	if err := Replace(filepath.Join(dir, "nosuch", "key"), cred.SecretString("new")); cred.KindOf(err) != cred.Invalid || err == nil {
		t.Errorf("wrote into a directory that is not there: %v", err)
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
