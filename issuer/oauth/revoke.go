package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	handlePrefix  = "oauth1."
	handlePurpose = "daypass oauth handle 1" // associated data: nothing else that the key sealed passes for a handle
)

// handle is what a revocation needs. It is the token itself, since RFC 7009 knows no other name of
// one, and is sealed for that.
type handle struct {
	Access  string `json:"a"`
	Refresh string `json:"r,omitzero"` // that came along unasked; it could make further tokens
}

// Revoke ends a token at its server. A server that knows it no more says that all is well (RFC 7009,
// section 2.2). Kind Invalid where the server has no revocation endpoint, or can't revoke such tokens.
func (i *Issuer) Revoke(ctx context.Context, l cred.Lease) error {
	if i.cfg.RevocationURL == "" {
		return notRevocable(nil)
	}
	h, err := i.openHandle(l.Handle)
	if err != nil {
		return err
	}
	return i.revokeToken(ctx, tokenapi.Token{Access: cred.SecretString(h.Access), Refresh: cred.SecretString(h.Refresh)})
}

// revokeToken ends a token, and first the refresh token that came with it. That of the refresh grant
// is not among these: it is the broker's own.
func (i *Issuer) revokeToken(ctx context.Context, t tokenapi.Token) error {
	if !t.Refresh.IsZero() && i.cfg.Grant != RefreshToken {
		if err := i.revoke(ctx, t.Refresh, "refresh_token"); err != nil {
			return err
		}
	}
	return i.revoke(ctx, t.Access, "access_token")
}

// revoke sends one revocation: RFC 7009, section 2.1. It is a form, whatever the token endpoint takes.
func (i *Issuer) revoke(ctx context.Context, value cred.Secret, kind string) error {
	r := i.cfg.request("revoke")
	r.JSON = false
	r.SetSecret("token", value)
	r.Set("token_type_hint", kind)
	if err := i.cfg.Client.authenticate(ctx, r, issuer.Spec{}); err != nil {
		return err
	}
	a, err := i.http.Post(ctx, i.cfg.RevocationURL, r)
	if err != nil {
		return revocationFailed(err)
	}
	if a.Status == 200 || a.Status == 204 {
		return nil
	}
	return revocationFailed(r.Failure(a))
}

// revocationFailed says that a token must be counted as alive: RFC 7009, section 2.2.1.
func revocationFailed(err error) error {
	e, ok := errors.AsType[*tokenapi.Error](err)
	switch {
	case ok && e.Code == "unsupported_token_type":
		return notRevocable(e)
	case ok && (e.Code == "invalid_client" || e.Code == "unauthorized_client"):
		return &cred.Error{Kind: cred.Unavailable, Op: "oauth.revoke", Public: publicClient, Err: e}
	case ok:
		return &cred.Error{
			Kind: cred.Unavailable, Op: "oauth.revoke", RetryAfter: e.RetryAfter, Err: e,
			Public: "the token server did not confirm that the token has ended; it is asked again until it does",
		}
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "oauth.revoke", Public: publicGone, Err: err}
}

func notRevocable(err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "oauth.revoke", Reason: "NOT_REVOCABLE", Err: err,
		Public: "the token server can't revoke this token; it is valid until its own end",
	}
}

func (i *Issuer) sealHandle(t tokenapi.Token) (string, error) {
	h := handle{Access: t.Access.RevealString()}
	if i.cfg.Grant != RefreshToken {
		h.Refresh = t.Refresh.RevealString()
	}
	plain, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	sealed, err := i.cfg.Seal.Encrypt(plain, []byte(handlePurpose))
	return handlePrefix + base64.RawURLEncoding.EncodeToString(sealed), err
}

func (i *Issuer) openHandle(text string) (handle, error) {
	var h handle
	encoded, ok := strings.CutPrefix(text, handlePrefix)
	err := errors.New("oauth: not a handle of this version")
	if ok {
		var sealed, plain []byte
		if sealed, err = base64.RawURLEncoding.DecodeString(encoded); err == nil {
			plain, err = i.cfg.Seal.Decrypt(sealed, []byte(handlePurpose))
		}
		if err == nil {
			err = json.Unmarshal(plain, &h)
		}
	}
	if err != nil || h.Access == "" {
		return handle{}, &cred.Error{
			Kind: cred.Invalid, Op: "oauth.handle", Reason: "HANDLE_UNREADABLE", Err: err,
			Public: "this lease was not made by this issuer, or the key that sealed its handle is gone, so its token can't be revoked",
		}
	}
	return h, nil
}
