package main

import (
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/github"
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
	VaultTransit *transitSection `yaml:"vault_transit"`
}

func (v *githubSection) problems(s *settings, name string, at *strictyaml.Node) strictyaml.Problems {
	var problems strictyaml.Problems
	transit := v.PrivateKey.VaultTransit
	switch {
	case (v.PrivateKey.File == "") == (transit == nil):
		problems = append(problems, at.Problem("private_key", "must have exactly one of file and vault_transit", ""))
	case transit != nil:
		problems = transit.problems(s, at, "private_key.vault_transit")
	default:
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
		var err error
		if c.Signer, err = t.signer(w); err != nil {
			return nil, err
		}
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
