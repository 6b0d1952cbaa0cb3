// Package gitlab mints project access tokens of a GitLab, and rotates tokens that are kept elsewhere.
//
// GitLab knows a token's end only as a date: it ends at midnight UTC, so the broker revokes it when
// its grant ends. Each token's name carries the ID of its lease. So a token whose answer was lost is
// found by its name, and so is one that its holder has rotated to get rid of the lease.
//
// The API is described at https://docs.gitlab.com/api/project_access_tokens/. On gitlab.com project
// access tokens need a paid plan.
package gitlab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/flights"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	defaultBaseURL = "https://gitlab.com/api/v4"
	defaultTimeout = 15 * time.Second
)

// Config describes one GitLab.
type Config struct {
	BaseURL    string // of the REST API; empty: "https://gitlab.com/api/v4"
	AllowPlain bool   // permits http for a BaseURL on a loopback address, for development
	CAFile     string // PEM certificates to trust; empty: the system's

	// Root returns the token that makes and revokes the others: scope api, of an owner or maintainer
	// of each project. It is asked for each request, so that a rotation needs no restart.
	Root func(ctx context.Context) (cred.Secret, error)

	// Timeout bounds each request; zero means 15 s.
	Timeout time.Duration
}

// Issuer mints project access tokens. It is an issuer.Issuer and an issuer.Reserver, safe for
// concurrent use.
type Issuer struct {
	api   *tokenapi.API
	root  func(ctx context.Context) (cred.Secret, error)
	place string // tells this GitLab from others in handles
	now   func() time.Time

	flying *flights.Group // requests that mint

	mu      sync.Mutex               // owns flights
	flights map[string]chan struct{} // by the token's name; closed when it is over
}

// New returns an issuer that has asked nothing of GitLab yet. It fails with kind Invalid where the
// configuration can't work.
func New(cfg Config) (*Issuer, error) {
	if cfg.Root == nil {
		return nil, invalidConfig("a GitLab needs the token that makes the others", nil)
	}
	api, err := newAPI(&cfg)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(cfg.BaseURL))
	i := newIssuer(api, cfg.Root)
	i.place = hex.EncodeToString(sum[:6])
	return i, nil
}

func newIssuer(api *tokenapi.API, root func(context.Context) (cred.Secret, error)) *Issuer {
	return &Issuer{api: api, root: root, now: time.Now, flying: flights.New(), flights: map[string]chan struct{}{}}
}

// Close waits for requests that are minting now, for no longer than Timeout.
func (i *Issuer) Close() error {
	i.flying.Close(i.api.Client.Timeout)
	i.api.Client.HTTP.CloseIdleConnections()
	return nil
}

// Check asks GitLab about the root token. An error says what the operator has to do.
func (i *Issuer) Check(ctx context.Context) error {
	got, err := i.do(ctx, tokenapi.Call{Method: http.MethodGet, Path: "/personal_access_tokens/self", Want: http.StatusOK})
	if err != nil {
		return harmless("gitlab.check", err)
	}
	var self token
	if err := json.Unmarshal(got.Body, &self); err != nil {
		return issuer.NotIssued("gitlab.check", "", publicGone, err)
	}
	if !slices.Contains(self.Scopes, "api") {
		return invalidConfig("the GitLab token that makes the others lacks the scope api", nil)
	}
	return nil
}

// do sends a request with the root token; one that makes nothing is repeated.
func (i *Issuer) do(ctx context.Context, r tokenapi.Call) (tokenapi.Answer, error) {
	root, err := i.root(ctx)
	if err != nil {
		return tokenapi.Answer{}, noRoot(err)
	}
	r.Token = root
	return i.api.DoPatiently(ctx, r)
}

// noRoot says that the token which everything needs can't be had.
func noRoot(err error) error {
	return issuer.NotIssued("gitlab.root", "", "the broker can't get the GitLab token that makes the others; its operator has to look at it", err)
}

func invalidConfig(public string, err error) error {
	if err == nil {
		err = errors.New("gitlab: the configuration is not complete")
	}
	return &cred.Error{Kind: cred.Invalid, Op: "gitlab.config", Reason: "ISSUER_MISCONFIGURED", Public: public, Err: err}
}

// token is what GitLab says of one.
type token struct {
	ID          int64    `json:"id"`
	Name        string   `json:"name"`
	Scopes      []string `json:"scopes"`
	AccessLevel int      `json:"access_level"`
	ExpiresAt   string   `json:"expires_at"` // YYYY-MM-DD, or null
	Active      bool     `json:"active"`
	Revoked     bool     `json:"revoked"`
	Token       string   `json:"token"` // in the answer that made it alone
}

// spendable returns a token that can be sent in a header, or nothing.
func spendable(text string) cred.Secret {
	if len(text) > 4<<10 || !tokenapi.Printable(text) {
		return cred.Secret{}
	}
	return cred.SecretString(text)
}
