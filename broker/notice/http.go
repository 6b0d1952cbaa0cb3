package notice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
)

// maxAnswer bounds what is read of a receiver's answer, in bytes.
const maxAnswer = 64 << 10

// receiver is an HTTP endpoint that takes notices.
type receiver struct {
	op     string // for errors, e.g. "notice.webhook"
	client *http.Client
	now    func() time.Time
}

// newReceiver returns a receiver whose client follows no redirect: a notice goes where the operator
// said, or nowhere. caFile may be empty, for the system's CAs.
func newReceiver(op, caFile string, now func() time.Time) (*receiver, error) {
	client, err := outbound.Client(caFile)
	if err != nil {
		return nil, badCAFile(op, err)
	}
	if now == nil {
		now = time.Now
	}
	transport := client.Transport.(*http.Transport)
	transport.ResponseHeaderTimeout = sendWithin
	transport.MaxResponseHeaderBytes = maxAnswer
	return &receiver{op: op, client: client, now: now}, nil
}

func badCAFile(op string, cause error) error {
	return cred.Errorf(cred.Invalid, op, "the CA file of a notice channel can't be used", "%w", cause)
}

// checkURL accepts https, and http on a loopback address where plain is allowed. Its errors do not
// repeat the URL, which may be a secret.
func checkURL(op, text string, allowPlain bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return refusedOption(op, "must be a URL with a host, and no user information or fragment")
	case u.Scheme == "https", u.Scheme == "http" && allowPlain && isLoopback(u.Hostname()):
		return nil
	}
	return refusedOption(op, "must be https; http needs allow_plain and a loopback address")
}

func refusedOption(op, rule string) error {
	return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "CHANNEL_INVALID", Public: "the address of a notice channel " + rule}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// answer is what a receiver said.
type answer struct {
	status     int
	retryAfter string // the header
	body       []byte // cut at maxAnswer
}

// post sends a body and returns the answer. The error is Unavailable, and shows of the URL its host at
// most.
func (r *receiver) post(ctx context.Context, to string, header http.Header, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return answer{}, r.unreachable(errors.New("the request can't be made")) // err holds the URL
	}
	req.Header = header
	req.Header.Set("User-Agent", "daypass")
	res, err := r.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL
		}
		return answer{}, r.unreachable(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer{}, r.unreachable(err)
	}
	return answer{res.StatusCode, res.Header.Get("Retry-After"), text}, nil
}

func (r *receiver) unreachable(err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: r.op, Reason: "RECEIVER_UNREACHABLE", Public: "the receiver of the notice can't be reached, or its answer was lost", Err: err}
}

// accepted returns nil for an answer of 2xx, else an error as the Standard Webhooks specification
// suggests ("Delivery success and failure"): 410 ends the matter, and Retry-After is heeded.
func (r *receiver) accepted(a answer) error {
	code := a.status
	if code >= 200 && code <= 299 {
		return nil
	}
	e := &cred.Error{Kind: cred.Unavailable, Op: r.op, Reason: "RECEIVER_REFUSED", Public: fmt.Sprintf("the receiver of the notice answered with status %d", code)}
	switch {
	case code == http.StatusGone:
		e.Kind, e.Reason = cred.Invalid, "RECEIVER_GONE"
		return e
	case code >= 300 && code <= 399:
		e.Public += ", a redirect, which is not followed"
	}
	if wait := r.waitAsked(a.retryAfter, code); wait > 0 {
		return &busy{e, wait}
	}
	return e
}

// throttled is the pause after a 429, 502 or 504 that names none.
const throttled = 30 * time.Second

// waitAsked reads Retry-After (RFC 9110, section 10.2.3): seconds or a date.
func (r *receiver) waitAsked(text string, code int) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(r.now()), 0)
	}
	switch code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		return throttled
	}
	return 0
}

// busy is the error of a receiver that says when to come back.
type busy struct {
	err  *cred.Error
	wait time.Duration
}

// Error returns the private text, for our own logs.
func (b *busy) Error() string { return b.err.Error() + "; to be tried again in " + b.wait.String() }

// Unwrap returns the error itself.
func (b *busy) Unwrap() error { return b.err }

// RetryAfter returns how long the receiver is to be left alone.
func (b *busy) RetryAfter() time.Duration { return b.wait }
