package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

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
	status int           // zero: no answer
	unsent bool          // there was never a connection
	after  time.Duration // what Retry-After asks to wait; zero where it is absent
	err    error
}

// Error returns the private text, for the operator's log.
func (e *callError) Error() string {
	r, ok := errors.AsType[*api.ResponseError](e.err)
	if !ok {
		return fmt.Sprintf("vault: %s: %v", e.op, e.err)
	}
	return fmt.Sprintf("vault: %s: status %d, %s", e.op, e.status, e.words(strings.Join(r.Errors, " ")))
}

// sqlState is the code that PostgreSQL and others give to an error, as their driver writes it.
var sqlState = regexp.MustCompile(`SQLSTATE [0-9A-Z]{5}\b`)

// words is what may be logged of Vault's words: those of a refusal, which are Vault's own, and those of a
// sign-in. What an engine says that has been at its source, or is to end a lease there, may quote anything
// that was sent: PostgreSQL's syntax errors show the new password that the statement sets. Of that the
// code is kept.
func (e *callError) words(text string) string {
	_, path, _ := strings.Cut(e.op, " ")
	refusal := e.status >= 400 && e.status < 500 && !strings.HasPrefix(path, "sys/leases/")
	signIn := strings.HasPrefix(path, "auth/") && strings.HasSuffix(path, "/login")
	if !refusal && !signIn {
		return strings.TrimPrefix(sqlState.FindString(text)+", Vault's audit log has its words", ", ")
	}
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " ")
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return text
}

// maxWords bounds what is logged of Vault's words, in bytes.
const maxWords = 300

// Unwrap returns the cause.
func (e *callError) Unwrap() error { return e.err }

// responseStatus is the HTTP status that Vault answered with; zero where it did not.
func responseStatus(err error) int {
	if r, ok := errors.AsType[*api.ResponseError](err); ok {
		return r.StatusCode
	}
	if r, ok := errors.AsType[*redirectError](err); ok {
		return r.status
	}
	return 0
}

// strangerError is an answer that Vault did not give: an ingress without a backend answers 404 to
// everything, a proxy 200 with a page to sign in. It tells nothing of what Vault has done or knows, so it
// counts as none.
type strangerError struct{ status int }

// Error returns the private text.
func (e *strangerError) Error() string {
	return fmt.Sprintf("status %d came from something before Vault and not from Vault itself", e.status)
}

// believed returns the error for an answer of status 4xx if its body is Vault's own, else a strangerError.
// Others mean no more than that nobody knows, whoever gave them.
func believed(answer *api.Response, err error) error {
	if answer == nil || answer.StatusCode < 400 || answer.StatusCode >= 500 {
		return err
	}
	var body struct {
		Errors      []string `json:"errors"`      // of nearly all; empty where a list would be
		LeaseID     *string  `json:"lease_id"`    // of an answer with data, such as about a deleted version
		Initialized *bool    `json:"initialized"` // of sys/health, which answers 472 and 473
	}
	read := json.NewDecoder(answer.Body).Decode(&body)
	if read != nil || body.Errors == nil && body.LeaseID == nil && body.Initialized == nil {
		return &strangerError{answer.StatusCode}
	}
	return err
}

// ownWord reports whether a success is Vault's own: one without a body, or one that tells which request of
// Vault's it is of, or a wrapping.
func ownWord(answer *api.Secret) bool {
	return answer == nil || answer.RequestID != "" || answer.WrapInfo != nil
}

// statusOf is the HTTP status of a request's failure; zero for none, or for one that is not Vault's.
func statusOf(err error) int {
	if e, ok := errors.AsType[*callError](err); ok {
		return e.status
	}
	return 0
}

// nothingListed reports whether Vault answered a list with its word for "nothing": 404 and no error. With
// an error it knows no such path, as where the namespace is wrong.
func nothingListed(err error) bool {
	r, ok := errors.AsType[*api.ResponseError](err)
	return ok && statusOf(err) == http.StatusNotFound && len(r.Errors) == 0
}

// passing reports whether the same request may go well a moment later: no answer, a quota (429),
// a standby that points elsewhere (307), lags or is not ready (412, 472, 473), or trouble of the
// server's own.
func passing(err error) bool {
	switch s := statusOf(err); {
	case s >= 500, s >= 300 && s < 400, s == http.StatusTooManyRequests, s == http.StatusPreconditionFailed, s == 472, s == 473:
		return true
	default:
		e, ok := errors.AsType[*callError](err)
		return ok && s == 0 && !errors.Is(e.err, errAnswerTooLong)
	}
}

// undone reports whether the request surely had no effect, so that even one that mints may be sent
// again: there was no connection, or a standby that points elsewhere, or Vault was over a rate limit,
// which it looks at before it does anything, or lags behind what the client has seen. Not so with 503: a Vault that is sealed while it
// works answers 503 for what it has done half.
func undone(err error) bool {
	e, ok := errors.AsType[*callError](err)
	if !ok {
		return false
	}
	switch s := e.status; {
	case s == 0:
		return e.unsent
	default:
		return s == http.StatusTooManyRequests || s == http.StatusPreconditionFailed || s >= 300 && s < 400
	}
}

// retryAfter is how long Vault asks to wait; zero where it does not say.
func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*callError](err); ok {
		return e.after
	}
	return 0
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
	case s == http.StatusServiceUnavailable, s == http.StatusPreconditionFailed, s == 472, s == 473, s >= 300 && s < 400:
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
	switch {
	case undone(err), s == http.StatusForbidden:
		return notIssued(op, publicOf(err), err)
	case s >= 400 && s < 500:
		return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "SOURCE_REFUSED", Public: publicRefused, Err: err}
	default:
		return &cred.Error{Kind: cred.Unavailable, Op: op, Public: publicLost, Err: err}
	}
}

// notIssued is an Unavailable of which it is certain that nothing was made.
func notIssued(op, public string, err error) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: op, Public: public, RetryAfter: retryAfter(err),
		Err: fmt.Errorf("%w: %w", issuer.ErrNotIssued, err),
	}
}
