// Package tokenapi talks to endpoints that make tokens: one POST, no redirect, a bounded answer, and an
// error that tells how far the request can have come. The drivers of such sources are built on it: what
// an error means for a lease is theirs to say.
package tokenapi

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
)

const (
	maxAnswer = 256 << 10 // bytes read of one answer
	tries     = 3         // of a request that may be repeated
)

// Client sends requests. It is safe for concurrent use.
type Client struct {
	HTTP    *http.Client
	timeout time.Duration
}

// New returns a client that trusts the certificates of a PEM file, or the system's where its name is
// empty. Each request is bounded by timeout. Errors are Invalid.
func New(op, caFile string, timeout time.Duration) (*Client, error) {
	client, err := outbound.Client(caFile)
	if err != nil {
		return nil, invalid(op, "the file with the token server's CA certificates can't be used", err.Error())
	}
	return &Client{HTTP: client, timeout: timeout}, nil
}

// CheckURL refuses all but https, and http to loopback where that is allowed. Name is what the
// configuration calls the URL. Errors are Invalid.
func CheckURL(op, name, text string, allowPlain bool) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return invalid(op, name+" must be a URL such as https://login.example.com/oauth/token, without a user and without a fragment", "bad URL")
	}
	if u.Scheme == "https" || u.Scheme == "http" && allowPlain && outbound.Loopback(u.Hostname()) {
		return nil
	}
	return invalid(op, name+" must begin with https://, since what is sent there is secret; http is for loopback addresses and only with allow_plain", "not https")
}

func invalid(op, public, private string) error {
	return &cred.Error{Kind: cred.Invalid, Op: op, Public: public, Err: errors.New("tokenapi: " + private)}
}

// Post sends a request once and never again: it may mint, or spend a refresh token. (net/http by
// itself repeats no POST of which anything was sent.) Any status is an answer; an error is an *Error
// without a status.
func (c *Client) Post(ctx context.Context, to string, r *Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	asked := time.Now()
	out, err := r.build(ctx, to)
	if err != nil {
		return Answer{}, &Error{Op: r.Op, Unsent: true, Err: err}
	}
	resp, err := c.HTTP.Do(out)
	if err != nil {
		return Answer{}, &Error{Op: r.Op, Unsent: !connected.Load(), Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	if err != nil {
		return Answer{}, &Error{Op: r.Op, Err: err}
	}
	return Answer{Status: resp.StatusCode, Body: body, Header: resp.Header, Asked: asked}, nil
}

// PostPatiently sends a request up to three times, while it fails as again accepts and the context
// leaves time for another try. A status other than 200 and 201 is an *Error, too, and one that came after a
// try of which it is open what it did says so.
func (c *Client) PostPatiently(ctx context.Context, to string, r *Request, again func(*Error) bool) (Answer, error) {
	backoff, doubt := 100*time.Millisecond, false
	for try := 1; ; try++ {
		a, err := c.Post(ctx, to, r)
		if err == nil && !a.ok() {
			err = r.Failure(a)
		}
		failed, _ := errors.AsType[*Error](err)
		if failed != nil {
			failed.Doubt, doubt = doubt, doubt || failed.Open()
		}
		if failed == nil || try == tries || !again(failed) {
			return a, err
		}
		wait := failed.RetryAfter
		if wait == 0 {
			wait = backoff/2 + rand.N(backoff) //nolint:gosec // G404: spreads retries, guards nothing
			backoff *= 3
		}
		if !outbound.Pause(ctx, wait) {
			return a, err
		}
	}
}
