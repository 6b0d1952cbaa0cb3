package main

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
)

// asked is an issuer that notes what it was asked for and mints nothing.
type asked struct {
	issuer.Issuer
	from cred.CredentialSource
}

func (a *asked) Issue(_ context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	a.from = spec.Target.Credential
	return cred.Credential{}, cred.Lease{}, &cred.Error{Kind: cred.Unavailable, Op: "test", Err: errors.Join(issuer.ErrNotIssued)}
}

// TestKeysAreMintedAsATargetIs holds that the credential which looks after access keys takes params, without
// which a path of aws/sts mints nothing.
func TestKeysAreMintedAsATargetIs(t *testing.T) {
	root, problems := strictyaml.Parse("x", []byte("path: aws/sts/key-keeper\nparams: { method: write }\nregion: eu-central-1\n"))
	var v keysSection
	if problems = problems.Merge(root.Decode(&v)); len(problems) > 0 {
		t.Fatal(problems)
	}
	from := &asked{}
	keys, err := v.open(&settings{}, from, "vault")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.List(t.Context()); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("List: %v", err)
	}
	want := cred.CredentialSource{Issuer: "vault", Path: "aws/sts/key-keeper", Params: map[string]string{"method": "write"}}
	if diff := cmp.Diff(want, from.from); diff != "" {
		t.Error(diff)
	}
}

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
