package tokenapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
)

// API is a REST API at one address. It is safe for concurrent use.
type API struct {
	Client Client
	Base   string // the URL that paths are added to
	// Dress puts a token, and what else each request needs, into a header.
	Dress func(h http.Header, token cred.Secret)
	// Refusal reads an answer of another status than was wanted: what it says, for the log, where it is shown
	// without the call's token, and how long a rate limit lasts; zero where it is about none.
	Refusal func(a Answer) (said string, limited time.Duration)
}

// Call is one request to an API.
type Call struct {
	Method, Path string
	Token        cred.Secret
	Body         any           // sent as JSON where it is not nil
	Want         int           // the one status that means that it was done
	Timeout      time.Duration // zero: the client's
}

// CallError is how a call failed: with an answer of another status than was wanted, or without one.
type CallError struct {
	Op      string
	Answer  Answer        // the zero Answer is none
	Limited time.Duration // how long the server wants us to wait; zero: it does not limit us
	Unsent  bool          // there was never a connection
	Err     error
}

// Error returns the private text.
func (e *CallError) Error() string { return fmt.Sprintf("tokenapi: %s: %v", e.Op, e.Err) }

// Unwrap returns the cause.
func (e *CallError) Unwrap() error { return e.Err }

// CallOf returns the failed call in an error's chain, nil where there is none or where what it means has
// been told already.
func CallOf(err error) *CallError {
	if _, told := errors.AsType[*cred.Error](err); told {
		return nil
	}
	e, _ := errors.AsType[*CallError](err)
	return e
}

// StatusOf returns the status of the failed call that CallOf finds; zero: there is none.
func StatusOf(err error) int {
	if e := CallOf(err); e != nil {
		return e.Answer.Status
	}
	return 0
}

// Do sends a call once. Any status but the wanted one is a *CallError, and the answer is returned with it.
func (a *API) Do(ctx context.Context, c Call) (Answer, error) {
	op, client := c.Method+" "+c.Path, a.Client
	if c.Timeout > 0 {
		client.Timeout = c.Timeout
	}
	r, err := a.build(ctx, c)
	if err != nil {
		return Answer{}, &CallError{Op: op, Unsent: true, Err: err}
	}
	got, sent, err := client.Do(r)
	if err != nil {
		return Answer{}, &CallError{Op: op, Unsent: !sent, Err: err}
	}
	if got.Status != c.Want {
		said, limited := a.Refusal(got)
		return got, &CallError{Op: op, Answer: got, Limited: limited, Err: fmt.Errorf("status %d: %q", got.Status, shown(said, 200, c.Token))}
	}
	return got, nil
}

func (a *API) build(ctx context.Context, c Call) (*http.Request, error) {
	var body io.Reader
	if c.Body != nil {
		encoded, err := json.Marshal(c.Body, json.Deterministic(true))
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, c.Method, a.Base+c.Path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "daypass")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	a.Dress(r.Header, c.Token)
	return r, nil
}

// DoPatiently is Do as Patiently has it.
func (a *API) DoPatiently(ctx context.Context, c Call) (Answer, error) {
	return Patiently(ctx, c, func() (Answer, error) { return a.Do(ctx, c) })
}

// Patiently sends a call up to three times, while it is certain that it may be repeated and ctx leaves time
// for another try: the server limits us, or there was no connection, or, unless it is a POST, which makes
// something, the server does not answer or is in trouble.
func Patiently(ctx context.Context, c Call, send func() (Answer, error)) (Answer, error) {
	return patiently(ctx, send, func(err error) (time.Duration, bool) {
		failed := CallOf(err)
		if failed == nil {
			return 0, false
		}
		undone := failed.Limited > 0 || failed.Unsent
		trouble := failed.Answer.Status == 0 || failed.Answer.Status >= 500
		return failed.Limited, undone || c.Method != http.MethodPost && trouble
	})
}
