package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// jwk writes one key as a map, so that a test can change members that go-jose does not write.
func jwk(t testing.TB, key any, kid string, change map[string]any) map[string]any {
	t.Helper()
	b, err := jose.JSONWebKey{Key: key, KeyID: kid}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for name, v := range change {
		m[name] = v
	}
	return m
}

func set(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newEC(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var allAlgs = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
	"none", "HS256", "", "ES256K", "rs256",
}

func TestAKeyFitsItsOwnAlgorithmsAlone(t *testing.T) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := &newRSA(t, 2048).PublicKey
	p256 := &newEC(t, elliptic.P256()).PublicKey
	weak := &newRSA(t, 1024).PublicKey
	tests := map[string]struct {
		key  map[string]any
		want []string
	}{
		"RSA":              {jwk(t, rsaKey, "k", nil), []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		"RSA for one alg":  {jwk(t, rsaKey, "k", map[string]any{"alg": "RS256"}), []string{"RS256"}},
		"RSA of 1024 bits": {jwk(t, weak, "k", nil), nil},
		"RSA of 2040 bits": {jwk(t, &newRSA(t, 2040).PublicKey, "k", nil), nil},
		"RSA, exponent 1":  {jwk(t, rsaKey, "k", map[string]any{"e": "AQ"}), nil},
		"RSA, exponent 2":  {jwk(t, rsaKey, "k", map[string]any{"e": "Ag"}), nil},
		"RSA of 8208 bits": {jwk(t, rsaKey, "k", map[string]any{"n": strings.Repeat("_", 1368)}), nil},
		"P-256":            {jwk(t, p256, "k", nil), []string{"ES256"}},
		"P-384":            {jwk(t, &newEC(t, elliptic.P384()).PublicKey, "k", nil), []string{"ES384"}},
		"P-521":            {jwk(t, &newEC(t, elliptic.P521()).PublicKey, "k", nil), []string{"ES512"}},
		"Ed25519":          {jwk(t, ed, "k", nil), []string{"EdDSA"}},
		"off the curve":    {jwk(t, p256, "k", map[string]any{"x": jwk(t, p256, "k", nil)["y"]}), nil},
		"for signatures":   {jwk(t, p256, "k", map[string]any{"use": "sig"}), []string{"ES256"}},
		"for encryption":   {jwk(t, p256, "k", map[string]any{"use": "enc"}), nil},
		"use in capitals":  {jwk(t, p256, "k", map[string]any{"use": "SIG"}), nil},
		"use empty":        {jwk(t, p256, "k", map[string]any{"use": ""}), nil},
		"to verify":        {jwk(t, p256, "k", map[string]any{"key_ops": []string{"verify"}}), []string{"ES256"}},
		"to encrypt":       {jwk(t, p256, "k", map[string]any{"key_ops": []string{"encrypt"}}), nil},
		"to do nothing":    {jwk(t, p256, "k", map[string]any{"key_ops": []string{}}), nil},
		"ops not a list":   {jwk(t, p256, "k", map[string]any{"key_ops": "verify"}), nil},
		"alg of a cipher":  {jwk(t, rsaKey, "k", map[string]any{"alg": "RSA-OAEP"}), nil},
		"alg of others":    {jwk(t, p256, "k", map[string]any{"alg": "RS256"}), nil},
		"private":          {jwk(t, newEC(t, elliptic.P256()), "k", nil), nil},
		"symmetric":        {jwk(t, []byte(strings.Repeat("k", 32)), "k", nil), nil},
		"unknown type":     {map[string]any{"kty": "XYZ", "kid": "k"}, nil},
		"no type":          {map[string]any{"kid": "k"}, nil},
		"kid a number":     {jwk(t, p256, "k", map[string]any{"kid": 1}), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			keys, err := parse(set(t, test.key))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, alg := range allAlgs {
				if choose(keys, "k", alg) != nil {
					got = append(got, alg)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("algorithms (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTwoKeysOfOneName(t *testing.T) {
	a, b := &newEC(t, elliptic.P256()).PublicKey, &newEC(t, elliptic.P256()).PublicKey
	r := &newRSA(t, 2048).PublicKey
	tests := map[string]struct {
		doc      []byte
		kid, alg string
		want     crypto.PublicKey
	}{
		"different keys":             {set(t, jwk(t, a, "k", nil), jwk(t, b, "k", nil)), "k", "ES256", nil},
		"of different types":         {set(t, jwk(t, a, "k", nil), jwk(t, r, "k", nil)), "k", "ES256", nil},
		"of which one is left out":   {set(t, jwk(t, a, "k", nil), jwk(t, b, "k", map[string]any{"use": "enc"})), "k", "ES256", a},
		"the same key":               {set(t, jwk(t, a, "k", nil), jwk(t, a, "k", nil)), "k", "ES256", a},
		"the same key, two algs":     {set(t, jwk(t, r, "k", map[string]any{"alg": "RS256"}), jwk(t, r, "k", map[string]any{"alg": "PS256"})), "k", "PS256", r},
		"others are not touched":     {set(t, jwk(t, a, "k", nil), jwk(t, b, "k", nil), jwk(t, r, "r", nil)), "r", "RS256", r},
		"no kid asked, one fits":     {set(t, jwk(t, a, "x", nil), jwk(t, r, "y", nil)), "", "ES256", a},
		"no kid asked, two fit":      {set(t, jwk(t, a, "x", nil), jwk(t, b, "y", nil)), "", "ES256", nil},
		"no kid asked, none fits":    {set(t, jwk(t, a, "x", nil)), "", "RS256", nil},
		"a kid asked, keys have not": {set(t, jwk(t, a, "", nil)), "k", "ES256", nil},
		"two without a name":         {set(t, jwk(t, a, "", nil), jwk(t, r, "", nil)), "", "RS256", r},
		"a kid in another case":      {set(t, jwk(t, a, "K", nil)), "k", "ES256", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			keys, err := parse(test.doc)
			if err != nil {
				t.Fatal(err)
			}
			if got := choose(keys, test.kid, test.alg); !same(got, test.want) {
				t.Errorf("choose(%q, %s) = %v, want %v", test.kid, test.alg, got, test.want)
			}
		})
	}
}

func same(a, b crypto.PublicKey) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.(publicKey).Equal(b)
}

func TestAMemberTwiceInAKeyLeavesItOut(t *testing.T) {
	a, b := jwk(t, &newEC(t, elliptic.P256()).PublicKey, "k", nil), jwk(t, &newEC(t, elliptic.P256()).PublicKey, "k", nil)
	raw := strings.Replace(string(set(t, a)), `"crv"`, `"x":"`+b["x"].(string)+`","crv"`, 1)
	if keys, err := parse([]byte(raw)); err == nil {
		t.Errorf("read %d keys of a document with a member twice", len(keys))
	}
}

// FuzzParse holds that whatever is published, only keys that are strong and fit come out.
func FuzzParse(f *testing.F) {
	k := &newEC(f, elliptic.P256()).PublicKey
	f.Add(set(f, jwk(f, k, "k", nil)))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"a"},{"kty":"oct","k":"AA"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"},null,[],1]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		keys, err := parse(doc)
		if err != nil && keys != nil {
			t.Fatal("keys beside an error")
		}
		for _, k := range keys {
			if !strong(k.public) {
				t.Fatalf("a weak key of type %T came through", k.public)
			}
			for _, alg := range []string{"none", "HS256", ""} {
				if k.fits(alg) {
					t.Fatalf("a key fits %q", alg)
				}
			}
		}
	})
}
