package identity_test

import (
	"context"
	"crypto"
	"fmt"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/internal/jwks"
	"github.com/daypass-io/daypass/internal/jws"
)

// BenchmarkVerify verifies a GitHub Actions token whose key is cached.
func BenchmarkVerify(b *testing.B) {
	i := unserved(b)
	v := newVerifier(b, atNoon, provider(i))
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		token := i.Sign(i.GitHubClaims(audience, identitytest.GitHubJob{}), identitytest.WithAlg(alg))
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGoOIDC does what Verify would do with go-oidc's verifier: read the token strictly, let
// go-oidc read it again and check the signature on our keys. Our checks of the claims are left out.
func BenchmarkGoOIDC(b *testing.B) {
	i := unserved(b)
	keys := &keySet{set: jwks.New(i.URL()+"/jwks", jwks.Options{Client: i.Client(), Now: atNoon})}
	verifier := oidc.NewVerifier(i.URL(), keys, &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{"RS256"}, Now: atNoon})
	token := i.Sign(i.GitHubClaims(audience, identitytest.GitHubJob{}))
	b.ReportAllocs()
	for b.Loop() {
		parsed, err := jws.Parse(token, 16<<10)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := verifier.Verify(context.WithValue(b.Context(), parsedKey{}, parsed), token); err != nil {
			b.Fatal(err)
		}
	}
}

type parsedKey struct{}

// keySet gives go-oidc our keys.
type keySet struct{ set *jwks.Set }

func (k *keySet) VerifySignature(ctx context.Context, _ string) ([]byte, error) {
	parsed, ok := ctx.Value(parsedKey{}).(jws.Parsed)
	if !ok {
		return nil, fmt.Errorf("no parsed token")
	}
	var key crypto.PublicKey
	key, err := k.set.Key(ctx, parsed.Header.Kid, parsed.Header.Alg)
	if err != nil {
		return nil, err
	}
	return parsed.Payload, jwt.GetSigningMethod(parsed.Header.Alg).Verify(parsed.SigningInput, parsed.Signature, key)
}
