package login

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/daypass-io/daypass/cred"
)

// renew spends the refresh token (RFC 6749, section 6). The issuer may have rotated it when its answer
// is lost, so a caller who gives up does not end the request, and the next refresh token is kept before
// anything else is looked at. The caller holds the lock.
func (k Keeper) renew(ctx context.Context, s Session) (Session, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*requestTimeout)
	defer cancel()
	i, err := discover(ctx, k.Client, s.Method)
	if err != nil {
		return Session{}, err
	}
	tok, err := i.config("").TokenSource(i.with(ctx), &oauth2.Token{RefreshToken: s.Refresh.RevealString()}).Token()
	if err != nil {
		return Session{}, k.refused(s, err)
	}
	if tok.RefreshToken != "" && tok.RefreshToken != s.Refresh.RevealString() {
		if err := k.State.KeepSecret(k.name(), cred.SecretString(tok.RefreshToken)); err != nil {
			return Session{}, err
		}
	}
	next, err := i.session(ctx, tok, expectation{previous: &s, now: k.Now()})
	if err != nil {
		return Session{}, err
	}
	if next.AuthTime.IsZero() {
		next.AuthTime = s.AuthTime
	}
	return next, k.keep(ctx, next)
}

// refused forgets a sign-in whose refresh token is good no more.
func (k Keeper) refused(s Session, err error) error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || refused.ErrorCode != "invalid_grant" {
		return tokenError(s.Method.Issuer, err)
	}
	return errors.Join(signIn(ReasonEnded, err, "your sign-in at "+s.Method.Issuer+" has ended"), k.forget())
}

func (k Keeper) forget() error {
	return errors.Join(k.State.Drop(k.name()), k.State.DropSecret(k.name()))
}

// SignedOut is what became of a sign-in.
type SignedOut struct {
	Was     Session // zero where nobody was signed in
	Revoked bool    // whether the issuer has ended it too
}

// SignOut forgets the sign-in and has the issuer revoke its refresh token (RFC 7009), where it can. An
// error means that the issuer may still take the token, or that something is left here.
func (k Keeper) SignOut(ctx context.Context) (SignedOut, error) {
	unlock, err := k.State.Lock(ctx, k.name())
	if err != nil {
		return SignedOut{}, err
	}
	defer unlock()
	s, err := k.Current()
	if err != nil {
		if cred.KindOf(err) == cred.Unauthenticated {
			err = nil // nobody was
		}
		return SignedOut{}, errors.Join(err, k.forget())
	}
	out := SignedOut{Was: s}
	if s.Refresh, err = k.State.Secret(k.name()); err == nil {
		out.Revoked, err = k.revoke(ctx, s)
	} else {
		err = nil // there is nothing to revoke
	}
	return out, errors.Join(k.forget(), err)
}

// revoke reports whether the issuer has a way to revoke, and has done so.
func (k Keeper) revoke(ctx context.Context, s Session) (bool, error) {
	i, err := discover(ctx, k.Client, s.Method)
	if err != nil {
		return false, notRevoked(s, err)
	}
	if i.Revocation == "" {
		return false, nil
	}
	form := url.Values{"token": {s.Refresh.RevealString()}, "token_type_hint": {"refresh_token"}, "client_id": {s.Method.ClientID}}
	if s.Method.ClientSecret != "" {
		form.Set("client_secret", s.Method.ClientSecret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.Revocation, strings.NewReader(form.Encode()))
	if err != nil {
		return false, notRevoked(s, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := k.Client.Do(req)
	if err != nil {
		return false, notRevoked(s, withoutURL(err))
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return false, notRevoked(s, nil)
	}
	return true, nil
}

func notRevoked(s Session, cause error) error {
	return fault(cred.Unavailable, "NOT_REVOKED", cause, "the sign-in is deleted here, but %s did not confirm that it has ended there", s.Method.Issuer)
}
