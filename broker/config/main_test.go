package config

import (
	"fmt"
	"os"
	"testing"
)

// TestMain narrows the modes of the files that configurations of the tests read secrets from, which
// git does not keep.
func TestMain(m *testing.M) {
	for _, name := range []string{"testdata/files/notice.secret", "testdata/files/notice.url"} {
		if err := os.Chmod(name, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
