package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"maps"
)

// SignOption changes how a token is signed.
type SignOption func(*signing)

type signing struct {
	alg    string
	header map[string]any
}

// WithAlg signs with the issuer's key for another algorithm than RS256: PS256, ES256, ES384, EdDSA.
func WithAlg(alg string) SignOption { return func(s *signing) { s.alg = alg } }

// WithHeader sets a member of the header after all else, or removes it where value is nil.
func WithHeader(name string, value any) SignOption {
	return func(s *signing) { s.header[name] = value }
}

// Sign returns a compact JWS of the claims, with typ JWT and the kid of the issuer's current key.
// It panics where the claims are no JSON.
func (i *Issuer) Sign(claims map[string]any, opts ...SignOption) string {
	s := signing{alg: algorithms[0], header: map[string]any{}}
	for _, opt := range opts {
		opt(&s)
	}
	k := i.key(s.alg)
	header := map[string]any{"alg": k.alg, "kid": k.kid, "typ": "JWT"}
	maps.Copy(header, s.header)
	maps.DeleteFunc(header, func(_ string, v any) bool { return v == nil })
	return k.compact(mustJSON(header), mustJSON(claims))
}

// SignRaw signs any payload, JSON or not, with the issuer's current key for an algorithm.
func (i *Issuer) SignRaw(payload []byte, alg string) string {
	k := i.key(alg)
	return k.compact(mustJSON(map[string]any{"alg": k.alg, "kid": k.kid, "typ": "JWT"}), payload)
}

// compact signs any header and payload, sensible or not.
func (k key) compact(header, payload []byte) string {
	input := b64(header) + "." + b64(payload)
	return input + "." + b64(k.sign(input))
}

// sign makes the signature of RFC 7518 section 3 or RFC 8037 section 3.1.
func (k key) sign(input string) []byte {
	hash := crypto.SHA256
	if k.alg == "ES384" {
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write([]byte(input))
	digest := h.Sum(nil)
	var signature []byte
	var err error
	switch k.alg {
	case "EdDSA":
		signature, err = k.private.Sign(rand.Reader, []byte(input), crypto.Hash(0))
	case "PS256":
		signature, err = k.private.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	case "RS256":
		signature, err = k.private.Sign(rand.Reader, digest, hash)
	default:
		signature, err = signEC(k.private.(*ecdsa.PrivateKey), digest)
	}
	if err != nil {
		panic("identitytest: signing failed: " + err.Error())
	}
	return signature
}

// signEC returns r and s at their full lengths, one after the other.
func signEC(private *ecdsa.PrivateKey, digest []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, private, digest)
	if err != nil {
		return nil, err
	}
	size := (private.Params().BitSize + 7) / 8
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return signature, nil
}
