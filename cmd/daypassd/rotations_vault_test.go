package main

import (
	"testing"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// TestKeysAreChecked holds that what AWS is can't be found wrong only when the broker starts.
func TestKeysAreChecked(t *testing.T) {
	for text, want := range map[string]int{
		"path: aws/creds/k\nuser: vault-root\n":                         1, // no region
		"path: aws/creds/k\nendpoint: http://iam.example.com\n":         1,
		"path: aws/creds/k\nuser: vault-root\nregion: eu-central-1\n":   0,
		"path: aws/creds/k\nendpoint: https://iam.example.com\n":        0,
		"path: aws/creds/k\nregion: eu-central-1\nuser: 'not a name'\n": 1,
	} {
		root, problems := strictyaml.Parse("x", []byte(text))
		v := &vaultRootSection{Issuer: "vault", Keys: &keysSection{}}
		if problems = problems.Merge(root.Decode(v.Keys)); len(problems) > 0 {
			t.Fatal(problems)
		}
		if found := v.keysProblems(&settings{}, root); len(found) != want {
			t.Errorf("%q: %v, want %d", text, found, want)
		}
	}
}
