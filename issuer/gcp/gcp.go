// Package gcp mints access tokens of Google Cloud by workload identity federation: the broker's own ID
// token is exchanged at Google's Security Token Service, and no key of a service account is stored.
//
// A target without a path gives out the federated token itself; one with a path gives out a token of the
// service account that the path names. Either can be narrowed by a Credential Access Boundary.
//
// Google can't revoke a token. So each is asked for with no longer a life than the grant has left; a
// federated token has none to ask for and ends with the ID token that it was made from, so that one is
// made to last as long.
package gcp

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	defaultSTS     = "https://sts.googleapis.com"
	defaultIAM     = "https://iamcredentials.googleapis.com"
	defaultTimeout = 10 * time.Second

	hour        = time.Hour      // the life of a federated token, and of a service account's, at most
	longestLife = 12 * time.Hour // of a service account's token, with the exemption of an organization policy

	opConfig = "gcp.config"
)

// providerName is the full resource name of a provider. Google wants the project's number in it.
var providerName = regexp.MustCompile(`^projects/[0-9]{1,20}/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}$`)

// Config says which workload identity provider trusts the broker.
type Config struct {
	// Provider is the full name of the provider,
	// "projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER", with or without
	// "//iam.googleapis.com/" before it.
	Provider string
	// Source signs an ID token of the broker's own identity for an audience, with a life from now on and
	// further claims.
	Source func(ctx context.Context, audience string, life time.Duration, claims map[string]any) (cred.Secret, error)
	// Audience is the ID token's; empty: "https://iam.googleapis.com/" and the provider, which a provider
	// accepts that has no other audiences set.
	Audience string

	STSURL     string // base of the Security Token Service; empty: "https://sts.googleapis.com"
	IAMURL     string // base of the Service Account Credentials API; empty: "https://iamcredentials.googleapis.com"
	AllowPlain bool   // permit http to loopback addresses
	CAFile     string // PEM certificates to trust; empty: the system's

	// MaxLife is the longest life of a service account's token; zero: 1 h. More, up to 12 h, needs the
	// organization policy constraint iam.allowServiceAccountCredentialLifetimeExtension.
	MaxLife time.Duration
	Timeout time.Duration // for one request; zero: 10 s
}

// Issuer mints through one provider. It is an issuer.Issuer and an issuer.Unfindable, safe for
// concurrent use.
type Issuer struct {
	cfg  Config
	http *tokenapi.Client
}

// New returns an issuer that has asked nothing yet. It fails with kind Invalid where the
// configuration can't work.
func New(cfg Config) (*Issuer, error) {
	cfg.setDefaults()
	switch {
	case !providerName.MatchString(cfg.Provider):
		return nil, invalidConfig("provider must be the full name of a workload identity provider, with the project's number: projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER", "bad provider")
	case cfg.Source == nil:
		return nil, invalidConfig("workload identity federation needs the broker's own ID tokens", "no source")
	case cfg.MaxLife < time.Minute || cfg.MaxLife > longestLife:
		return nil, invalidConfig("max_life must lie between a minute and 12 hours", "max life out of bounds")
	case cfg.Timeout < 0:
		return nil, invalidConfig("the timeout can't be negative", "negative timeout")
	}
	for name, text := range map[string]string{"sts_url": cfg.STSURL, "iam_url": cfg.IAMURL} {
		if err := tokenapi.CheckURL(opConfig, name, text, cfg.AllowPlain); err != nil {
			return nil, err
		}
	}
	h, err := tokenapi.New(opConfig, cfg.CAFile, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	return &Issuer{cfg: cfg, http: h}, nil
}

func (cfg *Config) setDefaults() {
	for _, prefix := range []string{"//iam.googleapis.com/", "https://iam.googleapis.com/"} {
		cfg.Provider = strings.TrimPrefix(cfg.Provider, prefix)
	}
	if cfg.Audience == "" {
		cfg.Audience = "https://iam.googleapis.com/" + cfg.Provider
	}
	if cfg.STSURL == "" {
		cfg.STSURL = defaultSTS
	}
	if cfg.IAMURL == "" {
		cfg.IAMURL = defaultIAM
	}
	cfg.STSURL, cfg.IAMURL = strings.TrimRight(cfg.STSURL, "/"), strings.TrimRight(cfg.IAMURL, "/")
	if cfg.MaxLife == 0 {
		cfg.MaxLife = hour
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
}

// Close gives connections back.
func (i *Issuer) Close() error {
	i.http.HTTP.CloseIdleConnections()
	return nil
}

// Check signs an ID token and asks Google nothing: Google reads the broker's keys to answer, and the
// broker may not serve them yet.
func (i *Issuer) Check(ctx context.Context) error {
	if _, err := i.cfg.Source(ctx, i.cfg.Audience, time.Minute, nil); err != nil {
		return issuer.NotIssued("gcp.check", "", publicSource, err)
	}
	return nil
}

// Revoke refuses: nothing ends a token of Google's but its own end.
func (i *Issuer) Revoke(context.Context, cred.Lease) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "gcp.revoke", Reason: "NOT_REVOCABLE",
		Public: "Google can't revoke an access token; this one is valid until its own end",
	}
}

// Lost tells what becomes of a token that was asked for at an instant, or before, and of which no answer
// was seen.
func (i *Issuer) Lost(asked time.Time) (notAfter time.Time, note string) {
	longest := max(i.cfg.MaxLife, hour) // of which the latter is a federated token's
	return asked.Add(i.cfg.Timeout + longest), "Google's answer was lost: Google lists no tokens, so one that was made can't be revoked and ends by itself, with the grant that it was for or at the latest at the end that is set here; nobody has it"
}

func invalidConfig(public, private string) error {
	return &cred.Error{Kind: cred.Invalid, Op: opConfig, Public: public, Err: errors.New("gcp: " + private)}
}
