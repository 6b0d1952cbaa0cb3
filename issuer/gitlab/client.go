package gitlab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
)

const (
	// maxAnswer bounds what is read of one answer: a page of 100 tokens takes some 50 KiB.
	maxAnswer = 4 << 20
	// tries is how often a request is sent in all, where it may be repeated.
	tries = 3
)

// client sends requests to one GitLab.
type client struct {
	base    string
	http    *http.Client
	timeout time.Duration
}

// request is one request.
type request struct {
	method, path string
	bearer       cred.Secret
	body         any // encoded as JSON where it is not nil
	want         int // the one status that means that it was done
}

// answer is what GitLab answered; the zero answer is none.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// newClient checks the address and fills in what was left out.
func newClient(cfg *Config) (*client, error) {
	if cfg.BaseURL == "" {
		cfg.BaseURL = defaultBaseURL
	}
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if !outbound.Usable(cfg.BaseURL, cfg.AllowPlain) {
		return nil, invalidConfig("GitLab's address must be an https URL such as https://gitlab.example.com/api/v4, without a query", nil)
	}
	h, err := outbound.Client(cfg.CAFile)
	if err != nil {
		return nil, invalidConfig("the file with GitLab's CA certificates can't be used", err)
	}
	return &client{base: cfg.BaseURL, http: h, timeout: cfg.Timeout}, nil
}

// doRetrying sends a request up to three times, while it is certain that it may be repeated: GitLab
// limits us for no longer than the caller can wait, or there was no connection, or, unless it makes
// something, GitLab does not answer or is in trouble.
func (c *client) doRetrying(ctx context.Context, r request) (answer, error) {
	return retrying(ctx, r, func() (answer, error) { return c.do(ctx, r) })
}

func retrying(ctx context.Context, r request, send func() (answer, error)) (answer, error) {
	backoff := 50 * time.Millisecond
	for try := 1; ; try++ {
		got, err := send()
		failed := callOf(err)
		if failed == nil || try == tries || !failed.repeatable(r.method == http.MethodPost) {
			return got, err
		}
		wait := failed.limited
		if wait == 0 {
			wait = backoff/2 + rand.N(backoff) //nolint:gosec // G404: spreads retries, guards nothing
			backoff *= 3
		}
		if !outbound.Pause(ctx, wait) {
			return got, err
		}
	}
}

// do sends a request once. Any status but the wanted one is a *callError.
func (c *client) do(ctx context.Context, r request) (answer, error) {
	return c.doWithin(ctx, c.timeout, r)
}

func (c *client) doWithin(ctx context.Context, timeout time.Duration, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	got, err := c.send(ctx, r)
	if err != nil {
		return answer{}, &callError{op: r.method + " " + r.path, unsent: !connected.Load(), err: err}
	}
	if got.status != r.want {
		return got, refusedCall(r, got, time.Now())
	}
	return got, nil
}

func (c *client) send(ctx context.Context, r request) (answer, error) {
	var body io.Reader
	if r.body != nil {
		encoded, err := json.Marshal(r.body)
		if err != nil {
			return answer{}, err
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("PRIVATE-TOKEN", r.bearer.RevealString())
	req.Header.Set("User-Agent", "daypass")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(content) > maxAnswer {
		err = errors.New("gitlab: the answer is too long")
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: content}, err
}
