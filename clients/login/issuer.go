package login

import (
	"context"
	"net/http"
	"slices"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/daypass-io/daypass/cred"
)

// issuer is an OpenID provider as its discovery document describes it (OpenID Connect Discovery 1.0,
// section 3; RFC 8414, section 2; RFC 8628, section 4; RFC 9207, section 3).
type issuer struct {
	method   Method
	client   *http.Client
	provider *oidc.Provider
	metadata
}

type metadata struct {
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Device        string   `json:"device_authorization_endpoint"`
	Revocation    string   `json:"revocation_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	SaysIssuer    bool     `json:"authorization_response_iss_parameter_supported"`
}

// discover reads an issuer's metadata, and refuses an endpoint that must not see a token.
func discover(ctx context.Context, client *http.Client, m Method) (*issuer, error) {
	if err := checkEndpoint(m.Issuer, m.Issuer); err != nil {
		return nil, fault(cred.Invalid, "ISSUER_URL", err, "the issuer %s", err)
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), m.Issuer)
	if err != nil {
		return nil, fault(cred.Unavailable, "ISSUER_DISCOVERY", err, "the issuer %s does not describe itself as an OpenID provider; check its URL, to the last slash", m.Issuer)
	}
	i := &issuer{method: m, client: client, provider: provider}
	if err := provider.Claims(&i.metadata); err != nil {
		return nil, fault(cred.Unavailable, "ISSUER_DISCOVERY", err, "the issuer %s describes itself in a way that can't be read", m.Issuer)
	}
	return i, i.check()
}

func (i *issuer) check() error {
	for _, endpoint := range []string{i.Authorization, i.Token, i.Device, i.Revocation, i.Keys} {
		if endpoint == "" {
			continue
		}
		if err := checkEndpoint(i.method.Issuer, endpoint); err != nil {
			return fault(cred.Invalid, "ISSUER_ENDPOINT", err, "the issuer %s names an endpoint that can't be trusted with tokens: %s", i.method.Issuer, err)
		}
	}
	if i.Token == "" || i.Keys == "" {
		return fault(cred.Invalid, "ISSUER_ENDPOINT", nil, "the issuer %s names no token endpoint, or no keys", i.method.Issuer)
	}
	return nil
}

// config is the issuer as package oauth2 takes it. The client is public: it sends its ID in the body
// (RFC 6749, section 2.3.1), and never tries a second way with a code that is spent.
func (i *issuer) config(redirect string) *oauth2.Config {
	scopes := i.method.Scopes
	if len(scopes) == 0 {
		scopes = DefaultScopes
	}
	if !slices.Contains(scopes, oidc.ScopeOpenID) {
		scopes = append([]string{oidc.ScopeOpenID}, scopes...)
	}
	return &oauth2.Config{
		ClientID: i.method.ClientID, ClientSecret: i.method.ClientSecret, RedirectURL: redirect, Scopes: scopes,
		Endpoint: oauth2.Endpoint{AuthURL: i.Authorization, TokenURL: i.Token, DeviceAuthURL: i.Device, AuthStyle: oauth2.AuthStyleInParams},
	}
}

// with returns a context in which packages oauth2 and oidc use the issuer's client.
func (i *issuer) with(ctx context.Context) context.Context { return oidc.ClientContext(ctx, i.client) }
