package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// keyMembers are the members that are the key itself, by its type (RFC 7518, section 6; RFC 8037,
// section 2). A symmetric key has no public half, so there is none of that type.
var keyMembers = map[string][]string{
	"EC":  {"kty", "crv", "x", "y"},
	"OKP": {"kty", "crv", "x"},
	"RSA": {"kty", "n", "e"},
}

// keyNotes are members that say how a key is meant (RFC 7517, section 4), and the one that browsers
// add when they export a key. They are tolerated; alg and use must not contradict what is done.
var keyNotes = []string{"alg", "use", "key_ops", "kid", "ext"}

// minRSABits is the least that RFC 7518, section 3.3, allows. go-jose refuses keys of more than 4096
// bits, with which a verification would cost too much.
const minRSABits = 2048

// readKey turns the jwk of a proof's header into the public key that verifies alg, and its
// thumbprint (RFC 7638, with SHA-256).
func readKey(jwk map[string]any, alg string) (crypto.PublicKey, string, error) {
	kty, _ := jwk["kty"].(string)
	members, known := keyMembers[kty]
	if !known {
		return nil, "", invalid("its jwk is not a public key of a type that is known here", nil)
	}
	for name := range jwk {
		if !slices.Contains(members, name) && !slices.Contains(keyNotes, name) {
			return nil, "", invalid("its jwk is private, or has members that are not known here", nil)
		}
	}
	if contradicts(jwk, "alg", alg) || contradicts(jwk, "use", "sig") {
		return nil, "", invalid("its jwk is meant for something else", nil)
	}
	bare := make(map[string]any, len(members))
	for _, name := range members {
		bare[name] = jwk[name]
	}
	key, err := decodeKey(bare)
	if err != nil {
		return nil, "", invalid("its jwk can't be read", err)
	}
	if !fits(key.Key, alg) {
		return nil, "", invalid("its jwk is not a key for its alg, or too weak", nil)
	}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, "", invalid("its jwk has no thumbprint", err)
	}
	return key.Key, base64.RawURLEncoding.EncodeToString(thumbprint), nil
}

func contradicts(jwk map[string]any, name, want string) bool {
	value, there := jwk[name]
	return there && value != want
}

var errNotCanonical = errors.New("dpop: the key is not written in its canonical form")

// decodeKey reads a public key. A key that could be written in two ways would have two thumbprints,
// so it must come as it would be written here.
func decodeKey(bare map[string]any) (*jose.JSONWebKey, error) {
	raw, err := json.Marshal(bare, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	again, err := key.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var canonical map[string]any
	if err := json.Unmarshal(again, &canonical); err != nil {
		return nil, err
	}
	for name, value := range bare {
		if canonical[name] != value {
			return nil, errNotCanonical
		}
	}
	return &key, nil
}

// Algorithms returns what proofs may be signed with, as metadata and challenges list it.
func Algorithms() []string {
	return []string{"ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
}

// fits reports whether a key verifies an algorithm (RFC 7518, section 3.1; RFC 8037, section 3.1)
// and is strong enough. Private keys are of other types, and fit none.
func fits(key crypto.PublicKey, alg string) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return alg == map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[k.Params().Name]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case *rsa.PublicKey:
		return slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, alg) &&
			k.N.BitLen() >= minRSABits && k.E >= 3 && k.E%2 == 1
	}
	return false
}
