package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
)

// algorithms lists what an Issuer signs with; the first is the default. newKeys keeps their order.
var algorithms = []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}

// key is a private key for one algorithm.
type key struct {
	kid, alg string
	private  crypto.Signer
}

// Rotate makes a new generation of keys for tokens to come. The generation before stays published,
// older ones do not.
func (i *Issuer) Rotate() error {
	i.mu.Lock()
	i.generation++
	generation := i.generation
	i.mu.Unlock()
	keys, err := newKeys(generation)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append([][]key{keys}, i.keys[:min(1, len(i.keys))]...)
	return nil
}

// Retire stops publishing all keys but those that sign now.
func (i *Issuer) Retire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = i.keys[:1]
}

// Publish adds a JWK to the key set as it is.
func (i *Issuer) Publish(jwk map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.extra = append(i.extra, jwk)
}

// JWK returns the current public key for an algorithm as a JWK.
func (i *Issuer) JWK(alg string) map[string]any { return i.key(alg).jwk() }

// key returns the current key for an algorithm.
func (i *Issuer) key(alg string) key {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, k := range i.keys[0] {
		if k.alg == alg {
			return k
		}
	}
	panic("identitytest: there is no key for " + alg)
}

// newKeys makes one key for each algorithm. The two RSA algorithms share the numbers of one key,
// which take long to find, under two kids.
func newKeys(generation int) ([]key, error) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	keys := make([]key, len(algorithms))
	for n, private := range []crypto.Signer{rsaKey, rsaKey, p256, p384, edwards} {
		alg := algorithms[n]
		keys[n] = key{fmt.Sprintf("%s-%d", strings.ToLower(alg), generation), alg, private}
	}
	return keys, nil
}

// jwk returns the public key as RFC 7518 section 6 and RFC 8037 section 2 write it.
func (k key) jwk() map[string]any {
	m := map[string]any{"kid": k.kid, "alg": k.alg, "use": "sig"}
	switch public := k.private.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			panic("identitytest: " + err.Error())
		}
		half := len(point) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", public.Params().Name, b64(point[1:1+half]), b64(point[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(public)
	}
	return m
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
