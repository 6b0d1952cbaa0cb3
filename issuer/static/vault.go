package static

import (
	"context"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// VaultRef names one field of a secret in the key-value store of a configured Vault issuer.
type VaultRef struct {
	Issuer string // the configured issuer's name
	Path   string // e.g. "secret/data/openai", with "?version=N" at its end where a version is pinned
	Field  string
}

// ParseVault reads a reference of the form vault:ISSUER/PATH#FIELD, e.g.
// "vault:prod-vault/secret/data/openai#token". It reports false where the reference is of another scheme,
// and an error of kind Invalid where it is of this one and wrong.
func ParseVault(reference string) (VaultRef, bool, error) {
	rest, ok := strings.CutPrefix(reference, "vault:")
	if !ok {
		return VaultRef{}, false, nil
	}
	place, field, _ := strings.Cut(rest, "#")
	issuer, path, _ := strings.Cut(place, "/")
	if issuer == "" || path == "" || field == "" || strings.Contains(field, "#") || strings.ContainsAny(rest, " \t\r\n") {
		return VaultRef{}, true, &cred.Error{
			Kind: cred.Invalid, Op: "static.config",
			Public: "a secret in Vault is named as vault:ISSUER/PATH#FIELD, such as vault:prod-vault/secret/data/openai#token",
		}
	}
	return VaultRef{Issuer: issuer, Path: path, Field: field}, true, nil
}

// Keeper reads one field of a secret that stands in a key-value store. issuer/vault's Issuer is one.
type Keeper interface {
	Secret(ctx context.Context, path, field string) (cred.Secret, error)
}

// Vault reads a field from the Vault that ref.Issuer names; the caller finds it.
func Vault(from Keeper, ref VaultRef) Loader {
	return func(ctx context.Context) (cred.Secret, error) {
		value, err := from.Secret(ctx, ref.Path, ref.Field)
		if err != nil {
			return cred.Secret{}, err
		}
		return checked(ref.Path+"#"+ref.Field, value.RevealString())
	}
}
