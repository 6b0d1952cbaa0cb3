package cred

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an Error is. The zero Kind is Internal, so that an error nobody
// classified never looks like the caller's doing.
type Kind uint8

// The kinds of failure. Each maps to one gRPC code and one HTTP status at the edge.
const (
	Internal        Kind = iota // our fault; the public text is a fixed sentence
	Invalid                     // the request can't be understood or is out of bounds
	Unauthenticated             // no identity, or one that did not verify
	Denied                      // the identity is known and may not
	NotFound                    // there is no such thing, or none that the caller may know of
	Pending                     // waits for somebody's approval
	Expired                     // its deadline has passed
	Conflict                    // somebody else changed it first, or it is in another state
	Exhausted                   // a quota or size limit is reached
	Unavailable                 // a part that is needed does not answer; trying later may help
)

var kindNames = [...]string{"internal", "invalid", "unauthenticated", "denied", "not_found", "pending", "expired", "conflict", "exhausted", "unavailable"}

// String returns the kind's name in snake_case, as the audit log spells it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// Error is the one error type that crosses packages. Public is for the caller; Err is for our own
// log and never leaves the process.
type Error struct {
	Kind   Kind
	Op     string // what was attempted, e.g. "exchange", "vault.issue"
	Public string // one sentence for the caller: what happened, what it means, what to do

	// Reason is a stable UPPER_SNAKE_CASE word for programs (google.rpc.ErrorInfo.reason), e.g.
	// "NO_RULE_MATCHES". Empty means the kind's own name.
	Reason string
	// Rule and Claim name the policy rule and the claim or condition that failed, where the caller
	// may know them.
	Rule, Claim string

	// RetryAfter is how long the caller has to wait until the same can succeed; zero where waiting
	// does not help, or nobody knows.
	RetryAfter time.Duration

	Err error // private cause; may be nil
}

// Errorf makes an Error whose private cause is formatted from format and args as fmt.Errorf does.
func Errorf(kind Kind, op, public, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Public: public, Err: fmt.Errorf(format, args...)}
}

// Error returns the private text, for our own logs.
func (e *Error) Error() string {
	s := e.Op + ": " + e.Kind.String()
	if e.Public != "" {
		s += ": " + e.Public
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the private cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the Kind of the first Error in err's chain, Internal where there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// RetryAfter returns how long the caller of a failed call has to wait, false where the first Error in
// err's chain does not say.
func RetryAfter(err error) (time.Duration, bool) {
	if e, ok := errors.AsType[*Error](err); ok && e.RetryAfter > 0 {
		return e.RetryAfter, true
	}
	return 0, false
}

// PublicText returns what a caller may read of err. Internal errors, and errors that are not ours,
// all read the same.
func PublicText(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Kind != Internal && e.Public != "" {
		return e.Public
	}
	return "daypass could not do this because of an internal fault; the broker's log has the details"
}
