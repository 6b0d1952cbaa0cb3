// Package identity turns an OIDC ID token into a cred.Principal, or says why it will not.
//
// Any issuer that publishes a discovery document can be a Provider. A token is taken only if it is
// a strict compact JWS (internal/jws), comes from a configured issuer, byte for byte, is meant for
// a configured audience, is fresh by our own measure, and is signed by a key that the issuer
// publishes (internal/jwks). Nothing in a token ever causes a request to a place that the token
// names: keys come from the jwks_uri of the discovery document of a configured issuer.
//
// Discovery is github.com/coreos/go-oidc's. Its verifier is not used: it would decode each token
// twice more and leave every check of this package to be done all the same. The signature is
// checked by github.com/golang-jwt/jwt's signing methods, on the standard library's cryptography.
// With go-oidc's verifier in between, a token takes a third more time and half again as many
// allocations (BenchmarkVerify, BenchmarkGoOIDC); FuzzVerify still holds each answer against it.
//
// Preset and FromPreset know the issuers of CI systems, clouds and people's directories: where they
// are, what their tokens look like, which claims name a caller for good, and what to refuse. A claim
// that makes a genuine identity doubtful, such as GitHub's event pull_request_target, refuses nothing
// here: it is a caution of the principal, which policy must honour. Nor is a token's jti spent here:
// Verified says that it must be, and until when.
//
// A SPIFFE JWT-SVID is verified as an ID token without iss: its trust domain takes the issuer's place.
//
// An issuer that is down at the start is no error: it is discovered at the first token, and until
// that works its tokens are answered with Unavailable.
package identity
