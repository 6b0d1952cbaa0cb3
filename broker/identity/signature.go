package identity

import (
	"context"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/jws"
)

// asymmetric lists the algorithms that a provider can allow: RFC 7518 section 3.1 without HMAC and
// "none", and EdDSA of RFC 8037.
var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// checkSignature checks a token's signature with a key that the issuer publishes. jwks holds back
// keys that are weak, or not meant for the algorithm.
func (s *source) checkSignature(ctx context.Context, token jws.Parsed) error {
	h := token.Header
	key, err := s.keys.Key(ctx, h.Kid, h.Alg)
	if cred.KindOf(err) == cred.Unauthenticated {
		return s.forged(err, "no key that issuer %q publishes fits its kid %s and alg %s", s.Issuer, shown(h.Kid), shown(h.Alg))
	}
	if err != nil {
		return unavailable(s.Name, err)
	}
	if err := jwt.GetSigningMethod(h.Alg).Verify(token.SigningInput, token.Signature, key); err != nil {
		return s.forged(err, "the key %s of issuer %q did not make its signature", shown(h.Kid), s.Issuer)
	}
	return nil
}

func (s *source) forged(cause error, format string, args ...any) error {
	e := refuse("SIGNATURE_INVALID", "", "the ID token's signature does not verify: %s", fmt.Sprintf(format, args...))
	e.Err = cause
	return e
}
