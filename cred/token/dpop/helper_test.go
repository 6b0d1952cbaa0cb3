package dpop_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token/dpop"
)

// Now is an arbitrary instant with a fraction, as clocks have.
var now = time.Date(2026, 11, 22, 12, 0, 0, 250_000_000, time.UTC)

const (
	accessToken = "header.claims.signature"
	address     = "https://proxy.example.com/api/v1/models"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// forger makes proofs that hold but for what is changed in them. It signs with a key that a client
// of any library may have.
type forger struct {
	t       testing.TB
	private crypto.Signer
	method  jwt.SigningMethod
	header  map[string]any
	claims  map[string]any
}

func newForger(t testing.TB) *forger {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &forger{
		t: t, private: private, method: jwt.SigningMethodES256,
		header: map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": jwkOf(&private.PublicKey)},
		claims: map[string]any{
			"jti": rand.Text(), "htm": "GET", "htu": address, "iat": now.Unix(), "ath": dpop.TokenHash(accessToken),
		},
	}
}

func jwkOf(k *ecdsa.PublicKey) map[string]any {
	point, err := k.Bytes()
	if err != nil {
		panic(err)
	}
	n := (len(point) - 1) / 2
	return map[string]any{"kty": "EC", "crv": k.Params().Name, "x": b64(point[1 : 1+n]), "y": b64(point[1+n:])}
}

// with returns a proof in which something is changed.
func (f *forger) with(change func(header, claims map[string]any)) string {
	f.t.Helper()
	header, claims := maps.Clone(f.header), maps.Clone(f.claims)
	if jwk, ok := header["jwk"].(map[string]any); ok {
		header["jwk"] = maps.Clone(jwk)
	}
	claims["jti"] = rand.Text()
	change(header, claims)
	return f.sign(text(header), text(claims))
}

func (f *forger) good() string { return f.with(func(_, _ map[string]any) {}) }

// header returns a proof whose header has a member, or lacks it where the value is nil.
func (f *forger) withHeader(name string, value any) string {
	return f.with(func(header, _ map[string]any) { put(header, name, value) })
}

func (f *forger) withKey(name string, value any) string {
	return f.with(func(header, _ map[string]any) { put(header["jwk"].(map[string]any), name, value) })
}

func (f *forger) withClaim(name string, value any) string {
	return f.with(func(_, claims map[string]any) { put(claims, name, value) })
}

// remove stands for a member that is taken out.
type remove struct{}

func put(m map[string]any, name string, value any) {
	if m[name] = value; value == (remove{}) {
		delete(m, name)
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// sign makes a compact JWS of any header and claims.
func (f *forger) sign(header, claims string) string {
	f.t.Helper()
	input := b64([]byte(header)) + "." + b64([]byte(claims))
	signature, err := f.method.Sign(input, f.private)
	if err != nil {
		f.t.Fatal(err)
	}
	return input + "." + b64(signature)
}

func (f *forger) thumbprint() string {
	f.t.Helper()
	p, err := dpop.Parse(f.good())
	if err != nil {
		f.t.Fatal(err)
	}
	return p.Thumbprint
}

func want(thumbprint string) dpop.Want {
	return dpop.Want{Method: "GET", URL: address + "?q=1", AccessToken: accessToken, Thumbprint: thumbprint}
}

func verifier(o dpop.Options) *dpop.Verifier {
	if o.Now == nil {
		o.Now = func() time.Time { return now }
	}
	return dpop.New(o)
}

// wantRefused checks a refusal's kind, its reason, and a part of what people read.
func wantRefused(t testing.TB, name string, err error, reason, says string) {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != cred.Unauthenticated || e.Reason != reason || !strings.Contains(e.Public, says) {
		t.Errorf("%s: %v; want %s that says %q", name, err, reason, says)
	}
}
