package login

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/jws"
)

// maxTokenBytes bounds an ID token.
const maxTokenBytes = 64 << 10

// clockSkew is how far the issuer's clock may be behind ours where the time of signing in counts.
const clockSkew = time.Minute

// expectation is what an ID token must say besides being genuine.
type expectation struct {
	nonce    string    // of the request; empty where the flow has none
	since    time.Time // the earliest sign-in that counts; zero: any
	previous *Session  // which it carries on (OpenID Connect Core, section 12.2); nil for a new one
	now      time.Time
}

// session makes a Session of what a token endpoint answered.
func (i *issuer) session(ctx context.Context, tok *oauth2.Token, want expectation) (Session, error) {
	raw, ok := tok.Extra("id_token").(string)
	if !ok || raw == "" {
		return Session{}, fault(cred.Unavailable, "NO_ID_TOKEN", nil, "the issuer %s gave no ID token; its registration of this client must allow the scope openid", i.method.Issuer)
	}
	s, err := i.verify(ctx, raw, want)
	if err != nil {
		return Session{}, fault(cred.Unauthenticated, "ID_TOKEN_REFUSED", err, "the ID token from %s is not accepted: %s", i.method.Issuer, err)
	}
	s.Refresh = cred.SecretString(tok.RefreshToken)
	return s, nil
}

// verify checks an ID token as OpenID Connect Core, section 3.1.3.7, demands, and that its form has one
// reading: go-oidc checks neither that, nor azp, nonce and auth_time.
func (i *issuer) verify(ctx context.Context, raw string, want expectation) (Session, error) {
	if _, err := jws.Parse(raw, maxTokenBytes); err != nil {
		return Session{}, errors.New(cred.PublicText(err))
	}
	verifier := i.provider.VerifierContext(i.with(ctx), &oidc.Config{
		ClientID: i.method.ClientID, SupportedSigningAlgs: i.Algorithms, Now: func() time.Time { return want.now },
	})
	tok, err := verifier.Verify(ctx, raw)
	if err != nil {
		return Session{}, err
	}
	var more struct {
		AuthorizedParty string      `json:"azp"`
		AuthTime        json.Number `json:"auth_time"`
		Name            string      `json:"name"`
		Email           string      `json:"email"`
	}
	if err := tok.Claims(&more); err != nil {
		return Session{}, fmt.Errorf("its claims can't be read: %w", err)
	}
	s := Session{
		Method: i.method, Subject: tok.Subject, Name: more.Name, IDToken: cred.SecretString(raw),
		IssuedAt: tok.IssuedAt, ExpiresAt: tok.Expiry, AuthTime: seconds(more.AuthTime),
	}
	if s.Name == "" {
		s.Name = more.Email
	}
	return s, want.check(tok, more.AuthorizedParty, s)
}

func (want expectation) check(tok *oidc.IDToken, azp string, s Session) error {
	clientID := s.Method.ClientID
	switch {
	case tok.Subject == "":
		return errors.New("it names nobody")
	case len(tok.Audience) != 1 && azp != clientID, azp != "" && azp != clientID:
		return errors.New("it is for another client too")
	case want.nonce != "" && subtle.ConstantTimeCompare([]byte(tok.Nonce), []byte(want.nonce)) != 1:
		return errors.New("it does not have the nonce of this sign-in")
	case want.previous != nil && tok.Subject != want.previous.Subject:
		return errors.New("it is somebody else's")
	case want.since.IsZero():
		return nil
	case s.AuthTime.IsZero():
		return errors.New("it does not say when you signed in (auth_time), which was asked for")
	case s.AuthTime.Before(want.since.Add(-clockSkew)):
		return errors.New("you were not asked to sign in again, which was asked for")
	}
	return nil
}

// seconds reads a NumericDate (RFC 7519, section 2); zero where there is none.
func seconds(n json.Number) time.Time {
	f, err := n.Float64()
	if err != nil || f <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(f), 0)
}
