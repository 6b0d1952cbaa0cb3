package gitlab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicRoot    = "GitLab does not accept the broker's own token; its operator has to look whether it has ended, and has the scope api"
	publicRefused = "GitLab refused to make this token: the project may not exist, or the broker's own token lacks the role there; its operator has to look at it"
	publicLimited = "GitLab limits how often the broker may ask; try again later"
	publicGone    = "GitLab can't be reached; try again in a moment"
	publicLost    = "GitLab did not answer, so it is not known whether a token was made; the broker revokes one that was; try again"
)

// callError is how one request failed: with an answer of another status than was wanted, or without
// one.
type callError struct {
	op      string
	answer  answer
	limited time.Duration // how long GitLab wants us to wait; zero: it does not limit us
	unsent  bool          // there was never a connection
	err     error
}

// Error returns the private text.
func (e *callError) Error() string { return fmt.Sprintf("gitlab: %s: %v", e.op, e.err) }

// Unwrap returns the cause.
func (e *callError) Unwrap() error { return e.err }

// repeatable reports whether the same request may be sent again.
func (e *callError) repeatable(makes bool) bool {
	if e.limited > 0 || e.unsent {
		return true
	}
	return !makes && (e.answer.status == 0 || e.answer.status >= 500)
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

func refusedCall(r request, got answer, now time.Time) *callError {
	return &callError{
		op: r.method + " " + r.path, answer: got, limited: limitOf(got, now),
		err: fmt.Errorf("status %d: %.200q", got.status, message(got.body)),
	}
}

// message returns what GitLab says of a refusal: "message" is a text, a list or an object, "error" a
// word. Whatever else there is may be anything and is not kept.
func message(body []byte) string {
	var said struct {
		Message     json.RawMessage `json:"message"`
		Error       string          `json:"error"`
		Description string          `json:"error_description"`
	}
	_ = json.Unmarshal(body, &said) // a body that is none says nothing
	return string(said.Message) + said.Error + " " + said.Description
}

// limitOf returns how long a rate limit lasts, zero where the answer is about none. GitLab answers
// 429 with Retry-After in seconds, or RateLimit-Reset as Unix time.
// https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#response-headers
func limitOf(got answer, now time.Time) time.Duration {
	if got.status != http.StatusTooManyRequests {
		return 0
	}
	bounded := func(d time.Duration) time.Duration { return min(max(d, time.Second), time.Hour) }
	if seconds, err := strconv.ParseUint(got.header.Get("Retry-After"), 10, 20); err == nil {
		return bounded(time.Duration(seconds) * time.Second)
	}
	if date, err := http.ParseTime(got.header.Get("Date")); err == nil {
		now = date
	}
	if reset, err := strconv.ParseInt(got.header.Get("RateLimit-Reset"), 10, 64); err == nil {
		return bounded(time.Unix(reset, 0).Sub(now))
	}
	return time.Minute
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
	case failed.answer.status == http.StatusUnauthorized:
		public = publicRoot
	case failed.answer.status >= 300 && failed.answer.status < 500:
		public = publicRefused
	}
	return notIssued(op, public, err)
}

// minting turns the failure of the request that mints into our error. GitLab refuses with 4xx before
// it makes anything; with 5xx, or no answer, it may have gone further.
func minting(err error) error {
	const op = "gitlab.issue"
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	switch failed := callOf(err); {
	case failed != nil && failed.limited > 0:
		return limited(op, failed)
	case failed != nil && failed.unsent:
		return notIssued(op, publicGone, err)
	case statusOf(err) == http.StatusUnauthorized:
		return notIssued(op, publicRoot, err)
	case statusOf(err) >= 300 && statusOf(err) < 500:
		return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "SOURCE_REFUSED", Public: publicRefused, Err: err}
	default:
		return lost(err)
	}
}

// lost says that a token may exist of which we know nothing but its name.
func lost(err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: "gitlab.issue", Reason: "ANSWER_LOST", Public: publicLost, Err: err}
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
