package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred"
)

// algProof is what our own keys sign with, which every verifier of DPoP has.
const algProof = "ES256"

// Key is a caller's key: tokens are bound to its thumbprint, and it signs the proofs. It is safe for
// concurrent use, and prints without its private half.
type Key struct {
	private    func() *ecdsa.PrivateKey // a function, since printers follow pointers
	thumbprint string
	header     string // of each proof, encoded
}

// NewKey makes a key for ES256.
func NewKey() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, keyError("a DPoP key could not be made", err)
	}
	return newKey(private)
}

func newKey(private *ecdsa.PrivateKey) (*Key, error) {
	public := jose.JSONWebKey{Key: private.Public()}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, keyError("a DPoP key has no thumbprint", err)
	}
	jwk, err := public.MarshalJSON()
	if err != nil {
		return nil, keyError("a DPoP key could not be written", err)
	}
	header := `{"alg":"` + algProof + `","typ":"` + typProof + `","jwk":` + string(jwk) + `}`
	return &Key{
		private: func() *ecdsa.PrivateKey { return private }, thumbprint: base64.RawURLEncoding.EncodeToString(thumbprint),
		header: base64.RawURLEncoding.EncodeToString([]byte(header)),
	}, nil
}

// Thumbprint returns what a token that is bound to this key has as cnf.jkt.
func (k *Key) Thumbprint() string { return k.thumbprint }

// Encode returns the key as a private JWK (RFC 7517), to be kept in a file of mode 0600.
func (k *Key) Encode() (cred.Secret, error) {
	b, err := jose.JSONWebKey{Key: k.private(), Algorithm: algProof, Use: "sig"}.MarshalJSON()
	if err != nil {
		return cred.Secret{}, keyError("the DPoP key could not be written", nil) // the cause may quote it
	}
	return cred.NewSecret(append(b, '\n')), nil
}

// maxKeyBytes bounds what ParseKey reads; a key takes about 250 bytes.
const maxKeyBytes = 4 << 10

// ParseKey reads what Encode wrote, and every other private JWK for ES256. The error is Invalid.
func ParseKey(encoded cred.Secret) (*Key, error) {
	var jwk jose.JSONWebKey
	// Errors of the codec are not kept: they may quote what they read.
	if len(encoded.Reveal()) > maxKeyBytes || jwk.UnmarshalJSON(encoded.Reveal()) != nil || !jwk.Valid() {
		return nil, keyError("this is not a DPoP key: a private JWK for ES256", nil)
	}
	private, ok := jwk.Key.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() || jwk.Algorithm != "" && jwk.Algorithm != algProof || jwk.Use != "" && jwk.Use != "sig" {
		return nil, keyError("this is not a DPoP key: a private JWK for ES256", nil)
	}
	again, err := private.Bytes()
	if err != nil {
		return nil, keyError("this is not a DPoP key: a private JWK for ES256", nil)
	}
	// A JWK's private half may belong to another public half; the key made of its private half tells.
	whole, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), again)
	if err != nil || !whole.PublicKey.Equal(&private.PublicKey) {
		return nil, keyError("the halves of this DPoP key do not belong together", nil)
	}
	return newKey(whole)
}

// Sign makes a proof for a request. Want's Thumbprint does not matter; nonce is what the verifier
// has sent as DPoP-Nonce, empty where it has sent none.
func (k *Key) Sign(want Want, nonce string, now time.Time) (string, error) {
	address, ok := normalized(want.URL)
	if !ok || want.Method == "" {
		return "", &cred.Error{Kind: cred.Invalid, Op: "dpop.sign", Public: "a DPoP proof needs a method and an http or https URL without spaces or user name"}
	}
	claims := map[string]any{"jti": rand.Text(), "htm": want.Method, "htu": address, "iat": now.Unix()}
	if want.AccessToken != "" {
		claims["ath"] = TokenHash(want.AccessToken)
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	payload, err := json.Marshal(claims, json.Deterministic(true))
	if err != nil {
		return "", &cred.Error{Kind: cred.Invalid, Op: "dpop.sign", Public: "the method, URL or nonce of this DPoP proof is not valid UTF-8", Err: err}
	}
	input := k.header + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := jwt.SigningMethodES256.Sign(input, k.private())
	if err != nil {
		return "", &cred.Error{Kind: cred.Internal, Op: "dpop.sign", Err: err}
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// Format writes the key's thumbprint, under every verb of fmt.
func (k *Key) Format(f fmt.State, _ rune) {
	if k == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = io.WriteString(f, "dpop.Key("+k.thumbprint+")")
}

func keyError(public string, cause error) error {
	return &cred.Error{Kind: cred.Invalid, Op: "dpop.key", Reason: "DPOP_KEY", Public: public, Err: cause}
}
