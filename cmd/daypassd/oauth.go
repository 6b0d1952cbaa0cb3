package main

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/copilot"
	"github.com/daypass-io/daypass/issuer/oauth"
)

// oauthSection is the section of an OAuth 2.0 server; docs/issuers/oauth.md says what each key means.
type oauthSection struct {
	TokenURL      string            `yaml:"token_url"`
	RevocationURL string            `yaml:"revocation_url"`
	AllowPlain    bool              `yaml:"allow_plain"`
	CAFile        string            `yaml:"ca_file"`
	Timeout       time.Duration     `yaml:"timeout"`
	Grant         string            `yaml:"grant" enum:"client_credentials,refresh,token_exchange,jwt_bearer"`
	Client        oauthClient       `yaml:"client"`
	Audience      string            `yaml:"audience"`
	SubjectType   string            `yaml:"subject_type"`
	RequestedType string            `yaml:"requested_type"`
	RefreshToken  string            `yaml:"refresh_token"` // a file
	NoScopes      bool              `yaml:"no_scopes"`
	Life          time.Duration     `yaml:"life"`
	Extra         map[string]string `yaml:"extra"`
	Headers       map[string]string `yaml:"headers"`
	JSON          bool              `yaml:"json"`

	Vendor           string `yaml:"vendor" enum:"openai,anthropic"`
	IdentityProvider string `yaml:"identity_provider_id"`
	FederationRule   string `yaml:"federation_rule_id"`
	Organization     string `yaml:"organization_id"`
	ServiceAccount   string `yaml:"service_account_id"`
	Workspace        string `yaml:"workspace_id"`
}

type oauthClient struct {
	ID     string `yaml:"id"`
	Method string `yaml:"method" enum:"none,client_secret_basic,client_secret_post,private_key_jwt"`
	Secret string `yaml:"secret"` // file:PATH, env:NAME or vault:ISSUER/PATH#FIELD
	Key    string `yaml:"key"`    // a file
	KeyID  string `yaml:"key_id"`
	// In place of key, one that never leaves Vault.
	VaultTransit *transitSection `yaml:"vault_transit"`

	IDToken  bool   `yaml:"id_token"`
	Audience string `yaml:"audience"`
}

// oauthGrants are the driver's grants by their names in the configuration.
func oauthGrants(name string) oauth.Grant {
	return map[string]oauth.Grant{
		"client_credentials": oauth.ClientCredentials, "refresh": oauth.RefreshToken,
		"token_exchange": oauth.TokenExchange, "jwt_bearer": oauth.JWTBearer,
	}[name]
}

func (v *oauthSection) problems(s *settings, _ string, at *strictyaml.Node) strictyaml.Problems {
	var problems strictyaml.Problems
	refuse := func(key, message string) { problems = append(problems, at.Problem(key, message, "")) }
	if v.Vendor == "" {
		for key, given := range map[string]string{"token_url": v.TokenURL, "grant": v.Grant} {
			if given == "" {
				refuse(key, "is missing")
			}
		}
	} else if v.TokenURL != "" || v.Grant != "" || v.RevocationURL != "" || v.Client != (oauthClient{}) {
		refuse("vendor", "takes the place of token_url, revocation_url, grant and client")
	}
	needs := map[string]map[string]string{
		"openai":    {"identity_provider_id": v.IdentityProvider, "service_account_id": v.ServiceAccount},
		"anthropic": {"federation_rule_id": v.FederationRule, "organization_id": v.Organization},
	}
	for key, given := range needs[v.Vendor] {
		if given == "" {
			refuse(key, "is missing")
		}
	}
	if (v.Grant == "refresh") != (v.RefreshToken != "") {
		refuse("refresh_token", "belongs to the grant refresh, and it alone")
	}
	if t := v.Client.VaultTransit; t != nil {
		problems = append(problems, t.problems(s, at, "client.vault_transit")...)
	}
	return append(problems, s.referenceProblem(at, "client.secret", v.Client.Secret)...)
}

