package oauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523, section 2.2
	assertionLife = time.Minute
	minRSABits    = 2048
)

// authenticate puts what proves who the client is into a request.
func (c *Client) authenticate(ctx context.Context, r *tokenapi.Request, about issuer.Spec) error {
	switch c.Method {
	case ClientSecretBasic, ClientSecretPost:
		return c.withSecret(ctx, r)
	case PrivateKeyJWT:
		return c.withAssertion(ctx, r, about)
	default:
		if c.ID != "" {
			r.Set("client_id", c.ID)
		}
		return nil
	}
}

func (c *Client) withSecret(ctx context.Context, r *tokenapi.Request) error {
	secret, err := c.Secret(ctx)
	if err != nil {
		return issuer.NotIssued("oauth.client", "", publicSecret, err)
	}
	if c.Method == ClientSecretPost {
		r.Set("client_id", c.ID)
		r.SetSecret("client_secret", secret)
		return nil
	}
	// Both are form-encoded before they go into the header: RFC 6749, section 2.3.1.
	r.SetBasic(url.QueryEscape(c.ID), cred.SecretString(url.QueryEscape(secret.RevealString())))
	r.Hide(secret)
	return nil
}

func (c *Client) withAssertion(ctx context.Context, r *tokenapi.Request, about issuer.Spec) error {
	sign := c.Assertion
	if sign == nil {
		sign = c.signAssertion
	}
	assertion, err := sign(ctx, c.Audience, about)
	if err != nil {
		return issuer.NotIssued("oauth.client", "", publicSecret, err)
	}
	r.Set("client_id", c.ID)
	r.Set("client_assertion_type", assertionType)
	r.SetSecret("client_assertion", assertion)
	return nil
}

// signAssertion makes a JWT that says who the client is: RFC 7523, section 3. Each has a jti of its
// own, since servers take each once.
func (c *Client) signAssertion(ctx context.Context, audience string, _ issuer.Spec) (cred.Secret, error) {
	var method jwt.SigningMethod = jwt.SigningMethodRS256
	if c.Transit == nil {
		var err error
		if method, err = signingMethod(c.Key); err != nil {
			return cred.Secret{}, err
		}
	}
	now := time.Now()
	t := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": c.ID, "sub": c.ID, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if c.KeyID != "" {
		t.Header["kid"] = c.KeyID
	}
	if c.Transit == nil {
		signed, err := t.SignedString(c.Key)
		return cred.SecretString(signed), err
	}
	input, err := t.SigningString()
	if err != nil {
		return cred.Secret{}, err
	}
	signature, err := c.Transit.SignRS256(ctx, []byte(input))
	return cred.SecretString(input + "." + base64.RawURLEncoding.EncodeToString(signature)), err
}

func signingMethod(key crypto.PrivateKey) (jwt.SigningMethod, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < minRSABits {
			return nil, invalidConfig("the client's RSA key must have 2048 bits or more", "short RSA key")
		}
		return jwt.SigningMethodRS256, nil
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return jwt.SigningMethodES256, nil
		case elliptic.P384():
			return jwt.SigningMethodES384, nil
		}
	case ed25519.PrivateKey:
		return jwt.SigningMethodEdDSA, nil
	}
	return nil, invalidConfig("the client's key must be RSA, ECDSA on P-256 or P-384, or Ed25519", "unknown kind of key")
}

// ParseKey reads a private key in PEM form (PKCS #8, PKCS #1 or SEC 1). Errors are Invalid and quote
// nothing of it.
func ParseKey(text cred.Secret) (crypto.PrivateKey, error) {
	block, _ := pem.Decode(text.Reveal())
	if block == nil {
		return nil, invalidConfig("the client's key is not in PEM form", "no PEM block")
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	return nil, invalidConfig("the client's key is no private key in PKCS #8, PKCS #1 or SEC 1 form; one with a passphrase can't be used", "no private key")
}
