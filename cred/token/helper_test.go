package token_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
)

const issuer = "https://broker.example.com"

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func clock() time.Time { return now }

func newRing(t testing.TB, alg string) *token.KeyRing {
	t.Helper()
	r, err := token.NewKeyRing(alg, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func goodClaims() token.Claims {
	return token.Claims{
		Issuer: issuer, Subject: "repo:example/app:ref:refs/heads/main", Audience: []string{token.Audience("orders")},
		ClientID: "github-actions", IssuedAt: now, NotBefore: now, ExpiresAt: now.Add(15 * time.Minute),
		ID: "j-1", Scopes: []string{"read", "write"},
		Grant: token.GrantClaims{ID: "gr_1", Target: "orders"},
	}
}

// fullClaims has every member, the optional ones too.
func fullClaims() token.Claims {
	c := goodClaims()
	c.Actor = &token.Actor{Issuer: "https://agents.example.com", Subject: "agent", Actor: &token.Actor{Subject: "older"}}
	c.Confirmation = &token.Confirmation{KeyThumbprint: "thumb", CertificateThumbprint: "print"}
	c.Grant.Restrictions = map[string]json.RawMessage{"methods": json.RawMessage(`["GET"]`), "max": json.RawMessage(`12345678901234567890`)}
	return c
}

func sign(t testing.TB, r *token.KeyRing, c token.Claims) string {
	t.Helper()
	tok, err := r.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func wantRefused(t *testing.T, err error, kind cred.Kind, reason, claim string) {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	if !ok {
		t.Fatalf("error %v, want a *cred.Error", err)
	}
	if e.Kind != kind || e.Reason != reason || e.Claim != claim {
		t.Errorf("%s %s %q, want %s %s %q (%v)", e.Kind, e.Reason, e.Claim, kind, reason, claim, err)
	}
	if e.Kind != cred.Internal && e.Public == "" {
		t.Error("the refusal says nothing to the caller")
	}
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// part decodes one part of a token.
func part(t testing.TB, tok string, n int) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(tok, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
