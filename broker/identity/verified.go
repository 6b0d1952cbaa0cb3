package identity

import (
	"time"

	"github.com/daypass-io/daypass/cred"
)

// maxIDBytes bounds a jti, which the broker keeps until the token has ended.
const maxIDBytes = 512

// Verified is what an ID token proves: who it is, and what its caller needs to know of the token
// itself.
type Verified struct {
	Principal cred.Principal

	// ID is the token's jti, which its issuer gives to no other token; empty where it has none.
	ID string
	// IssuedAt is the token's iat, and ExpiresAt the instant from which Verify refuses it: the first
	// of its own end and our maximum age, the clock skew included. IssuedAt is zero for a JWT-SVID
	// without iat.
	IssuedAt, ExpiresAt time.Time
	// AuthTime is when the person signed in (auth_time, OpenID Connect Core section 2); zero where
	// the token does not say.
	AuthTime time.Time
	// OneTime is set where the provider's settings say that a token counts once: whoever spends it
	// must refuse a second use of the same ID until ExpiresAt. ID is then not empty.
	OneTime bool
}

// verified makes what is returned for claims that have been verified.
func (p *Provider) verified(claims map[string]any, life lifetime) (Verified, error) {
	who, err := p.principal(claims)
	if err != nil {
		return Verified{}, err
	}
	id, err := p.tokenID(claims)
	if err != nil {
		return Verified{}, err
	}
	return Verified{
		Principal: who, ID: id, IssuedAt: life.issued, ExpiresAt: life.ends, AuthTime: life.signedIn, OneTime: p.OneTime,
	}, nil
}

// tokenID reads the jti, which only a provider whose tokens count once requires.
func (p *Provider) tokenID(claims map[string]any) (string, error) {
	if _, present := claims["jti"]; !present {
		if p.OneTime {
			return "", refuse("MISSING_CLAIM", "jti", "the ID token has no jti claim, and provider %q's tokens count once, which can't be held without it", p.Name)
		}
		return "", nil
	}
	return requiredString(claims, "jti", maxIDBytes)
}
