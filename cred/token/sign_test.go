package token_test

import (
	"crypto"
	"strconv"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/internal/jws"
)

// TestES256Signatures signs often enough for numbers that begin with a zero byte, of which a signature
// keeps every byte (RFC 7518, section 3.4), and holds that signatures are deterministic (RFC 6979).
func TestES256Signatures(t *testing.T) {
	ring := newRing(t, token.ES256)
	shorter := 0
	for i := range 1000 {
		c := goodClaims()
		c.ID = strconv.Itoa(i)
		tok := sign(t, ring, c)
		if again := sign(t, ring, c); again != tok {
			t.Fatal("the same claims were signed in two ways")
		}
		parsed, err := jws.Parse(tok, token.MaxBytes)
		if err != nil {
			t.Fatal(err)
		}
		var key crypto.PublicKey
		if key, err = ring.Key(t.Context(), parsed.Header.Kid, token.ES256); err != nil {
			t.Fatal(err)
		}
		if err := jwt.SigningMethodES256.Verify(parsed.SigningInput, parsed.Signature, key); err != nil {
			t.Fatal(err)
		}
		if len(parsed.Signature) != 64 {
			t.Fatalf("a signature has %d bytes", len(parsed.Signature))
		}
		if parsed.Signature[0] == 0 || parsed.Signature[32] == 0 {
			shorter++
		}
	}
	if shorter == 0 { // the chance is below one in two thousand
		t.Error("no number began with a zero byte")
	}
}
