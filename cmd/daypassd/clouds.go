package main

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/aws"
	"github.com/daypass-io/daypass/issuer/azure"
	"github.com/daypass-io/daypass/issuer/gcp"
	"github.com/daypass-io/daypass/issuer/gitlab"
	"github.com/daypass-io/daypass/issuer/static"
)

// awsSection is the section of AWS by web identity federation; docs/issuers/aws.md says what each key
// means.
type awsSection struct {
	Region      string        `yaml:"region"`
	Endpoint    string        `yaml:"endpoint"`
	Role        string        `yaml:"role"`
	Audience    string        `yaml:"audience"`
	MaxDuration time.Duration `yaml:"max_duration"`
	AllowPlain  bool          `yaml:"allow_plain"`
	CAFile      string        `yaml:"ca_file"`
	Timeout     time.Duration `yaml:"timeout"`
}

func (v *awsSection) problems(s *settings, _ string, at *strictyaml.Node) strictyaml.Problems {
	if s.config.Tokens.Algorithm == "EdDSA" {
		return strictyaml.Problems{at.Problem("", "needs tokens.algorithm ES256: AWS verifies no ID token that is signed with EdDSA", "")}
	}
	return nil
}

func (v *awsSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	return aws.New(aws.Config{
		Region: v.Region, Endpoint: v.Endpoint, RoleARN: v.Role, Audience: v.Audience, MaxDuration: v.MaxDuration,
		AllowPlain: v.AllowPlain, CAFile: s.path(v.CAFile), Timeout: v.Timeout,
		Source: func(_ context.Context, audience string, claims map[string]any) (cred.Secret, error) {
			return w.idToken(s, audience, idTokenLife, claims)
		},
	})
}

// gcpSection is the section of Google Cloud by workload identity federation; docs/issuers/gcp.md says what
// each key means.
type gcpSection struct {
	Provider   string        `yaml:"provider,required"`
	Audience   string        `yaml:"audience"`
	MaxLife    time.Duration `yaml:"max_life"`
	STSURL     string        `yaml:"sts_url"`
	IAMURL     string        `yaml:"iam_url"`
	AllowPlain bool          `yaml:"allow_plain"`
	CAFile     string        `yaml:"ca_file"`
	Timeout    time.Duration `yaml:"timeout"`
}

func (v *gcpSection) problems(*settings, string, *strictyaml.Node) strictyaml.Problems { return nil }

func (v *gcpSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	return gcp.New(gcp.Config{
		Provider: v.Provider, Audience: v.Audience, MaxLife: v.MaxLife, STSURL: v.STSURL, IAMURL: v.IAMURL,
		AllowPlain: v.AllowPlain, CAFile: s.path(v.CAFile), Timeout: v.Timeout, Source: w.lastingToken(s),
	})
}

// azureSection is the section of Microsoft Entra by workload identity federation; docs/issuers/azure.md
// says what each key means.
type azureSection struct {
	Tenant     string        `yaml:"tenant,required"`
	ClientID   string        `yaml:"client_id"`
	Audience   string        `yaml:"audience"`
	Authority  string        `yaml:"authority"`
	AllowPlain bool          `yaml:"allow_plain"`
	CAFile     string        `yaml:"ca_file"`
	Timeout    time.Duration `yaml:"timeout"`
}

func (v *azureSection) problems(*settings, string, *strictyaml.Node) strictyaml.Problems { return nil }

func (v *azureSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	return azure.New(azure.Config{
		Tenant: v.Tenant, ClientID: v.ClientID, Audience: v.Audience, Authority: v.Authority,
		AllowPlain: v.AllowPlain, CAFile: s.path(v.CAFile), Timeout: v.Timeout, Source: w.lastingToken(s),
	})
}

// lastingToken signs ID tokens of the broker's own whose life the issuer chooses.
func (w workshop) lastingToken(s *settings) func(context.Context, string, time.Duration, map[string]any) (cred.Secret, error) {
	return func(_ context.Context, audience string, life time.Duration, claims map[string]any) (cred.Secret, error) {
		return w.idToken(s, audience, life, claims)
	}
}

// gitlabSection is the section of a GitLab; docs/issuers/gitlab.md says what each key means.
type gitlabSection struct {
	URL        string        `yaml:"url"`
	Token      string        `yaml:"token,required"` // file:PATH, env:NAME or vault:ISSUER/PATH#FIELD
	AllowPlain bool          `yaml:"allow_plain"`
	CAFile     string        `yaml:"ca_file"`
	Timeout    time.Duration `yaml:"timeout"`
}

func (v *gitlabSection) problems(s *settings, name string, at *strictyaml.Node) strictyaml.Problems {
	return append(s.referenceProblem(at, "token", v.Token), s.sourceProblems(name, gitlab.CheckSource)...)
}

func (v *gitlabSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	root, err := s.loader(w, v.Token)
	if err != nil {
		return nil, err
	}
	return gitlab.New(gitlab.Config{
		BaseURL: v.URL, Root: root, AllowPlain: v.AllowPlain, CAFile: s.path(v.CAFile), Timeout: v.Timeout,
	})
}

// referenceProblem checks a secret's reference without reading the secret.
func (s *settings) referenceProblem(at *strictyaml.Node, key, reference string) strictyaml.Problems {
	if reference == "" {
		return nil // that it is missing has been told
	}
	ref, isVault, err := static.ParseVault(reference)
	switch {
	case !isVault:
		_, err = static.Parse(reference)
	case err == nil && s.driverOf(ref.Issuer) != vaultDriver:
		return strictyaml.Problems{at.Problem(key, "names no issuer with the driver vault", "")}
	}
	if err != nil {
		return strictyaml.Problems{at.Problem(key, cred.PublicText(err), "")}
	}
	return nil
}

// loader reads a secret by its reference, anew each time.
func (s *settings) loader(w workshop, reference string) (static.Loader, error) {
	if ref, isVault, err := static.ParseVault(reference); isVault {
		return w.vaultLoader(ref), err
	}
	return s.fileLoader(reference)
}

// vaultLoader reads a secret from Vault. The issuer is looked for when it is needed: it may stand below
// the one that needs it.
func (w workshop) vaultLoader(ref static.VaultRef) static.Loader {
	return func(ctx context.Context) (cred.Secret, error) {
		from, ok := w.find(ref.Issuer).(static.Keeper)
		if !ok {
			return cred.Secret{}, cred.Errorf(cred.Invalid, "secret", "there is no issuer with the driver vault of this name: "+ref.Issuer, "vault reference")
		}
		return static.Vault(from, ref)(ctx)
	}
}
