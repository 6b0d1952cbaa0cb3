package issuer

import (
	"errors"
	"fmt"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// ErrNotIssued says, wrapped in an error of Issue, that nothing was made although the source could
// not be reached: the request never left.
var ErrNotIssued = errors.New("the request never reached the source")

// NotIssued is an Unavailable of which it is certain that nothing was made.
func NotIssued(op, reason, public string, err error) *cred.Error {
	return &cred.Error{Kind: cred.Unavailable, Op: op, Reason: reason, Public: public, Err: fmt.Errorf("%w: %w", ErrNotIssued, err)}
}

// Limited is a NotIssued of a source that limits how often it may be asked, and for how long.
func Limited(op, public string, after time.Duration, err error) *cred.Error {
	e := NotIssued(op, "SOURCE_LIMITS", public, err)
	e.RetryAfter = after
	return e
}

// ReasonUnwrapFailed is the Reason of an error of Issue by which somebody between the broker and the
// source may have had the credential that was made.
const ReasonUnwrapFailed = "UNWRAP_FAILED"

// ReasonIrrevocable is the Reason of an Invalid of Revoke by which the source has given up on ending the
// credential, which may live on beyond its own end, and keeps it on a list of its own until somebody has
// ended it by hand. Once it is off that list, Revoke succeeds.
const ReasonIrrevocable = "LEASE_IRREVOCABLE"

// Irrevocable reports whether an error of Revoke says so.
func Irrevocable(err error) bool {
	e, ok := errors.AsType[*cred.Error](err)
	return ok && e.Kind == cred.Invalid && e.Reason == ReasonIrrevocable
}

// ReasonPersonNeeded is the Reason of an error of a Rotator by which an act waits for a person, and not
// for time alone. Its kind is Pending.
const ReasonPersonNeeded = "PERSON_NEEDED"

// WaitsForPerson reports whether an act of a rotation waits for a person, who has to be told.
func WaitsForPerson(err error) bool {
	e, ok := errors.AsType[*cred.Error](err)
	return ok && e.Kind == cred.Pending && e.Reason == ReasonPersonNeeded
}

// LivesError says, around an error of Revoke, until when a credential may live at its source that was not
// revoked: the latest end that it can have, which may be later than what was asked for.
type LivesError struct {
	Until time.Time
	Err   error
}

// Error returns the private text.
func (e *LivesError) Error() string {
	return fmt.Sprintf("%v (what it is about may live until %s)", e.Err, e.Until.UTC().Format(time.RFC3339))
}

// Unwrap returns what went wrong.
func (e *LivesError) Unwrap() error { return e.Err }

// LivesUntil returns the end that a LivesError tells of, zero where an error tells none.
func LivesUntil(err error) time.Time {
	if e, ok := errors.AsType[*LivesError](err); ok {
		return e.Until
	}
	return time.Time{}
}

// Alarm returns the error, in err's chain, that people have to be told of at once: not a failure, but
// what looks like an attack.
func Alarm(err error) (*cred.Error, bool) {
	e, ok := errors.AsType[*cred.Error](err)
	return e, ok && e.Reason == ReasonUnwrapFailed
}
