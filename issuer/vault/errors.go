package vault

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicRights  = "the broker's own rights in Vault do not allow this; its operator has to extend its Vault policy"
	publicSignIn  = "the broker can't sign in to Vault; its operator has to look at its role there"
	publicRefused = "Vault refused to make this credential; the target's path or role in Vault is wrong or gone"
	publicSealed  = "Vault is sealed or not active; try again when it is back"
	publicBusy    = "Vault limits how often the broker may ask; try again in a moment"
	publicGone    = "Vault can't be reached; try again in a moment"
	publicLost    = "Vault did not answer, so it is not known whether a credential was made; what may exist is being taken back, try again"
)

// callError is how one request failed: with a status, or without an answer.
type callError struct {
	op     string
	status int  // zero: no answer
	unsent bool // there was never a connection
	err    error
}

// Error returns the private text.
func (e *callError) Error() string { return fmt.Sprintf("vault: %s: %v", e.op, e.err) }

// Unwrap returns the cause.
func (e *callError) Unwrap() error { return e.err }

// responseStatus is the HTTP status that Vault answered with; zero where it did not.
func responseStatus(err error) int {
	if r, ok := errors.AsType[*api.ResponseError](err); ok {
		return r.StatusCode
	}
	return 0
}

// statusOf is the HTTP status of a request's failure; zero for none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*callError](err); ok {
		return e.status
	}
	return 0
}

// passing reports whether the same request may go well a moment later: no answer, a quota (429),
// a standby that lags or is not ready (412, 472, 473), or trouble of the server's own.
func passing(err error) bool {
	switch s := statusOf(err); {
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusPreconditionFailed, s == 472, s == 473:
		return true
	default:
		e, ok := errors.AsType[*callError](err)
		return ok && s == 0 && !errors.Is(e.err, errAnswerTooLong)
	}
}

// harmless turns the failure of a request that makes no credential into our error: whatever the
// cause, nothing was issued.
func harmless(op string, err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	return notIssued(op, publicOf(err), err)
}

func publicOf(err error) string {
	switch s := statusOf(err); {
	case s == http.StatusForbidden:
		return publicRights
	case s == http.StatusTooManyRequests:
		return publicBusy
	case s == http.StatusServiceUnavailable, s == 472, s == 473:
		return publicSealed
	case s >= 400 && s < 500:
		return publicRefused
	default:
		return publicGone
	}
}

// minting turns the failure of the request that mints into our error. Vault refuses with 4xx before
// it makes anything; with 5xx, or no answer, it may have gone further.
func minting(op string, err error) error {
	s := statusOf(err)
	e, _ := errors.AsType[*callError](err)
	switch {
	case e != nil && s == 0 && e.unsent, s == http.StatusForbidden, s == http.StatusTooManyRequests:
		return notIssued(op, publicOf(err), err)
	case s >= 400 && s < 500:
		return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "SOURCE_REFUSED", Public: publicRefused, Err: err}
	default:
		return &cred.Error{Kind: cred.Unavailable, Op: op, Public: publicLost, Err: err}
	}
}

// notIssued is an Unavailable of which it is certain that nothing was made.
func notIssued(op, public string, err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: op, Public: public, Err: fmt.Errorf("%w: %w", issuer.ErrNotIssued, err)}
}
