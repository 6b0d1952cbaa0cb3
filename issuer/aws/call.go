package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

const (
	// maxTries is how often a request is sent, where AWS did nothing with the earlier ones.
	maxTries = 3
	// firstPause is between the first two tries; each later pause is twice as long.
	firstPause = 200 * time.Millisecond
	// maxPause is the longest that AWS can make us wait within one call.
	maxPause = 5 * time.Second
)

// endpoint is one API of AWS, spoken to by the query protocol: a form goes in, XML comes out
// (https://docs.aws.amazon.com/STS/latest/APIReference/CommonParameters.html).
type endpoint struct {
	url    string
	client *tokenapi.Client
}

// query is one request, and what of it is secret.
type query struct {
	op     string // for the log
	form   url.Values
	secret cred.Secret
	sign   func(r *http.Request, body string) error // nil: it is not signed
}

// answer is a success.
type answer struct {
	body      []byte
	requestID string
}

func newEndpoint(url, caFile string, timeout time.Duration) (*endpoint, error) {
	client, err := tokenapi.New("aws.config", caFile, timeout)
	return &endpoint{url: strings.TrimSuffix(url, "/") + "/", client: client}, err
}

// call sends a request, which it makes afresh each time, until AWS does it or says that trying again does
// not help, or ctx leaves no time for it. What may have been done is never sent again.
func (e *endpoint) call(ctx context.Context, build func(context.Context) (*query, error)) (answer, error) {
	for n := 0; ; n++ {
		q, err := build(ctx)
		if err != nil {
			return answer{}, err
		}
		a, err := e.send(ctx, q)
		failed, ok := errors.AsType[*callError](err)
		if !ok || !failed.passing() || n+1 == maxTries || !pause(ctx, max(firstPause<<n, failed.retryAfter)) {
			return a, err
		}
	}
}

// pause waits, and reports false at once where ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	if end, ok := ctx.Deadline(); d > maxPause || ok && time.Until(end) <= d {
		return false
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// send sends a request once. STS would answer with JSON if that were asked for.
func (e *endpoint) send(ctx context.Context, q *query) (answer, error) {
	r := tokenapi.NewRequest(q.op)
	r.Params, r.Sign, r.Header = q.form, q.sign, map[string]string{"Accept": "text/xml"}
	r.Hide(q.secret)
	a, err := e.client.Post(ctx, e.url, r)
	if failed, ok := errors.AsType[*tokenapi.Error](err); ok {
		return answer{}, &callError{op: q.op, unsent: failed.Unsent, err: failed.Err}
	}
	id := r.Clean(a.Header.Get("X-Amzn-Requestid"), 64)
	if a.Status != http.StatusOK {
		failed := readError(r, a)
		failed.requestID = id
		return answer{}, failed
	}
	return answer{a.Body, id}, nil
}

// readError makes an error of an answer that is no success. Both APIs have the same form of it, each in a
// namespace of its own; what stands before them has none, and then the status is all there is.
func readError(r *tokenapi.Request, a tokenapi.Answer) *callError {
	e := &callError{op: r.Op, status: a.Status, retryAfter: a.RetryAfter(), skewed: skewed(a.Header), err: errors.New("no error of AWS'")}
	root, err := readXML(a.Body)
	if err == nil && root.name.Local == "ErrorResponse" {
		e.code = r.Clean(root.textAt("Error", "Code"), 64)
		e.err = fmt.Errorf("AWS says %q", r.Clean(root.textAt("Error", "Message"), 300))
	}
	return e
}

// skewed compares the clocks by the answer's Date (RFC 9110, section 6.6.1).
func skewed(h http.Header) bool {
	date, err := http.ParseTime(h.Get("Date"))
	return err == nil && time.Since(date).Abs() > maxSkew
}
