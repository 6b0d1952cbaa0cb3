package main

import (
	"context"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer/github"
	"github.com/daypass-io/daypass/issuer/vault"
)

// transitSection names an RSA key that signs for the broker and never leaves Vault.
type transitSection struct {
	// The name of an issuer with the driver vault.
	Issuer string `yaml:"issuer,required"`
	// The transit engine's path. The default is `transit`.
	Mount string `yaml:"mount"`
	// The key's name; an RSA key.
	Key string `yaml:"key,required"`
}

func (v *transitSection) problems(s *settings, at *strictyaml.Node, key string) strictyaml.Problems {
	if s.driverOf(v.Issuer) != vaultDriver {
		return strictyaml.Problems{at.Problem(key+".issuer", "is not the name of an issuer with the driver vault", "")}
	}
	if err := vault.CheckTransit(v.Mount, v.Key); err != nil {
		return strictyaml.Problems{at.Problem(key, cred.PublicText(err), "")}
	}
	return nil
}

// signer returns what signs with the key. Where the settings are only checked it signs nothing.
func (v *transitSection) signer(w workshop) (github.Signer, error) {
	i, ok := w.find(v.Issuer).(*vault.Issuer)
	if !ok {
		return noSigner{}, nil
	}
	return i.TransitSigner(v.Mount, v.Key)
}

type noSigner struct{}

func (noSigner) SignRS256(context.Context, []byte) ([]byte, error) {
	return nil, cred.Errorf(cred.Unavailable, "sign", "the Vault that holds the key is not there", "no such issuer")
}
