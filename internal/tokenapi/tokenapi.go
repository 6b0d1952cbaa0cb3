// Package tokenapi talks to servers that make tokens: token endpoints, which take a POST, and REST APIs.
// No redirect, a bounded answer, and an error that tells how far the request can have come. The drivers of
// such sources are built on it: what an error means for a lease is theirs to say.
package tokenapi

import (
	"cmp"
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
	maxAnswer = int64(256 << 10) // bytes read of one answer, unless a client says otherwise
	tries     = 3                // of a request that may be repeated
)

// Client sends requests. It is safe for concurrent use.
type Client struct {
	HTTP      *http.Client
	Timeout   time.Duration // bounds each request
	MaxAnswer int64         // bytes read of one answer; zero: 256 KiB
}

// New returns a client that trusts the certificates of a PEM file, or the system's where its name is
// empty. Each request is bounded by timeout. Errors are Invalid.
func New(op, caFile string, timeout time.Duration) (*Client, error) {
	client, err := outbound.Client(caFile)
	if err != nil {
		return nil, invalid(op, "the file with the token server's CA certificates can't be used", err.Error())
	}
	return &Client{HTTP: client, Timeout: timeout}, nil
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

// Do sends a request once, of whatever method. Any status is an answer. With an error, sent tells whether
// there was a connection: without one nothing was done.
func (c *Client) Do(r *http.Request) (a Answer, sent bool, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), c.Timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	asked := time.Now()
	resp, err := c.HTTP.Do(r.WithContext(ctx))
	if err != nil {
		return Answer{}, connected.Load(), err
	}
	defer func() { _ = resp.Body.Close() }()
	longest := cmp.Or(c.MaxAnswer, maxAnswer)
	body, err := io.ReadAll(io.LimitReader(resp.Body, longest+1))
	if err == nil && int64(len(body)) > longest {
		err = errors.New("the answer is too long")
	}
	if err != nil {
		return Answer{}, true, err
	}
	return Answer{Status: resp.StatusCode, Body: body, Header: resp.Header, Asked: asked}, true, nil
}

// Post sends a request once and never again: it may mint, or spend a refresh token. (net/http by
// itself repeats no POST of which anything was sent.) Any status is an answer; an error is an *Error
// without a status.
func (c *Client) Post(ctx context.Context, to string, r *Request) (Answer, error) {
	out, err := r.build(ctx, to)
	if err != nil {
		return Answer{}, &Error{Op: r.Op, Unsent: true, Err: err}
	}
	a, sent, err := c.Do(out)
	if err != nil {
		return Answer{}, &Error{Op: r.Op, Unsent: !sent, Err: err}
	}
	return a, nil
}

// PostPatiently sends a request up to three times, while it fails as again accepts and the context
// leaves time for another try. A status other than 200 and 201 is an *Error, too, and one that came after a
// try of which it is open what it did says so.
func (c *Client) PostPatiently(ctx context.Context, to string, r *Request, again func(*Error) bool) (Answer, error) {
	doubt := false
	return patiently(ctx, func() (Answer, error) {
		a, err := c.Post(ctx, to, r)
		if err == nil && !a.ok() {
			err = r.Failure(a)
		}
		if failed, ok := errors.AsType[*Error](err); ok {
			failed.Doubt, doubt = doubt, doubt || failed.Open()
		}
		return a, err
	}, func(err error) (time.Duration, bool) {
		failed, ok := errors.AsType[*Error](err)
		if !ok || !again(failed) {
			return 0, false
		}
		return failed.RetryAfter, true
	})
}

// patiently sends up to three times, while again accepts how it failed and ctx leaves time for another try.
// What again returns is how long the server wants to be left alone; zero where it does not say.
func patiently(ctx context.Context, send func() (Answer, error), again func(error) (time.Duration, bool)) (Answer, error) {
	backoff := 100 * time.Millisecond
	for try := 1; ; try++ {
		a, err := send()
		wait, repeat := again(err)
		if !repeat || try == tries {
			return a, err
		}
		if wait == 0 {
			wait = backoff/2 + rand.N(backoff) //nolint:gosec // G404: spreads retries, guards nothing
			backoff *= 3
		}
		if !outbound.Pause(ctx, wait) {
			return a, err
		}
	}
}
