// Package github mints installation access tokens of one GitHub App, on github.com, on a tenant of
// ghe.com or on GitHub Enterprise Server.
//
// GitHub's own defaults are "every repository" and "every permission", so this package never leaves
// anything to them: each request names its repositories and permissions, the answer is compared with
// what was asked, and a token that differs is revoked and nobody gets it.
//
// A token lives an hour, whatever the grant; the broker revokes it when its grant ends. GitHub has no
// list of an app's tokens, and a token can be revoked with the token itself alone. So each lease's
// handle holds its token, encrypted; and a token whose answer was lost can't be found by anybody:
// see Lost.
//
// The API is described at https://docs.github.com/en/rest/apps/apps and
// https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app.
package github

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/flights"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

const (
	defaultBaseURL = "https://api.github.com"
	defaultTimeout = 15 * time.Second

	// maxLife is the longest that GitHub lets a token live.
	maxLife = time.Hour
)

// Config describes one GitHub App.
type Config struct {
	App        string // the app's client ID, e.g. "Iv23liABCDEFGHIJKLMN", or its app ID in digits
	BaseURL    string // of the REST API; empty: "https://api.github.com". GHES: "https://HOST/api/v3"
	AllowPlain bool   // permits http for a BaseURL on a loopback address, for development
	CAFile     string // PEM certificates to trust; empty: the system's

	Signer Signer // has the app's private key
	Sealer Sealer // encrypts what leases keep

	// Timeout bounds each request to GitHub; zero means 15 s.
	Timeout time.Duration
}

// Sealer encrypts the tokens in handles, under a key that outlives the process. A tink.AEAD is one.
type Sealer interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// Issuer mints tokens of one GitHub App. It is an issuer.Issuer, safe for concurrent use.
type Issuer struct {
	baseURL string
	timeout time.Duration
	api     *tokenapi.API
	app     *appTokens
	sealer  Sealer

	flying *flights.Group // requests that mint

	mu            sync.Mutex              // owns what follows
	installations map[string]installation // by owner in lower case
}

// appID is a client ID or an app ID.
var appID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// New returns an issuer that has asked nothing of GitHub yet. It fails with kind Invalid where the
// configuration can't work.
func New(cfg Config) (*Issuer, error) {
	switch {
	case !appID.MatchString(cfg.App):
		return nil, invalidConfig("a GitHub App is named by its client ID or by its app ID", nil)
	case cfg.Signer == nil:
		return nil, invalidConfig("a GitHub App needs its private key", nil)
	case cfg.Sealer == nil:
		return nil, invalidConfig("a GitHub App needs the key that seals the store", nil)
	}
	if cfg.BaseURL == "" {
		cfg.BaseURL = defaultBaseURL
	}
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	api, err := newAPI(cfg)
	if err != nil {
		return nil, err
	}
	i := &Issuer{
		baseURL: cfg.BaseURL, timeout: cfg.Timeout, api: api, sealer: cfg.Sealer,
		app:           &appTokens{app: cfg.App, signer: cfg.Signer, now: time.Now},
		installations: map[string]installation{}, flying: flights.New(),
	}
	return i, nil
}

// Close waits for requests that are minting now, for no longer than Timeout.
func (i *Issuer) Close() error {
	i.flying.Close(i.timeout)
	i.api.Client.HTTP.CloseIdleConnections()
	return nil
}

// Check asks GitHub who the app is. An error says what the operator has to do.
func (i *Issuer) Check(ctx context.Context) error {
	_, err := asApp(ctx, i, func(jwt cred.Secret) (tokenapi.Answer, error) {
		return i.api.DoPatiently(ctx, tokenapi.Call{Method: "GET", Path: "/app", Token: jwt, Want: 200})
	})
	if err != nil {
		return harmless("github.check", err)
	}
	return nil
}

// Lost tells what becomes of a token that was asked for at an instant, or before, and of which no
// answer was seen, because the process died or the connection broke: the latest end that it can
// have, and a sentence about it for people.
func (i *Issuer) Lost(asked time.Time) (notAfter time.Time, note string) {
	return asked.Add(i.timeout + maxLife), "GitHub's answer was lost: GitHub lists no tokens, so one that was made can't be revoked and ends by itself, an hour after it was made"
}

func invalidConfig(public string, err error) error {
	if err == nil {
		err = errors.New("github: the configuration is not complete")
	}
	return &cred.Error{Kind: cred.Invalid, Op: "github.config", Reason: "ISSUER_MISCONFIGURED", Public: public, Err: err}
}
