// Package azure mints access tokens of Microsoft Entra applications with a federated credential: the
// broker's own ID token takes the place of a client secret, and none is stored.
//
// Entra can't revoke such a token, nor make one that lives for less than it likes: some 60 to 90
// minutes. So a token outlives a shorter grant, and its lease says so.
package azure

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	defaultAuthority = "https://login.microsoftonline.com"
	defaultTimeout   = 10 * time.Second

	// longestLife is the most that a tenant's policy can set for an access token:
	// https://learn.microsoft.com/entra/identity-platform/configurable-token-lifetimes
	longestLife = 24 * time.Hour

	opConfig = "azure.config"
)

var (
	// tenantName is a tenant's ID, or a domain of it.
	tenantName = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)
	// clientID is an application's ID.
	clientID = regexp.MustCompile(`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`)
)

// Config says whose federated credential trusts the broker.
type Config struct {
	Tenant   string // its ID, or a domain of it
	ClientID string // of the application or managed identity; empty: each target names its own by its path
	// Source signs an ID token of the broker's own identity for an audience, with a life from now on and
	// further claims.
	Source func(ctx context.Context, audience string, life time.Duration, claims map[string]any) (cred.Secret, error)
	// Audience is the ID token's and the federated credential's; empty: "api://AzureADTokenExchange", or
	// what that is called in the cloud of the authority.
	Audience string

	Authority  string        // empty: "https://login.microsoftonline.com"; a sovereign cloud has another
	AllowPlain bool          // permit http to loopback addresses
	CAFile     string        // PEM certificates to trust; empty: the system's
	Timeout    time.Duration // for one request; zero: 10 s
}

// Issuer mints in one tenant. It is an issuer.Issuer and an issuer.Unfindable, safe for concurrent use.
type Issuer struct {
	cfg  Config
	http *tokenapi.Client
}

// New returns an issuer that has asked nothing yet. It fails with kind Invalid where the
// configuration can't work.
func New(cfg Config) (*Issuer, error) {
	cfg.setDefaults()
	switch {
	case !tenantName.MatchString(cfg.Tenant) || slices.Contains([]string{"common", "organizations", "consumers"}, strings.ToLower(cfg.Tenant)):
		return nil, invalidConfig("tenant must be the ID or a domain of one tenant; an application has no identity of its own in common, organizations and consumers", "bad tenant")
	case cfg.ClientID != "" && !clientID.MatchString(cfg.ClientID):
		return nil, invalidConfig("client_id must be the application (client) ID, a UUID; the object ID is another one", "bad client ID")
	case cfg.Source == nil:
		return nil, invalidConfig("a federated credential needs the broker's own ID tokens", "no source")
	case cfg.Timeout < 0:
		return nil, invalidConfig("the timeout can't be negative", "negative timeout")
	}
	if err := tokenapi.CheckURL(opConfig, "authority", cfg.Authority, cfg.AllowPlain); err != nil {
		return nil, err
	}
	h, err := tokenapi.New(opConfig, cfg.CAFile, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	return &Issuer{cfg: cfg, http: h}, nil
}

func (cfg *Config) setDefaults() {
	if cfg.Authority == "" {
		cfg.Authority = defaultAuthority
	}
	cfg.Authority = strings.TrimRight(cfg.Authority, "/")
	if cfg.Audience == "" {
		cfg.Audience = audienceOf(cfg.Authority)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
}

// audienceOf is the audience that a cloud recommends for federated credentials:
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations
func audienceOf(authority string) string {
	const public = "api://AzureADTokenExchange"
	u, err := url.Parse(authority)
	if err != nil {
		return public
	}
	switch u.Hostname() {
	case "login.microsoftonline.us":
		return public + "USGov"
	case "login.partner.microsoftonline.cn", "login.chinacloudapi.cn":
		return public + "China"
	}
	return public
}

// Close gives connections back.
func (i *Issuer) Close() error {
	i.http.HTTP.CloseIdleConnections()
	return nil
}

// Check signs an ID token and asks Entra nothing: Entra reads the broker's keys to answer, and the
// broker may not serve them yet.
func (i *Issuer) Check(ctx context.Context) error {
	if _, err := i.cfg.Source(ctx, i.cfg.Audience, assertionLife, nil); err != nil {
		return issuer.NotIssued("azure.check", "", publicSource, err)
	}
	return nil
}

// Revoke refuses: nothing ends an application's token but its own end.
func (i *Issuer) Revoke(context.Context, cred.Lease) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "azure.revoke", Reason: "NOT_REVOCABLE",
		Public: "Microsoft Entra can't revoke an application's access token; this one is valid until its own end",
	}
}

// Lost tells what becomes of a token that was asked for at an instant, or before, and of which no answer
// was seen.
func (i *Issuer) Lost(asked time.Time) (notAfter time.Time, note string) {
	return asked.Add(i.cfg.Timeout + longestLife), "Entra's answer was lost: Entra lists no tokens, so one that was made can't be revoked and ends by itself, after some 60 to 90 minutes or, where a policy of the tenant says so, at the latest after a day; nobody has it"
}

func invalidConfig(public, private string) error {
	return &cred.Error{Kind: cred.Invalid, Op: opConfig, Public: public, Err: errors.New("azure: " + private)}
}
