package github

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicApp     = "GitHub does not accept the broker's GitHub App; its operator has to look at the app's ID, its private key and the broker's clock"
	publicRefused = "GitHub refused to make this token: the app's installation lacks one of the repositories or permissions, or is suspended; its operator has to look at it"
	publicLimited = "GitHub limits how often the broker may ask; try again later"
	publicGone    = "GitHub can't be reached; try again in a moment"
	publicLost    = "GitHub did not answer, so it is not known whether a token was made; one that was made ends by itself within an hour, and nobody has it; try again"
)

// callError is how one request failed: with an answer of another status than was wanted, or without
// one.
type callError struct {
	op      string
	answer  answer
	limited time.Duration // how long GitHub wants us to wait; zero: it does not limit us
	unsent  bool          // there was never a connection
	err     error
}

// Error returns the private text.
func (e *callError) Error() string { return fmt.Sprintf("github: %s: %v", e.op, e.err) }

// Unwrap returns the cause.
func (e *callError) Unwrap() error { return e.err }

// passing reports whether the same request may go well a moment later.
func (e *callError) passing() bool {
	return e.answer.status == 0 || e.answer.status >= 500 || e.limited > 0
}

// callOf returns the failed request in an error's chain, nil where there is none or where what it
// means has been told already.
func callOf(err error) *callError {
	if _, told := errors.AsType[*cred.Error](err); told {
		return nil
	}
	e, _ := errors.AsType[*callError](err)
	return e
}

func statusOf(err error) int {
	if e := callOf(err); e != nil {
		return e.answer.status
	}
	return 0
}

// problem is the body of GitHub's errors.
type problem struct {
	Message string `json:"message"`
	URL     string `json:"documentation_url"`
}

func refusedCall(r request, got answer, now time.Time) *callError {
	var p problem
	_ = json.Unmarshal(got.body, &p) // a body that is none says nothing
	return &callError{
		op: r.method + " " + r.path, answer: got, limited: limitOf(got, p.URL, now),
		err: fmt.Errorf("status %d: %.200q", got.status, p.Message),
	}
}

// limitOf returns how long a rate limit lasts, zero where the answer is about none. GitHub answers
// 403 or 429; it says how long in Retry-After, or with nothing remaining until a reset; else a
// minute is the least to wait.
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
func limitOf(got answer, documentation string, now time.Time) time.Duration {
	if got.status != http.StatusForbidden && got.status != http.StatusTooManyRequests {
		return 0
	}
	if date, err := http.ParseTime(got.header.Get("Date")); err == nil {
		now = date
	}
	bounded := func(d time.Duration) time.Duration { return min(max(d, time.Second), time.Hour) }
	if after := got.header.Get("Retry-After"); after != "" {
		if seconds, err := strconv.ParseUint(after, 10, 20); err == nil {
			return bounded(time.Duration(seconds) * time.Second)
		}
		if at, err := http.ParseTime(after); err == nil {
			return bounded(at.Sub(now))
		}
		return time.Minute
	}
	if got.header.Get("X-RateLimit-Remaining") == "0" {
		if reset, err := strconv.ParseInt(got.header.Get("X-RateLimit-Reset"), 10, 64); err == nil {
			return bounded(time.Unix(reset, 0).Sub(now))
		}
		return time.Minute
	}
	if got.status == http.StatusTooManyRequests || strings.Contains(documentation, "rate-limit") {
		return time.Minute
	}
	return 0
}

// harmless turns the failure of a request that makes no token into our error: whatever the cause,
// nothing was issued.
func harmless(op string, err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	public := publicGone
	switch failed := callOf(err); {
	case failed == nil:
	case failed.limited > 0:
		return limited(op, failed)
	case failed.answer.status >= 300 && failed.answer.status < 500:
		public = publicApp
	}
	return notIssued(op, public, err)
}

// minting turns the failure of the request that mints into our error. GitHub refuses with 4xx before
// it makes anything; with 5xx, or no answer, it may have gone further.
func minting(err error) error {
	const op = "github.issue"
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	switch failed := callOf(err); {
	case failed != nil && failed.limited > 0:
		return limited(op, failed)
	case failed != nil && failed.unsent:
		return notIssued(op, publicGone, err)
	case statusOf(err) == http.StatusUnauthorized:
		return notIssued(op, publicApp, err)
	case statusOf(err) >= 300 && statusOf(err) < 500:
		return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "SOURCE_REFUSED", Public: publicRefused, Err: err}
	default:
		return lost(err)
	}
}

// lost says that a token may exist of which we know nothing.
func lost(err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: "github.issue", Reason: "ANSWER_LOST", Public: publicLost, Err: err}
}

func limited(op string, failed *callError) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: op, Reason: "SOURCE_LIMITS", Public: publicLimited, RetryAfter: failed.limited,
		Err: fmt.Errorf("%w: %w", issuer.ErrNotIssued, failed),
	}
}

// notIssued is an Unavailable of which it is certain that nothing was made.
func notIssued(op, public string, err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: op, Public: public, Err: fmt.Errorf("%w: %w", issuer.ErrNotIssued, err)}
}
