package config

import (
	"fmt"
	"time"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Identity says what holds for all ID tokens.
type Identity struct {
	// How far the clocks of issuers and of the broker may differ.
	Skew time.Duration `yaml:"skew" default:"30s"`
}

// Login is the OAuth client that `daypass login` is at an identity provider. It is a public client
// (RFC 6749, section 2.1), so there is no secret.
type Login struct {
	// The client's ID at the provider. Its ID tokens have it as their audience, so it belongs into
	// `audiences`.
	ClientID string `yaml:"client_id,required"`
	// The scopes to ask for.
	Scopes []string `yaml:"scopes"`
}

// Jobs is where the state of CI jobs is asked for, and with which token: `token`, or for GitHub
// `issuer`. Without either only public repositories and projects can be asked about.
type Jobs struct {
	// Whose API it is. The default is what the preset says.
	Kind string `yaml:"kind" enum:"github,gitlab"`
	// The base URL of the REST API. The default is `https://api.github.com` or `https://gitlab.com/api/v4`.
	API string `yaml:"api"`
	// The token: `file:PATH`, `env:NAME` or `vault:ISSUER/PATH#FIELD`.
	Token string `yaml:"token"`
	// The name of an issuer with the driver `github_app`, whose app may read actions.
	Issuer string `yaml:"issuer"`
	// A PEM file with the CA of the API's certificate. The default is the system's CAs.
	CAFile string `yaml:"ca_file"`
	// Permit http on a loopback address, for development.
	AllowPlain bool `yaml:"allow_plain"`
}

// KindFor returns whose API it is for a provider of a preset, empty where that is not known.
func (j Jobs) KindFor(preset string) string {
	switch {
	case j.Kind != "":
		return j.Kind
	case preset == "github-actions":
		return "github"
	case preset == "gitlab":
		return "gitlab"
	}
	return ""
}

// IdentityProvider is an OIDC issuer whose ID tokens the broker accepts. It has a preset or an
// issuer; what is set beside a preset takes the preset's place. docs/identity has a page for each
// preset.
type IdentityProvider struct {
	// The name that rules use, as `principal.provider`.
	Name string `yaml:"name,required"`
	// What daypass knows of a well-known issuer: `github-actions`, `gitlab`, `buildkite`, `circleci`,
	// `kubernetes`, `bitbucket`, `azure-devops`, `aws-workload`, `spiffe`, `google`, `okta`, `entra` or
	// `generic`. The default is `generic`.
	Preset string `yaml:"preset"`
	// The issuer's URL, exactly as it stands in its tokens.
	Issuer string `yaml:"issuer"`
	// `github-actions`: the slug of an enterprise whose tokens have an issuer of their own.
	Enterprise string `yaml:"enterprise"`
	// `github-actions`: the host of a GitHub Enterprise Server, or SUBDOMAIN.ghe.com. `gitlab`: the host
	// of a GitLab that is not gitlab.com.
	Host string `yaml:"host"`
	// `circleci`, `azure-devops`: the organization's UUID.
	Organization string `yaml:"organization"`
	// `bitbucket`: the workspace's name.
	Workspace string `yaml:"workspace"`
	// `entra`: the directory's UUID.
	Tenant string `yaml:"tenant"`
	// `spiffe`: the trust domain, such as `example.org`.
	TrustDomain string `yaml:"trust_domain"`
	// `spiffe`, `kubernetes`, `generic`: where the issuer's keys are, a JWK set or a SPIFFE bundle. The
	// default is what the issuer's discovery document says.
	JWKSURL string `yaml:"jwks_url"`
	// The audiences that mean this broker.
	Audiences []string `yaml:"audiences,required"`
	// The signature algorithms to accept. The default is the preset's, and without one every asymmetric
	// one.
	Algorithms []string `yaml:"algorithms" enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"`
	// The greatest age of a token, whatever its own end is. The default is the preset's, and without one
	// 10m for workloads and 1h for people and agents.
	MaxAge time.Duration `yaml:"max_age"`
	// Whether a token counts once, by its `jti`. The default is true for `github-actions` and false for
	// all others, whose callers can't get a new token whenever they need one.
	OneTime *bool `yaml:"one_time"`
	// What its callers are: `workload`, `person` or `agent`. The default is the preset's, and without one
	// `person`.
	Kind string `yaml:"kind" enum:"workload,person,agent"`
	// The claim that lists the caller's groups. The default is `groups` for `okta` and `entra`; all others
	// have none.
	GroupsClaim string `yaml:"groups_claim"`
	// The claim to show to people as the caller's name.
	NameClaim string `yaml:"name_claim"`
	// A PEM file with the CA of the issuer's certificate, relative to the folder of the configuration
	// file. The default is the system's CAs.
	CAFile string `yaml:"ca_file"`
	// How people sign in with this provider: what `daypass login` needs to know of it.
	Login *Login `yaml:"login"`
	// Ask the provider whether a job is over, and end its grants when it is; for `github-actions` and
	// `gitlab`. Never by default: grants then end at their own end, or when the job revokes them.
	Jobs *Jobs `yaml:"jobs"`
	// Permit an issuer with http on a loopback address, for development.
	AllowPlain bool `yaml:"allow_plain"`
}

// Providers returns the identity providers as the broker verifies with them, presets applied.
func (c *Config) Providers() []identity.Provider {
	all := make([]identity.Provider, len(c.IdentityProviders))
	for i, p := range c.IdentityProviders {
		all[i], _ = p.provider(c.Identity.Skew)
	}
	return all
}

// provider returns what the broker verifies with, and what is wrong with where it is.
func (p IdentityProvider) provider(skew time.Duration) (identity.Provider, []identity.Problem) {
	out, problems := identity.FromPreset(p.Preset, identity.Place{
		Issuer: p.Issuer, Enterprise: p.Enterprise, Host: p.Host, Organization: p.Organization,
		Workspace: p.Workspace, Tenant: p.Tenant, TrustDomain: p.TrustDomain, JWKSURL: p.JWKSURL,
	})
	out.Name, out.Audiences, out.Skew = p.Name, p.Audiences, skew
	out.CAFile, out.AllowPlain = p.CAFile, p.AllowPlain
	setUnlessZero(&out.MaxAge, p.MaxAge)
	setUnlessZero(&out.Kind, cred.PrincipalKind(p.Kind))
	setUnlessZero(&out.GroupsClaim, p.GroupsClaim)
	setUnlessZero(&out.NameClaim, p.NameClaim)
	if len(p.Algorithms) > 0 {
		out.Algorithms = p.Algorithms
	}
	if p.OneTime != nil {
		out.OneTime = *p.OneTime
	}
	return out, problems
}

func setUnlessZero[T comparable](into *T, v T) {
	var zero T
	if v != zero {
		*into = v
	}
}

// identity checks what holds for all ID tokens.
func (k *checker) identity() {
	if k.Identity.Skew < time.Second || k.Identity.Skew > identity.MaxSkew {
		k.refuse("identity.skew", "must be between 1s and 5m", "")
	}
}

func (k *checker) providers() {
	names, issuers := map[string]bool{}, map[string]string{}
	for i := range k.IdentityProviders {
		p := &k.IdentityProviders[i]
		path := strictyaml.Index("identity_providers", i)
		k.name(path+".name", p.Name, names)
		k.file(path+".ca_file", &p.CAFile)
		k.jobs(path+".jobs", *p)
		for _, issuer := range k.provider(path, *p) {
			if first, taken := issuers[issuer]; taken {
				k.refuse(path, fmt.Sprintf("has the same issuer as identity provider %q", first), "")
				break
			}
			issuers[issuer] = p.Name
		}
	}
}

// jobs checks where the state of a provider's jobs is asked for. Its references are checked by who reads
// them.
func (k *checker) jobs(path string, p IdentityProvider) {
	if p.Jobs == nil {
		return
	}
	kind := p.Jobs.KindFor(p.Preset)
	switch {
	case kind == "":
		k.refuse(path+".kind", "is missing: only the presets github-actions and gitlab tell whose API it is", "")
	case p.Jobs.Issuer != "" && kind != "github":
		k.refuse(path+".issuer", "is for GitHub, whose apps make tokens", "set token")
	case p.Jobs.Issuer != "" && p.Jobs.Token != "":
		k.refuse(path+".token", "has no use together with issuer", "")
	}
	k.file(path+".ca_file", &p.Jobs.CAFile)
}

// provider checks one provider's settings, and returns the names of its issuer where they are known.
func (k *checker) provider(path string, p IdentityProvider) []string {
	out, problems := p.provider(0)
	misplaced := len(problems) > 0
	for _, problem := range out.Problems() {
		switch problem.Key {
		case "name", "algorithms", "kind", "max_age", "skew": // told of already, by k.name and by reading them
		case "audiences":
			problems = append(problems, problem)
		default:
			if !misplaced { // else it only follows from that
				problems = append(problems, problem)
			}
		}
	}
	for _, problem := range problems {
		at := path
		if problem.Key != "" {
			at += "." + problem.Key
		}
		k.refuse(at, problem.Message, problem.Hint)
	}
	if misplaced {
		return nil
	}
	return out.IssuerNames()
}
