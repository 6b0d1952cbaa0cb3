package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// minRSABits is the least that RFC 7518, section 3.3, allows. go-jose refuses keys so long that a
// verification would cost too much.
const minRSABits = 2048

// maxKeys is how many keys a document may hold. Issuers publish a handful.
const maxKeys = 128

// key is one usable key: public, for signatures, strong enough.
type key struct {
	kid    string
	alg    string // the only algorithm that the issuer allows; empty: any that fits the key
	public crypto.PublicKey
}

// publicKey is what each key type of the standard library offers.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// parse reads a JWK set. Keys that we can't use are left out (RFC 7517, section 5): symmetric,
// private, weak, of an unknown type, or meant for something else. Where two different keys have the
// same kid, neither is used. A key that names its use must have one of uses; "sig" where none is given.
func parse(doc []byte, uses ...string) ([]key, error) {
	if len(uses) == 0 {
		uses = []string{"sig"}
	}
	var set struct {
		Keys *[]jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(doc, &set); err != nil {
		return nil, fmt.Errorf("jwks: the key set is not valid JSON: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New("jwks: the key set has no keys member")
	}
	if len(*set.Keys) > maxKeys {
		return nil, fmt.Errorf("jwks: the key set has %d keys, more than %d", len(*set.Keys), maxKeys)
	}
	var keys []key
	for _, raw := range *set.Keys {
		if k, ok := parseKey(raw, uses); ok {
			keys = append(keys, k)
		}
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return contested(keys, k) }), nil
}

func parseKey(raw jsontext.Value, uses []string) (key, bool) {
	var meta struct {
		Use *string   `json:"use"`
		Ops *[]string `json:"key_ops"`
	}
	if json.Unmarshal(raw, &meta) != nil {
		return key{}, false
	}
	if meta.Use != nil && !slices.Contains(uses, *meta.Use) || meta.Ops != nil && !slices.Contains(*meta.Ops, "verify") {
		return key{}, false
	}
	var k jose.JSONWebKey
	if k.UnmarshalJSON(raw) != nil || !k.Valid() || !strong(k.Key) {
		return key{}, false
	}
	return key{kid: k.KeyID, alg: k.Algorithm, public: k.Key}, true
}

// strong also refuses private keys, which are of other types: a key that its issuer has published
// in full signs for anybody.
func strong(public crypto.PublicKey) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSABits && k.E >= 3 && k.E%2 == 1
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize
	}
	return false
}

// contested reports whether another key has the same kid. Keys without one are told apart by what
// they fit alone, see choose.
func contested(keys []key, k key) bool {
	return k.kid != "" && slices.ContainsFunc(keys, func(other key) bool {
		return other.kid == k.kid && !other.public.(publicKey).Equal(k.public)
	})
}

// choose returns the key that kid and alg name. Without a kid it returns the key that alone fits
// alg, and nil where several do.
func choose(keys []key, kid, alg string) crypto.PublicKey {
	var chosen crypto.PublicKey
	for _, k := range keys {
		if kid != "" && k.kid != kid || !k.fits(alg) {
			continue
		}
		if chosen != nil && !k.public.(publicKey).Equal(chosen) {
			return nil
		}
		chosen = k.public
	}
	return chosen
}

// fits reports whether the key may verify alg: by its type and curve (RFC 7518, section 3.1, RFC
// 8037, section 3.1), and by the issuer's own word where it gave one.
func (k key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, alg)
	case *ecdsa.PublicKey:
		switch alg {
		case "ES256":
			return public.Curve == elliptic.P256()
		case "ES384":
			return public.Curve == elliptic.P384()
		case "ES512":
			return public.Curve == elliptic.P521()
		}
		return false
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}
