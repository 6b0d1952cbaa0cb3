package static_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer/static"
)

func TestParseVault(t *testing.T) {
	for reference, want := range map[string]struct {
		ref   static.VaultRef
		vault bool
		bad   bool
	}{
		"vault:prod-vault/secret/data/openai#token":   {static.VaultRef{Issuer: "prod-vault", Path: "secret/data/openai", Field: "token"}, true, false},
		"vault:v/secret/apps/mail?version=3#password": {static.VaultRef{Issuer: "v", Path: "secret/apps/mail?version=3", Field: "password"}, true, false},
		"file:/x":        {},
		"env:NAME":       {},
		"":               {},
		"vaults:v/p#f":   {},
		"vault:":         {vault: true, bad: true},
		"vault:v":        {vault: true, bad: true},
		"vault:v/p":      {vault: true, bad: true},
		"vault:v/#f":     {vault: true, bad: true},
		"vault:/p#f":     {vault: true, bad: true},
		"vault:v/p#":     {vault: true, bad: true},
		"vault:v/p#f#g":  {vault: true, bad: true},
		"vault:v/p q#f":  {vault: true, bad: true},
		"vault:v/p#f\n":  {vault: true, bad: true},
		"Vault:v/p#f":    {},
		" vault:v/p#f":   {},
		"vault:v#f":      {vault: true, bad: true},
		"vault:v/p#f/gg": {static.VaultRef{Issuer: "v", Path: "p", Field: "f/gg"}, true, false},
	} {
		ref, vault, err := static.ParseVault(reference)
		if diff := cmp.Diff(want.ref, ref); diff != "" || vault != want.vault || (err != nil) != want.bad {
			t.Errorf("%q: %v, %v; (-want +got):\n%s", reference, vault, err, diff)
		}
		if err != nil && (cred.KindOf(err) != cred.Invalid || strings.Contains(err.Error(), reference) && reference != "vault:") {
			t.Errorf("%q: %v", reference, err)
		}
	}
}

// keeper answers for one path and field.
type keeper map[[2]string]string

func (k keeper) Secret(_ context.Context, path, field string) (cred.Secret, error) {
	value, ok := k[[2]string{path, field}]
	if !ok {
		return cred.Secret{}, errors.New("not there")
	}
	return cred.SecretString(value), nil
}

func TestVaultLoader(t *testing.T) {
	k := keeper{{"p", "f"}: "value", {"p", "empty"}: "", {"p", "long"}: strings.Repeat("x", 64<<10+1)}
	for field, want := range map[string]string{"f": "value", "empty": "", "long": "", "none": ""} {
		got, err := static.Vault(k, static.VaultRef{Path: "p", Field: field})(t.Context())
		if got.RevealString() != want || (err != nil) != (want == "") {
			t.Errorf("%s: %d bytes, %v", field, len(got.Reveal()), err)
		}
	}
	k[[2]string{"p", "f"}] = "changed"
	if got, err := static.Vault(k, static.VaultRef{Path: "p", Field: "f"})(t.Context()); err != nil || got.RevealString() != "changed" {
		t.Errorf("a changed value was not picked up: %v", err)
	}
}
