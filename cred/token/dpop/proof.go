// Package dpop makes and verifies DPoP proofs (RFC 9449): with one, a caller shows for a single
// request that it holds the key which a token is bound to, so that the token alone is of no use to
// whoever finds it.
//
// The caller's side is a [Key], which signs a proof for one method, URL and token. The other side is
// a [Verifier], which takes each proof once, and for a minute. [Nonces] shorten that to what the
// verifier itself has handed out.
package dpop

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/jws"
)

// MaxBytes is how long a proof may be. It has room for a URL of 8192 bytes and a large RSA key.
const MaxBytes = 16 << 10

// typProof is the typ of a proof (RFC 9449, section 4.2).
const typProof = "dpop+jwt"

// Bounds on what a proof may have its verifier keep or compare, in bytes.
const (
	maxID    = 256
	maxNonce = 256
)

// Proof is what a proof says, whose signature has been verified with the key in it. That it was made
// for the request at hand is for [Verifier.Verify] to say.
type Proof struct {
	Thumbprint string    // of the key: RFC 7638 with SHA-256, base64url, as in a token's cnf.jkt
	ID         string    // jti
	Method     string    // htm
	URL        string    // htu, as sent
	IssuedAt   time.Time // iat, to the second
	Nonce      string    // empty where the proof has none
	TokenHash  string    // ath: base64url of the SHA-256 of the access token; empty where the proof has none

	notBefore, expires time.Time // nbf and exp, which nobody needs to send; zero where absent
}

// Parse reads a proof strictly and verifies its signature with the key in its header. It refuses
//   - what internal/jws refuses: any form but one, members that are there twice, algorithms that are
//     not asymmetric signatures;
//   - header members other than alg, typ and jwk, and a typ other than dpop+jwt;
//   - a key that is private, symmetric, weak, not for alg, not on its curve, or not written in the
//     one canonical way (RFC 7518, section 6);
//   - claims that are missing, of another type, or longer than anybody needs.
//
// The error is a *cred.Error of Kind Unauthenticated with Reason INVALID_DPOP_PROOF.
func Parse(proof string) (Proof, error) {
	p, jwk, err := jws.ParseWithKey(proof, MaxBytes)
	if err != nil {
		return Proof{}, invalid("its form is not that of a DPoP proof", err)
	}
	if p.Header.Typ != typProof {
		return Proof{}, invalid(`its typ is not "dpop+jwt"`, nil)
	}
	key, thumbprint, err := readKey(jwk, p.Header.Alg)
	if err != nil {
		return Proof{}, err
	}
	if err := verifySignature(p, key); err != nil {
		return Proof{}, invalid("its signature does not verify with the key in it", err)
	}
	read, err := readClaims(p.Claims)
	if err != nil {
		return Proof{}, err
	}
	read.Thumbprint = thumbprint
	return read, nil
}

var errNoMethod = errors.New("dpop: the algorithm is not known")

func verifySignature(p jws.Parsed, key crypto.PublicKey) error {
	method := jwt.GetSigningMethod(p.Header.Alg)
	if method == nil {
		return errNoMethod
	}
	return method.Verify(p.SigningInput, p.Signature, key)
}

// readClaims reads the claims of RFC 9449, section 4.2, and the two of RFC 7519, section 4.1, that
// narrow when a token holds. Others are ignored.
func readClaims(claims map[string]any) (Proof, error) {
	var p Proof
	for _, c := range []struct {
		name     string
		to       *string
		most     int
		required bool
	}{
		{"jti", &p.ID, maxID, true},
		{"htm", &p.Method, 64, true},
		{"htu", &p.URL, MaxBytes, true},
		{"nonce", &p.Nonce, maxNonce, false},
		{"ath", &p.TokenHash, 43, false},
	} {
		value, there := claims[c.name]
		if !there && !c.required {
			continue
		}
		s, isString := value.(string)
		if !isString || s == "" || len(s) > c.most {
			return Proof{}, invalid("its claim "+c.name+" is missing, not a text, or too long", nil)
		}
		*c.to = s
	}
	for _, c := range []struct {
		name     string
		to       *time.Time
		required bool
	}{{"iat", &p.IssuedAt, true}, {"nbf", &p.notBefore, false}, {"exp", &p.expires, false}} {
		value, there := claims[c.name]
		if !there && !c.required {
			continue
		}
		at, ok := readTime(value)
		if !ok {
			return Proof{}, invalid("its claim "+c.name+" is missing or not a time", nil)
		}
		*c.to = at
	}
	return p, nil
}

// lastSecond is the end of the year 9999, up to which a time can be written in RFC 3339.
const lastSecond = 253402300799

// readTime reads a NumericDate (RFC 7519, section 2), which may have a fraction.
func readTime(value any) (time.Time, bool) {
	seconds, isNumber := value.(float64)
	if !isNumber || seconds < 1 || seconds > lastSecond {
		return time.Time{}, false
	}
	return time.Unix(int64(math.Floor(seconds)), 0).UTC(), true
}

// TokenHash returns the ath of proofs for an access token (RFC 9449, section 4.2).
func TokenHash(accessToken string) string {
	sum := sha256.Sum256([]byte(accessToken))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// The reasons of refusals.
const (
	ReasonInvalid     = "INVALID_DPOP_PROOF"  // it is not a proof, or not one for this request
	ReasonUseNonce    = "USE_DPOP_NONCE"      // make it again, with the nonce that the verifier gives
	ReasonReplayed    = "DPOP_PROOF_REPLAYED" // it has been seen before
	ReasonKeyMismatch = "DPOP_KEY_MISMATCH"   // it is by another key than the one that is wanted
	ReasonCrowded     = "DPOP_CROWDED"        // the verifier can't remember more proofs now; Kind Unavailable
)

// invalid makes the refusal of a proof. The cause is for our own log.
func invalid(what string, cause error) error {
	return refuse(ReasonInvalid, "this DPoP proof is refused: "+what+"; make a fresh one for each request", cause)
}

func refuse(reason, public string, cause error) error {
	return &cred.Error{Kind: cred.Unauthenticated, Op: "dpop.verify", Reason: reason, Public: public, Err: cause}
}
