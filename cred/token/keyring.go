package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// The algorithms that grant tokens are signed with (RFC 7518, section 3.4; RFC 8037, section 3.1).
const (
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

// KeyRing holds the broker's signing keys: the previous one, which still verifies, the current one,
// which signs, and the next one, which is published so that everybody has it before it signs.
// Rotate no sooner than the longest-lived token lasts, or tokens of the key that drops out die.
//
// A KeyRing is immutable and safe for concurrent use. It prints without its keys.
type KeyRing struct {
	alg       string
	rotatedAt time.Time
	previous  *signingKey // nil until the first rotation
	current   *signingKey
	next      *signingKey
	jwks      []byte
}

// signingKey is one key pair with what its tokens repeat.
type signingKey struct {
	kid     string // RFC 7638 thumbprint, SHA-256
	method  jwt.SigningMethod
	private crypto.Signer
	public  crypto.PublicKey
}

// NewKeyRing makes a ring of two fresh keys for an algorithm, ES256 or EdDSA; empty means ES256.
// Another one is an Invalid error.
func NewKeyRing(alg string, now time.Time) (*KeyRing, error) {
	if alg == "" {
		alg = ES256
	}
	current, err := generate(alg)
	if err != nil {
		return nil, err
	}
	next, err := generate(alg)
	if err != nil {
		return nil, err
	}
	return assemble(alg, now, nil, current, next)
}

// JWKS returns the public keys as a JWK set (RFC 7517, section 5), to be served at the broker's
// jwks_uri.
func (r *KeyRing) JWKS() []byte { return slices.Clone(r.jwks) }

// Key returns the public key of the ring that kid and alg name. The error is Unauthenticated with
// Reason UNKNOWN_KEY.
func (r *KeyRing) Key(_ context.Context, kid, alg string) (crypto.PublicKey, error) {
	for _, k := range []*signingKey{r.previous, r.current, r.next} {
		if k != nil && k.kid == kid && k.method.Alg() == alg {
			return k.public, nil
		}
	}
	return nil, refuse("UNKNOWN_KEY", "kid", "this token is signed with a key that the broker does not have, or no longer; ask for a fresh one")
}

// Format writes which key signs, under every verb of fmt, and no key.
func (r *KeyRing) Format(f fmt.State, _ rune) {
	if r == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = io.WriteString(f, "token.KeyRing("+r.alg+" "+r.current.kid+")")
}

func assemble(alg string, now time.Time, previous, current, next *signingKey) (*KeyRing, error) {
	r := &KeyRing{alg: alg, rotatedAt: now.UTC(), previous: previous, current: current, next: next}
	var set jose.JSONWebKeySet
	for _, k := range []*signingKey{previous, current, next} {
		if k != nil {
			set.Keys = append(set.Keys, k.jwk(k.public))
		}
	}
	var err error
	if r.jwks, err = json.Marshal(set); err != nil {
		return nil, keyError(err)
	}
	return r, nil
}

func generate(alg string) (*signingKey, error) {
	switch alg {
	case ES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, keyError(err)
		}
		return newSigningKey(alg, private)
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, keyError(err)
		}
		return newSigningKey(alg, private)
	}
	return nil, &cred.Error{Kind: cred.Invalid, Op: "token.keyring", Public: "grant tokens are signed with ES256 or EdDSA, no other algorithm; change the configuration"}
}

// newSigningKey checks that the key is one that alg signs with.
func newSigningKey(alg string, private crypto.Signer) (*signingKey, error) {
	k := &signingKey{private: private, public: private.Public()}
	switch p := private.(type) {
	case *ecdsa.PrivateKey:
		if alg == ES256 && p.Curve == elliptic.P256() {
			k.method = jwt.SigningMethodES256
		}
	case ed25519.PrivateKey:
		if alg == EdDSA {
			k.method = jwt.SigningMethodEdDSA
		}
	}
	if k.method == nil {
		return nil, keyError(errors.New("the key does not fit the algorithm"))
	}
	thumbprint, err := (&jose.JSONWebKey{Key: k.public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, keyError(err)
	}
	k.kid = encode(thumbprint)
	return k, nil
}

func (k *signingKey) jwk(key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: k.kid, Algorithm: k.method.Alg(), Use: "sig"}
}

func keyError(err error) error {
	return &cred.Error{Kind: cred.Internal, Op: "token.keyring", Err: err}
}
