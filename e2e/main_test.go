package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// programs builds the commands once, with failpoints, and returns the folder.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "daypass-e2e-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-tags", "failpoints", "-o", dir+"/", "../cmd/...")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil && filepath.Base(dir) != "." {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// program returns the path of a command. With -short, where nothing is to be built, the test is
// skipped.
func program(t testing.TB, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no processes")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
