package vault

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// maxAnswer bounds what is read of one answer. Vault's own limit on a stored value is 1 MiB.
const maxAnswer = 4 << 20

// maxList bounds what is read of a list: a million names.
const maxList = 128 << 20

// tries is how often a request that may be repeated is sent in all.
const tries = 4

// maxPause is the longest that a caller is kept between two tries; a source that asks for more
// (Retry-After) is not tried again.
const maxPause = 5 * time.Second

// client sends requests to Vault. Vault's own library is told not to retry: whether a request may
// be repeated is known only to whoever makes it.
type client struct {
	api     *api.Client
	http    *http.Client
	timeout time.Duration
}

// request is one request. Of the two only params goes into a GET, only body into a POST.
type request struct {
	method string // GET or POST
	path   string // below /v1/
	token  cred.Secret
	body   map[string]any
	params url.Values
	remake func() map[string]any // makes the body anew for each try, where set
	wrap   time.Duration         // how long the wrapped answer may wait to be unwrapped; zero: not wrapped
	read   func(io.Reader) error // reads the answer of a GET in the place of Vault's library, anew for each try
	root   bool                  // goes to the root namespace, whichever is configured
}

func newClient(cfg Config) (*client, error) {
	if err := tokenapi.CheckURL("vault.config", "address", cfg.Address, true); err != nil {
		return nil, invalidConfig("Vault's address must be a URL such as https://vault.example.com:8200, since the broker's token is sent there; http is for loopback addresses", err)
	}
	var err error
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if transport.TLSClientConfig.RootCAs, err = outbound.CAs(cfg.CAFile); err != nil {
		return nil, invalidConfig("the file with Vault's CA certificates can't be used", err)
	}
	h := &http.Client{Transport: &careful{transport}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c, err := api.NewClient(&api.Config{Address: cfg.Address, HttpClient: h, MaxRetries: 0, DisableRedirects: true})
	if err != nil {
		return nil, invalidConfig("the settings for Vault can't be used", err)
	}
	c.ClearToken() // the library would take VAULT_TOKEN and VAULT_NAMESPACE from the environment
	c.ClearNamespace()
	if cfg.Namespace != "" {
		c.SetNamespace(cfg.Namespace)
	}
	return &client{api: c, http: h, timeout: cfg.Timeout}, nil
}

// doRetrying sends a request that may be repeated, up to four times while Vault does not answer, is
// sealed or is in trouble.
func (c *client) doRetrying(ctx context.Context, r request) (*api.Secret, error) {
	return retrying(ctx, passing, func() (*api.Secret, error) {
		if r.remake != nil {
			r.body = r.remake()
		}
		return c.do(ctx, r)
	})
}

// retrying tries up to four times while a failure is worth it, within ctx's deadline: it does not
// begin a pause that the deadline would cut.
func retrying(ctx context.Context, worth func(error) bool, try func() (*api.Secret, error)) (*api.Secret, error) {
	pause := 50 * time.Millisecond
	for n := 1; ; n++ {
		answer, err := try()
		if err == nil || n == tries || !worth(err) || ctx.Err() != nil {
			return answer, err
		}
		wait := max(pause/2+rand.N(pause), retryAfter(err)) //nolint:gosec // G404: spreads retries, guards nothing
		if deadline, ok := ctx.Deadline(); wait > maxPause || (ok && time.Until(deadline) <= wait) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(wait):
			pause *= 3
		}
	}
}

// do sends a request once, and not again under any circumstance. An answer without a body is nil.
func (c *client) do(ctx context.Context, r request) (*api.Secret, error) {
	return c.doWithin(ctx, c.timeout, r)
}

func (c *client) doWithin(ctx context.Context, timeout time.Duration, r request) (*api.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	var after time.Duration
	answer, err := c.send(ctx, r, &after)
	if err != nil {
		return nil, &callError{op: r.method + " " + r.path, status: responseStatus(err), unsent: !connected, after: after, err: err}
	}
	return answer, nil
}

