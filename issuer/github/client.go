package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
)

const (
	// apiVersion is one that github.com and every supported GHES know.
	apiVersion = "2022-11-28"
	// maxAnswer bounds what is read of one answer: 500 repositories take some 6 KiB each.
	maxAnswer = 8 << 20
	// tries is how often a request is sent in all, where it may be repeated.
	tries = 3
)

// client sends requests to one GitHub.
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

// answer is what GitHub answered; the zero answer is none.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func newClient(cfg Config) (*client, error) {
	if !outbound.Usable(cfg.BaseURL, cfg.AllowPlain) {
		return nil, invalidConfig("the API's address must be an https URL such as https://github.example.com/api/v3, without a query", nil)
	}
	h, err := outbound.Client(cfg.CAFile)
	if err != nil {
		return nil, invalidConfig("the file with GitHub's CA certificates can't be used", err)
	}
	return &client{base: cfg.BaseURL, http: h, timeout: cfg.Timeout}, nil
}

// doRetrying sends a request that may be repeated, up to three times, while GitHub does not answer,
// is in trouble, or limits us for no longer than the caller can wait.
func (c *client) doRetrying(ctx context.Context, r request) (answer, error) {
	backoff := 50 * time.Millisecond
	for try := 1; ; try++ {
		got, err := c.do(ctx, r)
		failed := callOf(err)
		if failed == nil || try == tries || !failed.passing() {
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
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	got, err := c.send(ctx, r)
	if err != nil {
		return answer{}, &callError{op: r.method + " " + r.path, unsent: !connected.Load(), err: err}
	}
	if got.status != r.want {
		return answer{}, refusedCall(r, got, time.Now())
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
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("Authorization", "Bearer "+r.bearer.RevealString())
	req.Header.Set("User-Agent", "daypass")
	req.Header.Set("X-GitHub-Api-Version", apiVersion)
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
		err = errors.New("github: the answer is too long")
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: content}, err
}
