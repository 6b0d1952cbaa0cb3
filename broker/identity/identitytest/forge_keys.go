package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"hash"
	"strings"
)

// algorithms forges by the header's alg: "none" in every spelling, with and without a signature,
// and algorithms that fit the key or the signature badly.
func (f *forge) algorithms() {
	good := strings.Split(f.issuer.Sign(f.claims()), ".")
	for bits := range 16 {
		spelling := []byte("none")
		for n := range spelling {
			if bits>>n&1 == 1 {
				spelling[n] -= 'a' - 'A'
			}
		}
		header := b64(mustJSON(map[string]any{"alg": string(spelling), "typ": "JWT"}))
		f.add(fmt.Sprintf("alg %s, no signature", spelling), header+"."+good[1]+".", "TOKEN_MALFORMED", "TOKEN_ALGORITHM")
		f.add(fmt.Sprintf("alg %s, a signature", spelling), header+"."+good[1]+"."+good[2], "TOKEN_ALGORITHM")
	}
	for _, alg := range []any{" none", "none ", "none\x00", "rs256", "RS256 ", "RS1", "RS", "ES256K", "ESP256", "Ed25519", "Ed448", "dir", "RSA-OAEP", "A128KW", "HS1", "", 256, true, []string{"RS256"}, map[string]any{"alg": "RS256"}} {
		f.add(fmt.Sprintf("alg %#v", alg), f.issuer.Sign(f.claims(), WithHeader("alg", alg)), "TOKEN_ALGORITHM", "TOKEN_MALFORMED")
	}
	f.add("no alg", f.issuer.Sign(f.claims(), WithHeader("alg", nil)), "TOKEN_ALGORITHM")
	for _, alg := range []string{"RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"} {
		f.add("an RS256 signature called "+alg, f.issuer.Sign(f.claims(), WithHeader("alg", alg)), "SIGNATURE_INVALID")
	}
	for _, alg := range []string{"ES384", "ES512", "RS256", "EdDSA"} {
		f.add("an ES256 signature called "+alg, f.issuer.Sign(f.claims(), WithAlg("ES256"), WithHeader("alg", alg)), "SIGNATURE_INVALID")
	}
	f.ellipticTricks()
}

// ellipticTricks forges signatures that careless ECDSA and EdDSA code has taken.
func (f *forge) ellipticTricks() {
	for _, alg := range []string{"ES256", "ES384", "EdDSA", "RS256", "PS256"} {
		k := f.issuer.key(alg)
		input := b64(f.header(k)) + "." + b64(mustJSON(f.claims()))
		size := len(k.sign(input))
		f.add(alg+" with a signature of zeros", input+"."+b64(make([]byte, size)), "SIGNATURE_INVALID")
		f.add(alg+" with a signature of one byte", input+"."+b64([]byte{1}), "SIGNATURE_INVALID")
		f.add(alg+" with a signature too long", input+"."+b64(append(k.sign(input), 0)), "SIGNATURE_INVALID")
		f.add(alg+" with a signature over the claims alone", input+"."+b64(k.sign(strings.Split(input, ".")[1])), "SIGNATURE_INVALID")
	}
	k := f.issuer.key("ES256")
	input := b64(f.header(k)) + "." + b64(mustJSON(f.claims()))
	digest := sha256.Sum256([]byte(input))
	asn1, err := ecdsa.SignASN1(rand.Reader, k.private.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		panic("identitytest: signing failed: " + err.Error())
	}
	f.add("ES256 with an ASN.1 signature", input+"."+b64(asn1), "SIGNATURE_INVALID")
}

// secrets forges with HMAC, whose secret is something that everybody knows of the public key.
func (f *forge) secrets() {
	public := f.public()
	pkix, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic("identitytest: " + err.Error())
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	pkixPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})
	k := f.issuer.key("RS256")
	secrets := map[string][]byte{
		"PEM": pkixPEM, "PEM without its last newline": []byte(strings.TrimSpace(string(pkixPEM))),
		"PKCS#1 PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"DER":        pkix, "PKCS#1 DER": pkcs1, "JWK": mustJSON(k.jwk()), "modulus": public.N.Bytes(),
		"modulus in base64url": []byte(b64(public.N.Bytes())), "kid": []byte(k.kid), "nothing": {},
	}
	hashes := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
	for what, secret := range secrets {
		for alg, hash := range hashes {
			input := b64(mustJSON(map[string]any{"alg": alg, "kid": k.kid, "typ": "JWT"})) + "." + b64(mustJSON(f.claims()))
			mac := hmac.New(hash, secret)
			mac.Write([]byte(input))
			f.add(fmt.Sprintf("%s with the public key's %s as the secret", alg, what), input+"."+b64(mac.Sum(nil)), "TOKEN_ALGORITHM")
		}
	}
}

// keys forges with keys that are not the issuer's, or not for this.
func (f *forge) keys() {
	for _, alg := range algorithms {
		f.add("another issuer's "+alg+" key under the same kid", f.stranger.Sign(f.claims(), WithAlg(alg)), "SIGNATURE_INVALID")
		f.add("another issuer's "+alg+" key without kid", f.stranger.Sign(f.claims(), WithAlg(alg), WithHeader("kid", nil)), "SIGNATURE_INVALID")
		f.add("another issuer's "+alg+" key under an unknown kid", f.stranger.Sign(f.claims(), WithAlg(alg), WithHeader("kid", "unknown")), "SIGNATURE_INVALID")
	}
	for _, kid := range []any{"PS256-1", "ps256-1", "es256-1", "rs256-1 ", "RS256-1", "rs256", "../../dev/null", "' OR '1'='1", "\x00", "rs256-1\x00", "/dev/null", "http://127.0.0.1/key", long(500)} {
		f.add(fmt.Sprintf("kid %.20q", kid), f.issuer.Sign(f.claims(), WithHeader("kid", kid)), "SIGNATURE_INVALID")
	}
	for _, kid := range []any{"", 1, []string{"rs256-1"}, map[string]any{}, false, long(4000)} {
		f.add(fmt.Sprintf("kid %.20v", kid), f.issuer.Sign(f.claims(), WithHeader("kid", kid)), "TOKEN_MALFORMED", "TOKEN_TOO_LARGE")
	}
	f.unfitKeys()
}

// unfitKeys forges with keys that the issuer does publish and that must not be used.
func (f *forge) unfitKeys() {
	weak := key{"weak-1", "RS256", crypto.Signer(f.weak)}
	f.issuer.Publish(weak.jwk())
	f.add("an RSA key of 1024 bits", weak.compact(f.header(weak), mustJSON(f.claims())), "SIGNATURE_INVALID")

	encryption := f.stranger.key("RS256")
	encryption.kid = "encryption-1"
	jwk := encryption.jwk()
	jwk["use"] = "enc"
	f.issuer.Publish(jwk)
	f.add("a key for encryption", encryption.compact(f.header(encryption), mustJSON(f.claims())), "SIGNATURE_INVALID")

	f.issuer.Publish(map[string]any{"kty": "oct", "kid": "symmetric-1", "k": b64([]byte("published")), "use": "sig"})
	input := b64([]byte(`{"alg":"HS256","kid":"symmetric-1"}`)) + "." + b64(mustJSON(f.claims()))
	mac := hmac.New(sha256.New, []byte("published"))
	mac.Write([]byte(input))
	f.add("a symmetric key that is published", input+"."+b64(mac.Sum(nil)), "TOKEN_ALGORITHM")
}