func (c *client) send(ctx context.Context, r request, after *time.Duration) (*api.Secret, error) {
	as := c.api.WithRequestCallbacks(r.dress).
		WithResponseCallbacks(func(in *api.Response) { *after = waitAsked(in) }).Logical()
	var resp *api.Response
	var err error
	switch r.method {
	case "GET":
		resp, err = as.ReadRawWithDataWithContext(ctx, r.path, r.params)
	default:
		body, jsonErr := json.Marshal(r.body)
		if jsonErr != nil {
			return nil, jsonErr
		}
		resp, err = as.WriteRawWithContext(ctx, r.path, body)
	}
	if resp != nil {
		defer func() { _ = resp.Body.Close() }()
	}
	if err != nil {
		return nil, believed(resp, err)
	}
	if r.read != nil {
		return nil, r.read(resp.Body)
	}
	answer, err := api.ParseSecret(resp.Body)
	if err == nil && answer == nil && resp.StatusCode != http.StatusNoContent { // Vault says nothing with 204 alone
		return nil, &strangerError{resp.StatusCode}
	}
	return answer, err
}

// dress puts on a request what does not stand in its path or body.
func (r request) dress(out *api.Request) {
	out.ClientToken = r.token.RevealString()
	if r.wrap > 0 {
		out.WrapTTL = r.wrap.String()
	}
	if r.root {
		out.Headers.Del(api.NamespaceHeaderName)
	}
}

// waitAsked reads Retry-After in seconds (RFC 9110, section 10.2.3), the form that Vault's rate limits
// use.
func waitAsked(in *api.Response) time.Duration {
	if in == nil || in.Response == nil {
		return 0
	}
	n, _ := strconv.ParseUint(in.Header.Get("Retry-After"), 10, 16)
	return time.Duration(n) * time.Second
}

// login signs in at a path and returns what Vault says of the token.
func (c *client) login(ctx context.Context, path string, body map[string]any) (*api.SecretAuth, error) {
	answer, err := c.doRetrying(ctx, request{method: "POST", path: path, body: body})
	if err != nil {
		return nil, err
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return nil, &callError{op: "POST " + path, err: errors.New("the answer holds no token")}
	}
	return answer.Auth, nil
}

// careful bounds what is read of an answer and keeps net/http from repeating requests.
type careful struct{ next *http.Transport }

// RoundTrip sends a request. net/http would by itself repeat a GET when a connection that it kept
// turns out to be broken, but at Vault a GET can mint. A body, even an empty one, that can't be
// rewound rules that out.
func (t *careful) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		r = r.Clone(r.Context())
		r.Body, r.GetBody = emptyBody{}, nil
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		_ = resp.Body.Close()
		return nil, &redirectError{resp.StatusCode}
	}
	resp.Body = &boundedBody{resp.Body, bound(r)}
	return resp, nil
}

// bound is how much is read of the answer to a request, in bytes.
func bound(r *http.Request) int {
	if r.URL.Query().Get("list") == "true" {
		return maxList
	}
	return maxAnswer
}

// redirectError is an answer that points elsewhere. A standby that can't reach the active server gives
// one; to follow it would send our token to wherever it says, and Vault's library takes one that it
// does not follow for success.
type redirectError struct{ status int }

// Error returns the private text.
func (e *redirectError) Error() string { return fmt.Sprintf("redirected with status %d", e.status) }

// CloseIdleConnections closes the connections that are kept for later requests.
func (t *careful) CloseIdleConnections() { t.next.CloseIdleConnections() }

type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

// boundedBody fails when more is read than is left.
type boundedBody struct {
	io.ReadCloser
	left int
}

var errAnswerTooLong = errors.New("vault: the answer is too long")

// Read reads, or fails with errAnswerTooLong.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errAnswerTooLong
	}
	return n, err
}
