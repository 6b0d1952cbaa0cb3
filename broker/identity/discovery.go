package identity

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/daypass-io/daypass/internal/jwks"
)

// How an issuer's documents are fetched and how long they count.
const (
	fetchTimeout     = 5 * time.Second // for one request, and so for the first token of an issuer that hangs
	documentFresh    = time.Hour       // then the discovery document is fetched again, beside the work
	documentStale    = 24 * time.Hour  // then it is trusted no more
	firstRetry       = time.Second     // after a failure, doubling up to lastRetry
	lastRetry        = 30 * time.Second
	maxDocumentBytes = 1 << 20
)

// discovery knows where an issuer's keys are. It fetches the discovery document at the first use,
// in one flight however many ask, and keeps it while the issuer is down.
type discovery struct {
	issuer string
	plain  bool
	client *http.Client
	now    func() time.Time
	uses   []string // the JWKs' use to accept

	mu      sync.Mutex    // guards all below
	set     *jwks.Set     // nil until discovered
	jwksURI string        // where set fetches from
	at      time.Time     // when the document that set rests on was fetched
	flight  chan struct{} // closed when the fetch that runs now ends; nil when none runs
	retryAt time.Time     // no new fetch before
	delay   time.Duration // the wait that led to retryAt; zero after success
	failure error         // of the last fetch, nil after success
}

// keySource has the keys of one issuer. Its error is a *cred.Error of Kind Unauthenticated where the
// issuer has no such key; all others mean that nothing is known about the token.
type keySource interface {
	Key(ctx context.Context, kid, alg string) (crypto.PublicKey, error)
}

// newKeySource returns the keys at the provider's JWKSURL, or those that discovery leads to.
func newKeySource(p Provider, client *http.Client, now func() time.Time) keySource {
	uses := []string{"sig"}
	if p.TrustDomain != "" {
		uses = append(uses, "jwt-svid") // what a bundle has them marked with (JWT-SVID, section 6.1)
	}
	if p.JWKSURL != "" {
		return jwks.New(p.JWKSURL, jwks.Options{Client: client, Timeout: fetchTimeout, Now: now, Uses: uses})
	}
	return &discovery{issuer: p.Issuer, plain: p.AllowPlain, client: client, now: now, uses: uses}
}

// Key implements keySource.
func (d *discovery) Key(ctx context.Context, kid, alg string) (crypto.PublicKey, error) {
	set, err := d.keySet(ctx)
	if err != nil {
		return nil, err
	}
	return set.Key(ctx, kid, alg)
}

// keySet returns the issuer's keys, and waits for discovery only when there is no document that
// still counts.
func (d *discovery) keySet(ctx context.Context) (*jwks.Set, error) {
	set, flight, err := d.current(ctx)
	if flight == nil {
		return set, err
	}
	select {
	case <-flight:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the discovery of %s: %w", d.issuer, context.Cause(ctx))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.usable()
}

// current returns the keys or why there are none, or else the flight to wait for. It starts one
// where the document is missing or old and the last failure is long enough ago.
func (d *discovery) current(ctx context.Context) (*jwks.Set, <-chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	fresh := d.set != nil && now.Sub(d.at) < documentFresh
	if !fresh && d.flight == nil && !now.Before(d.retryAt) {
		d.flight = make(chan struct{})
		go d.fetch(context.WithoutCancel(ctx)) // the caller may leave, the others that wait do not
	}
	set, err := d.usable()
	if err != nil && d.flight != nil {
		return nil, d.flight, nil
	}
	return set, nil, err
}

// usable returns the keys if the document that they rest on still counts. The caller holds mu.
func (d *discovery) usable() (*jwks.Set, error) {
	switch {
	case d.set != nil && d.now().Sub(d.at) < documentStale:
		return d.set, nil
	case d.failure != nil:
		return nil, d.failure
	}
	return nil, errors.New("the issuer has not been discovered yet")
}

// fetch discovers the issuer and notes the outcome.
func (d *discovery) fetch(ctx context.Context) {
	uri, err := d.discover(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { close(d.flight); d.flight = nil }()
	if err != nil {
		d.failure = err
		d.delay = min(max(2*d.delay, firstRetry), lastRetry)
		d.retryAt = d.now().Add(d.delay)
		return
	}
	d.failure, d.delay, d.retryAt, d.at = nil, 0, time.Time{}, d.now()
	if uri != d.jwksURI {
		d.jwksURI = uri
		d.set = jwks.New(uri, jwks.Options{Client: d.client, Timeout: fetchTimeout, Now: d.now, Uses: d.uses})
	}
}

// discover fetches the discovery document and returns its jwks_uri. go-oidc holds the document's
// issuer against ours.
func (d *discovery) discover(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, d.client), fetchTimeout)
	defer cancel()
	provider, err := oidc.NewProvider(ctx, d.issuer)
	if err != nil {
		return "", err
	}
	var document struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return "", err
	}
	if message := urlProblem(document.JWKSURI, d.plain); message != "" {
		return "", fmt.Errorf("the discovery document's jwks_uri %q %s", document.JWKSURI, message)
	}
	return document.JWKSURI, nil
}
