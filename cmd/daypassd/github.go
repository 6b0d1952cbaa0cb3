package main

import (
	"context"
	"errors"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/github"
	"github.com/daypass-io/daypass/issuer/vault"
)

// githubSection is the section of a GitHub App.
type githubSection struct {
	// The app's client ID, or its app ID in digits.
	App string `yaml:"app,required"`
	// Where the app's key is: one of file, vault_transit.
	PrivateKey githubKey `yaml:"private_key"`
	// The REST API. The default is https://api.github.com.
	URL string `yaml:"url"`
	// PEM file of the CA that the server's certificate is from; the system's where absent.
	CAFile string `yaml:"ca_file"`
	// Permit http on a loopback address, for development.
	AllowPlain bool `yaml:"allow_plain"`
	// How long one request may take. The default is 15s.
	Timeout time.Duration `yaml:"timeout"`
}

type githubKey struct {
	// A PEM file of mode 0600, as GitHub hands it out.
	File string `yaml:"file"`
	// A key that never leaves Vault.
	VaultTransit *githubTransit `yaml:"vault_transit"`
}

type githubTransit struct {
	// The name of an issuer with the driver vault.
	Issuer string `yaml:"issuer,required"`
	// The transit engine's path. The default is `transit`.
	Mount string `yaml:"mount"`
	// The key's name; an RSA key.
	Key string `yaml:"key,required"`
}

func (v *githubSection) problems(s *settings, name string, at *strictyaml.Node) strictyaml.Problems {
	var problems strictyaml.Problems
	transit := v.PrivateKey.VaultTransit
	switch {
	case (v.PrivateKey.File == "") == (transit == nil):
		problems = append(problems, at.Problem("private_key", "must have exactly one of file and vault_transit", ""))
	case transit != nil && s.driverOf(transit.Issuer) != vaultDriver:
		problems = append(problems, at.Problem("private_key.vault_transit.issuer", "is not the name of an issuer with the driver vault", ""))
	case transit == nil:
		if err := (github.KeyFile{Path: s.path(v.PrivateKey.File)}).Check(); err != nil {
			problems = append(problems, at.Problem("private_key.file", cred.PublicText(err), ""))
		}
	}
	return append(problems, s.sourceProblems(name, github.CheckSource)...)
}

func (v *githubSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	if s.sealing == nil {
		return nil, errNoSealing
	}
	c := v.config(s)
	if t := v.PrivateKey.VaultTransit; t != nil {
		c.Signer = transitSigner{*t, w.find}
	}
	return github.New(c)
}

// config is the app with its key in a file.
func (v *githubSection) config(s *settings) github.Config {
	return github.Config{
		App: v.App, BaseURL: v.URL, AllowPlain: v.AllowPlain, CAFile: s.path(v.CAFile), Timeout: v.Timeout,
		Signer: github.KeyFile{Path: s.path(v.PrivateKey.File)}, Sealer: s.sealing.AEAD(),
	}
}

// githubApp returns the section of a GitHub App by its issuer's name, nil where there is none.
func (s *settings) githubApp(name string) *githubSection {
	for _, i := range s.config.Issuers {
		var v githubSection
		if i.Name == name && i.Driver == githubDriver && len(i.Decode(&v)) == 0 {
			return &v
		}
	}
	return nil
}

// transitSigner signs through an issuer that may be made after the one that signs with it.
type transitSigner struct {
	githubTransit
	find func(name string) issuer.Issuer
}

func (t transitSigner) SignRS256(ctx context.Context, signingInput []byte) ([]byte, error) {
	v, ok := t.find(t.Issuer).(*vault.Issuer)
	if !ok {
		return nil, cred.Errorf(cred.Unavailable, "github.sign", "the Vault that holds the app's key is not there", "%w", errors.New("no such issuer"))
	}
	signer, err := v.TransitSigner(t.Mount, t.Key)
	if err != nil {
		return nil, err
	}
	return signer.SignRS256(ctx, signingInput)
}
