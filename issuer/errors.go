package issuer

import (
	"errors"

	"github.com/daypass-io/daypass/cred"
)

// ErrNotIssued says, wrapped in an error of Issue, that nothing was made although the source could
// not be reached: the request never left.
var ErrNotIssued = errors.New("the request never reached the source")

// ReasonUnwrapFailed is the Reason of an error of Issue by which somebody between the broker and the
// source may have had the credential that was made.
const ReasonUnwrapFailed = "UNWRAP_FAILED"

// Alarm returns the error, in err's chain, that people have to be told of at once: not a failure, but
// what looks like an attack.
func Alarm(err error) (*cred.Error, bool) {
	e, ok := errors.AsType[*cred.Error](err)
	return e, ok && e.Reason == ReasonUnwrapFailed
}
