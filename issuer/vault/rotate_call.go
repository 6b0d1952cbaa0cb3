package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
)

// once makes a request that must not be done twice without a look in between, with the issuer's own
// token. It is repeated only where it surely had no effect. We wait longer than Vault works on it, so ctx
// should leave it mintTimeout and not end because the broker stops: when a client hangs up, Vault stops
// wherever it stands, and a root may then be changed at its source and not in Vault.
func (i *Issuer) once(ctx context.Context, r request) (*api.Secret, error) {
	for again := true; ; again = false {
		s, err := i.broker.current(ctx)
		if err != nil {
			return nil, err
		}
		r.token = s.token
		answer, err := retrying(ctx, undone, func() (*api.Secret, error) { return i.client.doWithin(ctx, mintTimeout, r) })
		if statusOf(err) != http.StatusForbidden || !again || !i.broker.lost(ctx, s) {
			return answer, err
		}
	}
}

// listKeys returns the names below a path, folders with a slash at their end; none where there are none.
func (i *Issuer) listKeys(ctx context.Context, path string) ([]string, error) {
	var keys []string
	_, err := i.asBroker(ctx, request{method: "GET", path: path, params: url.Values{"list": {"true"}}, read: func(body io.Reader) error {
		keys = nil
		return readKeys(body, func(name string) { keys = append(keys, name) })
	}})
	if statusOf(err) == http.StatusNotFound {
		return nil, nil
	}
	return keys, err
}

// asking turns the failure of a request that only reads into our error. What names what was read, for
// people.
func asking(op, what string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	if s := statusOf(err); s < 400 || s >= 500 || passing(err) {
		return &cred.Error{Kind: cred.Unavailable, Op: op, Public: publicOf(err), RetryAfter: retryAfter(err), Err: err}
	}
	return refused(op, what, err)
}

// changing turns the failure of a request that changes something into our error: Vault answers 4xx
// before it changes anything; what 5xx and a lost answer mean is not known.
func changing(op, what string, err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	if s := statusOf(err); undone(err) || s < 400 || s >= 500 {
		return &cred.Error{
			Kind: cred.Unavailable, Op: op, RetryAfter: retryAfter(err), Err: err,
			Public: "it is not known whether " + what + " was done" + whyIs(err) + "; the broker looks and tries again",
		}
	}
	return refused(op, what, err)
}

// refused is a 4xx.
func refused(op, what string, err error) error {
	switch statusOf(err) {
	case http.StatusForbidden:
		return &cred.Error{Kind: cred.Denied, Op: op, Reason: "RIGHTS_MISSING", Public: "Vault does not allow the broker " + what + "; its operator has to extend its Vault policy", Err: err}
	case http.StatusNotFound:
		return &cred.Error{Kind: cred.NotFound, Op: op, Reason: "SOURCE_REFUSED", Public: "Vault knows no such path, so it refused " + what, Err: err}
	}
	return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "SOURCE_REFUSED", Public: "Vault refused " + what + whyIs(err), Err: err}
}

// whyIs tells people where Vault's own words for a failure stand, which may quote a statement with a
// password; empty where Vault gave none.
func whyIs(err error) string {
	switch s := statusOf(err); {
	case s == http.StatusInternalServerError, s >= 400 && s < 500:
		return fmt.Sprintf(" (status %d; Vault's audit log says why)", s)
	case s > 0: // a Vault that is sealed, or what stands before it
		return fmt.Sprintf(" (status %d)", s)
	}
	return ""
}
