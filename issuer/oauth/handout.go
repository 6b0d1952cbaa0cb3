package oauth

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// handOut makes a credential of a token, or takes the token back where it is not what was asked for.
func (i *Issuer) handOut(p plan, t tokenapi.Token) outcome {
	notes, err := i.judge(p, &t)
	if err != nil {
		return outcome{err: i.undo(t, err)}
	}
	lease := cred.Lease{NotAfter: t.NotAfter, Revocable: i.cfg.RevocationURL != ""}
	if lease.Revocable {
		if lease.Handle, err = i.sealHandle(t); err != nil {
			return outcome{err: i.undo(t, lost(publicSecret, err))}
		}
	}
	lease.Note = strings.Join(append(notes, endNote(lease, p.spec.NotAfter)...), "; ")
	c := p.shape(t.Access)
	c.NotAfter = t.NotAfter
	return outcome{credential: c, lease: lease}
}

// judge holds a token against what was asked. It returns what the lease has to tell of it.
func (i *Issuer) judge(p plan, t *tokenapi.Token) (notes []string, err error) {
	more, less := compareScopes(p.scopes, t.Scope)
	switch {
	case !spendable(*t, i.cfg.Grant):
		return nil, refuse("TOKEN_TYPE", "the token server made a token of a type that daypass can't spend, so it was not given out")
	case i.cfg.Grant == TokenExchange && !i.issuedAsAsked(t.Issued):
		return nil, refuse("TOKEN_TYPE", "the token server exchanged the broker's ID token for another kind of token than was asked, so it was not given out")
	case len(more) > 0 && !i.cfg.NoScopes:
		return nil, refuse("SCOPE_TOO_WIDE", fmt.Sprintf(
			"the token server made a token that may do more than was asked, so it was not given out; asked: %s", strings.Join(p.scopes, " ")))
	case len(less) > 0 && !i.cfg.NoScopes:
		notes = append(notes, "the token server gave less than was asked; missing: "+strings.Join(less, " "))
	}
	if !t.NotAfter.IsZero() {
		return notes, nil
	}
	switch {
	case i.cfg.Life > 0:
		t.NotAfter = time.Now().Add(i.cfg.Life)
		notes = append(notes, "the token server does not say when its tokens end; the end is the one that daypass is configured with")
	case i.cfg.RevocationURL == "":
		return nil, refuse("TOKEN_WITHOUT_END", "the token server does not say when its token ends and can't revoke it, so it was not given out; the broker's operator has to configure the tokens' life")
	default:
		notes = append(notes, "the token server does not say when this token ends")
	}
	return notes, nil
}

// spendable reports whether a token can be spent as it is: as a bearer token, or, where it was
// exchanged, as something that is no access token (RFC 8693, section 2.2.1: N_A).
func spendable(t tokenapi.Token, grant Grant) bool {
	return strings.EqualFold(t.Kind, "bearer") || grant == TokenExchange && strings.EqualFold(t.Kind, "N_A")
}

// issuedAsAsked holds issued_token_type, which an answer must have (RFC 8693, section 2.2.1), against
// what was asked. A refresh token is never a credential.
func (i *Issuer) issuedAsAsked(issued string) bool {
	return issued != "" && issued != typeRefreshToken && (i.cfg.RequestedType == "" || issued == i.cfg.RequestedType)
}

// endNote tells what ends a token.
func endNote(l cred.Lease, asked time.Time) []string {
	late := l.NotAfter.After(asked)
	switch {
	case !l.Revocable && late:
		return []string{"a token of this server can't be revoked: it is valid until its own end, which is later than was asked"}
	case !l.Revocable:
		return []string{"a token of this server can't be revoked: it is valid until its own end"}
	case late:
		return []string{"the token's own end is later than was asked; until then a revocation alone ends it"}
	}
	return nil
}

// undo takes back a token that is not given out. Where that can't be done, it exists, and the error
// says so by its kind.
func (i *Issuer) undo(t tokenapi.Token, why error) error {
	err := errors.New("oauth: the server has no revocation endpoint")
	if i.cfg.RevocationURL != "" {
		err = i.revokeToken(i.flying.Life(), t)
	}
	if err == nil {
		return why
	}
	// The causes go in as text: neither may speak for the token that is left.
	e := lost(cred.PublicText(why), errors.New(why.Error()+"; it could not be taken back: "+err.Error()))
	if w, ok := errors.AsType[*cred.Error](why); ok {
		e.Reason = w.Reason
	}
	return e
}
