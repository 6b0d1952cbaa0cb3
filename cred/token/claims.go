// Package token makes and verifies grant tokens: what a caller shows to a companion proxy, and the
// proxy to the broker, as the proof of a grant.
//
// A grant token is a JWT access token (RFC 9068, typ at+jwt) for one target. The broker signs with
// the current key of a KeyRing. A Verifier checks tokens against the broker's published keys with
// no call to the broker; what it cannot know, such as a revocation, its caller has to ask.
package token

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// MaxBytes is how long a token may be. Tokens travel in headers, which servers bound.
const MaxBytes = 16 << 10

// audiencePrefix makes a target's name a URI of its own kind, so that no URL of a service is
// mistaken for one.
const audiencePrefix = "urn:daypass:target:"

// Audience returns the aud of tokens for a target.
func Audience(target string) string { return audiencePrefix + target }

// Claims is what a grant token says. All times have the precision of a second.
type Claims struct {
	Issuer    string   // the broker's URL
	Subject   string   // the grant's holder
	Audience  []string // exactly one, see Audience
	ClientID  string   // the identity provider that vouched for the holder, as configured
	IssuedAt  time.Time
	NotBefore time.Time
	ExpiresAt time.Time // the grant's own end at the latest
	ID        string    // jti
	Scopes    []string
	Actor     *Actor // who acts for the subject; nil where nobody does

	// Confirmation is the key that the token is bound to; nil for a bearer token. Verify only reads
	// it: whoever meets the caller must check that the caller has the key.
	Confirmation *Confirmation
	Grant        GrantClaims
}

// Actor is who acts for a token's subject (RFC 8693, section 4.1). A nested Actor is an earlier one
// in the chain of delegation.
type Actor struct {
	Issuer  string `json:"iss,omitzero"`
	Subject string `json:"sub"`
	Actor   *Actor `json:"act,omitzero"`
}

// Confirmation names the key that a token is bound to, by one or both of its thumbprints.
type Confirmation struct {
	KeyThumbprint         string `json:"jkt,omitzero"`      // of the DPoP key (RFC 9449, section 6.1)
	CertificateThumbprint string `json:"x5t#S256,omitzero"` // of the client certificate (RFC 8705, section 3.1)
}

// GrantClaims is the member "daypass": what is ours alone.
type GrantClaims struct {
	ID     cred.GrantID `json:"grant"`
	Target string       `json:"target"`

	// Restrictions narrow the grant further, by name. A Verifier refuses a token with one that it
	// was not told of, see Restrictions.
	Restrictions map[string]json.RawMessage `json:"restrictions,omitzero"`
}

// clone returns a copy that shares nothing that can be changed.
func (c Claims) clone() Claims {
	c.Audience = slices.Clone(c.Audience)
	c.Scopes = slices.Clone(c.Scopes)
	c.Actor = c.Actor.clone()
	if c.Confirmation != nil {
		confirmation := *c.Confirmation
		c.Confirmation = &confirmation
	}
	c.Grant.Restrictions = maps.Clone(c.Grant.Restrictions)
	for name, r := range c.Grant.Restrictions {
		c.Grant.Restrictions[name] = slices.Clone(r)
	}
	return c
}

func (a *Actor) clone() *Actor {
	if a == nil {
		return nil
	}
	return &Actor{a.Issuer, a.Subject, a.Actor.clone()}
}

func refuse(reason, claim, public string) error {
	return &cred.Error{Kind: cred.Unauthenticated, Op: "token.verify", Reason: reason, Claim: claim, Public: public}
}