func (v *oauthSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	if s.sealing == nil {
		return nil, errNoSealing
	}
	identity := w.identity(s)
	var c oauth.Config
	switch v.Vendor {
	case "openai":
		c = oauth.OpenAI(identity, v.IdentityProvider, v.ServiceAccount)
	case "anthropic":
		c = oauth.Anthropic(identity, v.FederationRule, v.Organization, v.ServiceAccount, v.Workspace)
	default:
		c = oauth.Config{
			TokenURL: v.TokenURL, RevocationURL: v.RevocationURL, Grant: oauthGrants(v.Grant), Subject: identity,
			SubjectType: v.SubjectType, RequestedType: v.RequestedType, NoScopes: v.NoScopes,
			Extra: v.Extra, Header: v.Headers, JSON: v.JSON,
		}
		if v.RefreshToken != "" {
			c.Keeper = oauth.NewFileKeeper(s.path(v.RefreshToken))
		}
		var err error
		if c.Client, err = v.Client.config(s, w, identity); err != nil {
			return nil, err
		}
	}
	if v.Audience != "" {
		c.Audience = v.Audience
	}
	c.AllowPlain, c.CAFile, c.Life, c.Timeout, c.Seal = v.AllowPlain, s.path(v.CAFile), v.Life, v.Timeout, s.sealing.AEAD()
	return oauth.New(c)
}

func (v *oauthClient) config(s *settings, w workshop, identity oauth.Signer) (oauth.Client, error) {
	c := oauth.Client{Method: oauth.Method(v.Method), ID: v.ID, KeyID: v.KeyID, Audience: v.Audience}
	if v.Secret != "" {
		load, err := s.loader(w, v.Secret)
		if err != nil {
			return c, err
		}
		c.Secret = oauth.Loader(load)
	}
	if v.IDToken {
		c.Assertion = identity
	}
	if v.VaultTransit != nil {
		var err error
		if c.Transit, err = v.VaultTransit.signer(w); err != nil {
			return c, err
		}
	}
	if v.Key == "" {
		return c, nil
	}
	text, err := keyfile.Read(s.path(v.Key))
	if err != nil {
		return c, err
	}
	c.Key, err = oauth.ParseKey(text)
	return c, err
}

// identity signs ID tokens of the broker's own, with the grant that each is for.
func (w workshop) identity(s *settings) oauth.Signer {
	return func(_ context.Context, audience string, about issuer.Spec) (cred.Secret, error) {
		claims := map[string]any{}
		if about.Grant != "" {
			claims["grant"] = string(about.Grant)
		}
		return w.idToken(s, audience, idTokenLife, claims)
	}
}

// copilotSection is the section of a Copilot seat; docs/issuers/copilot.md says what each key means.
type copilotSection struct {
	Seat                string        `yaml:"seat,required"` // file:PATH, env:NAME or vault:ISSUER/PATH#FIELD
	URL                 string        `yaml:"url"`
	Hosts               []string      `yaml:"hosts"`
	UserAgent           string        `yaml:"user_agent"`
	EditorVersion       string        `yaml:"editor_version"`
	EditorPluginVersion string        `yaml:"editor_plugin_version"`
	AllowPlain          bool          `yaml:"allow_plain"`
	CAFile              string        `yaml:"ca_file"`
	Timeout             time.Duration `yaml:"timeout"`
}

func (v *copilotSection) problems(s *settings, _ string, at *strictyaml.Node) strictyaml.Problems {
	return s.referenceProblem(at, "seat", v.Seat)
}

func (v *copilotSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	seat, err := s.loader(w, v.Seat)
	if err != nil {
		return nil, err
	}
	return copilot.New(copilot.Config{
		Seat: copilot.Loader(seat), URL: v.URL, Hosts: v.Hosts, AllowPlain: v.AllowPlain, CAFile: s.path(v.CAFile), Timeout: v.Timeout,
		UserAgent: v.UserAgent, EditorVersion: v.EditorVersion, EditorPluginVersion: v.EditorPluginVersion,
	})
}
