package token

import (
	"crypto"
	"errors"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ringVersion is the version of sealedRing. A reader refuses others.
const ringVersion = 1

// maxRingBytes bounds what ParseKeyRing reads; three keys take about 1 KiB.
const maxRingBytes = 64 << 10

// sealedRing is how a ring is kept: private keys as JWKs (RFC 7517), in their slots.
type sealedRing struct {
	Version   int            `json:"version"`
	Alg       string         `json:"alg"`
	RotatedAt time.Time      `json:"rotated_at"`
	Previous  jsontext.Value `json:"previous,omitzero"`
	Current   jsontext.Value `json:"current"`
	Next      jsontext.Value `json:"next"`
}

// Encode returns the ring with its private keys, to be sealed in the store.
func (r *KeyRing) Encode() cred.Secret {
	w := sealedRing{Version: ringVersion, Alg: r.alg, RotatedAt: r.rotatedAt}
	w.Previous, w.Current, w.Next = r.previous.encode(), r.current.encode(), r.next.encode()
	b, err := json.Marshal(w)
	if err != nil {
		panic("token: a key ring failed to encode") // its own keys and strings; the error may quote a key
	}
	return cred.NewSecret(b)
}

func (k *signingKey) encode() jsontext.Value {
	if k == nil {
		return nil
	}
	b, err := k.jwk(k.private).MarshalJSON()
	if err != nil {
		panic("token: a key of the ring failed to encode")
	}
	return b
}

// ParseKeyRing reads what Encode wrote. It refuses, as Internal, another version, unknown members,
// keys that do not fit the algorithm or their kid, and the same key in two slots.
func ParseKeyRing(sealed cred.Secret) (*KeyRing, error) {
	if len(sealed.Reveal()) > maxRingBytes {
		return nil, keyError(errors.New("the key ring is too long"))
	}
	var w sealedRing
	// Errors of the codecs are not kept: they may quote what they read.
	if json.Unmarshal(sealed.Reveal(), &w, json.RejectUnknownMembers(true)) != nil {
		return nil, keyError(errors.New("the key ring is not valid JSON, or has unknown members"))
	}
	if w.Version != ringVersion {
		return nil, keyError(errors.New("the key ring is of another version"))
	}
	current, err := decodeKey(w.Alg, w.Current)
	if err != nil {
		return nil, err
	}
	next, err := decodeKey(w.Alg, w.Next)
	if err != nil {
		return nil, err
	}
	var previous *signingKey
	if w.Previous != nil {
		if previous, err = decodeKey(w.Alg, w.Previous); err != nil {
			return nil, err
		}
	}
	if current.kid == next.kid || previous != nil && (previous.kid == current.kid || previous.kid == next.kid) {
		return nil, keyError(errors.New("the key ring has a key twice"))
	}
	return assemble(w.Alg, w.RotatedAt, previous, current, next)
}

func decodeKey(alg string, raw jsontext.Value) (*signingKey, error) {
	var jwk jose.JSONWebKey
	if jwk.UnmarshalJSON(raw) != nil || !jwk.Valid() {
		return nil, keyError(errors.New("a key of the ring is not a JWK"))
	}
	private, ok := jwk.Key.(crypto.Signer)
	if !ok {
		return nil, keyError(errors.New("a key of the ring is not private"))
	}
	k, err := newSigningKey(alg, private)
	if err != nil {
		return nil, err
	}
	if jwk.KeyID != k.kid || jwk.Algorithm != alg || jwk.Use != "sig" {
		return nil, keyError(errors.New("a key of the ring does not match its kid, alg or use"))
	}
	return k, k.prove()
}

// prove signs and verifies once: a JWK's private half may belong to another public half.
func (k *signingKey) prove() error {
	const text = "daypass key ring"
	signature, err := k.method.Sign(text, k.private)
	if err == nil {
		err = k.method.Verify(text, signature, k.public)
	}
	if err != nil {
		return keyError(errors.New("the halves of a key of the ring do not belong together"))
	}
	return nil
}
