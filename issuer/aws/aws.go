// Package aws mints credentials of AWS STS: the broker shows an ID token that it signs for itself, AWS
// verifies it against the broker's public keys, and hands out a session of a role
// (AssumeRoleWithWebIdentity, https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html).
// The broker keeps no key of AWS.
//
// Each session carries the grant's ID, as its name and as its source identity, so that CloudTrail tells
// whose it was. What it may do is the role's, and no more than a session policy that the target sets;
// its tags are signed into the ID token.
//
// AWS ends no session early and makes none shorter than 15 minutes. The policy of a session whose grant is
// shorter denies everything from the grant's end on. The leases say so.
//
// AccessKeys looks after the access keys of a user of IAM, for the rotation of keys that others hold.
//
// The requests are tokenapi's and not those of AWS' SDK, which sends again what may have been done and
// does not tell whether a request ever left. The SDK signs (Signature Version 4), and in the tests its STS
// client holds the fake to the protocol.
package aws

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// The bounds of a session's life: API_AssumeRoleWithWebIdentity, DurationSeconds.
const (
	minLife = 15 * time.Minute
	maxLife = 12 * time.Hour
)

// defaultAudience is what AWS' own tools use.
const defaultAudience = "sts.amazonaws.com"

// defaultTimeout bounds one request.
const defaultTimeout = 10 * time.Second

// Source makes an ID token of the broker's own identity for an audience, with further claims: those by
// which AWS gives the session its tags and its source identity. The algorithm must be one that AWS
// verifies, such as ES256; EdDSA is none.
type Source func(ctx context.Context, audience string, claims map[string]any) (cred.Secret, error)

// Config says where AWS is and which role to take. One of Region and Endpoint is needed.
type Config struct {
	Region     string // e.g. "eu-central-1": its STS endpoint is asked
	Endpoint   string // https URL of an STS endpoint, such as a VPC's own; empty: that of Region
	AllowPlain bool   // permit an http Endpoint on loopback addresses
	CAFile     string // PEM certificates to trust; empty: the system's

	RoleARN     string        // of targets without a path
	Source      Source        // the ID token that AWS is shown
	Audience    string        // of the ID token; empty: sts.amazonaws.com
	MaxDuration time.Duration // the longest life to ask for, at most what the roles allow; zero: 12 h

	Timeout time.Duration // for one request; zero: 10 s
}

// Issuer mints sessions of roles. It is an issuer.Issuer and issuer.Unfindable, safe for concurrent use.
type Issuer struct {
	cfg Config
	sts *endpoint
}

// New returns an issuer that has asked nothing yet. It fails with kind Invalid where the configuration
// can't work.
func New(cfg Config) (*Issuer, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	url := cfg.Endpoint
	if url == "" {
		url = stsURL(cfg.Region)
	}
	sts, err := newEndpoint(url, cfg.CAFile, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	return &Issuer{cfg: cfg, sts: sts}, nil
}

// Close closes idle connections.
func (i *Issuer) Close() error {
	i.sts.client.HTTP.CloseIdleConnections()
	return nil
}

// Check makes an ID token and asks AWS nothing: STS has no question that makes no session.
func (i *Issuer) Check(ctx context.Context) error {
	_, err := i.idToken(ctx, nil)
	return err
}

// Lost returns the latest end of a session whose answer was lost: AWS lists none.
func (i *Issuer) Lost(asked time.Time) (notAfter time.Time, note string) {
	return asked.Add(i.cfg.Timeout + i.cfg.MaxDuration),
		"AWS did not answer, so a session may exist that nobody holds; AWS can't list or end it, and the longest that the broker asks for ends then"
}
