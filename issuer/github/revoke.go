package github

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// handlePrefix begins every handle of the form that this code writes.
const handlePrefix = "github.v1."

// Revoke ends a token (DELETE /installation/token with the token itself). That GitHub does not take
// the token any more is success. A handle that this issuer did not write, or that was sealed with
// another key or for another GitHub, is refused with kind Invalid: the token then ends by itself.
func (i *Issuer) Revoke(ctx context.Context, l cred.Lease) error {
	token, err := i.open(l.Handle)
	if err != nil {
		return err
	}
	if err := i.revoke(ctx, token); err != nil {
		return &cred.Error{
			Kind: cred.Unavailable, Op: "github.revoke", Reason: "NOT_CONFIRMED",
			Public: "GitHub has not confirmed that the token has ended; the broker tries again", Err: err,
		}
	}
	return nil
}

// revoke ends a token. GitHub answers 204, and 401 for one that has ended or never was.
func (i *Issuer) revoke(ctx context.Context, token cred.Secret) error {
	_, err := i.api.DoPatiently(ctx, tokenapi.Call{Method: "DELETE", Path: "/installation/token", Token: token, Want: http.StatusNoContent})
	if tokenapi.StatusOf(err) == http.StatusUnauthorized {
		return nil
	}
	return err
}

// seal makes a handle of a token. The store seals leases too; but a lease is read, printed and sent
// about in places where a token must not be.
func (i *Issuer) seal(token cred.Secret) (string, error) {
	sealed, err := i.sealer.Encrypt(token.Reveal(), i.place())
	if err != nil {
		return "", cred.Errorf(cred.Internal, "github.handle", "", "seal: %w", err)
	}
	return handlePrefix + base64.RawURLEncoding.EncodeToString(sealed), nil
}

func (i *Issuer) open(handle string) (cred.Secret, error) {
	text, ok := strings.CutPrefix(handle, handlePrefix)
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil {
		return cred.Secret{}, foreign(errors.Join(err, errors.New("github: not a handle of this version")))
	}
	token, err := i.sealer.Decrypt(sealed, i.place())
	if err != nil {
		return cred.Secret{}, foreign(err)
	}
	return cred.NewSecret(token), nil
}

// place binds a handle to the GitHub that its token is for, so that no change of the configuration
// sends the token to another.
func (i *Issuer) place() []byte { return []byte(handlePrefix + i.baseURL) }

func foreign(err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "github.handle", Reason: "HANDLE_UNKNOWN",
		Public: "this lease was not made by this GitHub issuer with the store's sealing key of today, so its token can't be revoked; it ends by itself within an hour of its making",
		Err:    err,
	}
}
