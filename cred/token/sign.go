package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/jws"
	"github.com/go-json-experiment/json"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The values of typ: RFC 9068, section 2.1, and RFC 7519, section 5.1. They keep a grant token from
// being taken for an identity token, and the other way round.
const (
	typGrant    = "at+jwt"
	typIdentity = "JWT"
)

// Sign makes a grant token. It signs nothing that a Verifier would refuse at every instant: claims
// that are missing or contradict each other, or a token over MaxBytes, are an Internal error.
func (r *KeyRing) Sign(c Claims) (string, error) {
	payload, err := writeClaims(c)
	if err != nil {
		return "", signError(err)
	}
	if _, err := readClaims(payload); err != nil {
		return "", signError(err)
	}
	return r.current.sign(typGrant, payload)
}

// SignIDToken makes a token of the broker's own identity, for peers that authenticate workloads by
// OIDC, such as Vault's JWT auth method. It has iss, sub, aud, iat, nbf, exp, a random jti, and
// extra, which must name none of these. Whoever holds it is the broker, so it is a Secret. Errors
// are Internal.
func (r *KeyRing) SignIDToken(issuer, subject, audience string, now time.Time, life time.Duration, extra map[string]any) (cred.Secret, error) {
	if issuer == "" || subject == "" || audience == "" || life < time.Second {
		return cred.Secret{}, signError(errors.New("an identity token needs an issuer, a subject, an audience and a life of a second or more"))
	}
	claims := map[string]any{
		"iss": issuer, "sub": subject, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix(),
	}
	for name, value := range extra {
		if _, taken := claims[name]; taken {
			return cred.Secret{}, signError(fmt.Errorf("the extra claim %q is one of the token's own", name))
		}
		claims[name] = value
	}
	payload, err := json.Marshal(claims, json.Deterministic(true))
	if err != nil {
		return cred.Secret{}, signError(err)
	}
	tok, err := r.current.sign(typIdentity, payload)
	return cred.SecretString(tok), err
}

// sign makes a compact JWS (RFC 7515, section 3.1) that jws.Parse takes. The header's values need no
// escaping: they are constants and base64url.
func (k *signingKey) sign(typ string, payload []byte) (string, error) {
	if err := jws.CheckClaims(payload); err != nil {
		return "", signError(err)
	}
	header := `{"alg":"` + k.method.Alg() + `","kid":"` + k.kid + `","typ":"` + typ + `"}`
	input := encode([]byte(header)) + "." + encode(payload)
	signature, err := k.signature(input)
	if err != nil {
		return "", signError(err)
	}
	tok := input + "." + encode(signature)
	if len(tok) > MaxBytes {
		return "", signError(fmt.Errorf("a token of %d bytes, and at most %d are accepted", len(tok), MaxBytes))
	}
	return tok, nil
}

// signature signs as RFC 8037, section 3.1, or RFC 7518, section 3.4, has it. That of ECDSA is
// deterministic (RFC 6979), as RFC 8725, section 3.2, recommends: no bad random number can give the key
// away, and none has to be made.
func (k *signingKey) signature(input string) ([]byte, error) {
	if _, isECDSA := k.private.(*ecdsa.PrivateKey); !isECDSA {
		return k.method.Sign(input, k.private)
	}
	digest := sha256.Sum256([]byte(input))
	der, err := k.private.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	const size = 32 // bytes of a number of P-256
	signature := make([]byte, 2*size)
	r, s := signature[:size], signature[size:]
	return signature, readDER(der, r, s)
}

// readDER reads the two numbers of an ECDSA signature, each into as many bytes as there are.
func readDER(der []byte, r, s []byte) error {
	outer := cryptobyte.String(der)
	var inner cryptobyte.String
	var first, second big.Int
	if !outer.ReadASN1(&inner, asn1.SEQUENCE) || !outer.Empty() ||
		!inner.ReadASN1Integer(&first) || !inner.ReadASN1Integer(&second) || !inner.Empty() {
		return errors.New("the signature is not in DER")
	}
	first.FillBytes(r)
	second.FillBytes(s)
	return nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signError hides the Kind of its cause: that the broker made claims which do not hold is its own
// fault, not the caller's.
func signError(err error) error {
	return &cred.Error{Kind: cred.Internal, Op: "token.sign", Err: err}
}
