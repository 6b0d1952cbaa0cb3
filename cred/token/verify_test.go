package token_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestVerifyReturnsWhatWasSigned(t *testing.T) {
	for _, alg := range algs {
		r := newRing(t, alg)
		v := token.NewVerifier(issuer, r, clock, token.Restrictions("methods", "max"))
		for name, c := range map[string]token.Claims{"plain": goodClaims(), "full": fullClaims()} {
			tok := sign(t, r, c)
			for _, round := range []string{"new", "cached"} {
				got, err := v.Verify(t.Context(), tok, token.Audience("orders"))
				if err != nil {
					t.Fatalf("%s %s %s: %v", alg, name, round, err)
				}
				if diff := cmp.Diff(c, got); diff != "" {
					t.Errorf("%s %s %s (-want +got):\n%s", alg, name, round, diff)
				}
			}
		}
	}
}

// The wire form is a contract with other implementations: RFC 9068, section 2.2.
func TestWireForm(t *testing.T) {
	tok := sign(t, newRing(t, token.ES256), fullClaims())
	want := `{"iss":"https://broker.example.com","sub":"repo:example/app:ref:refs/heads/main","aud":"urn:daypass:target:orders",` +
		`"client_id":"github-actions","iat":1893553445,"nbf":1893553445,"exp":1893554345,"jti":"j-1","scope":"read write",` +
		`"act":{"iss":"https://agents.example.com","sub":"agent","act":{"sub":"older"}},` +
		`"cnf":{"jkt":"thumb","x5t#S256":"print"},` +
		`"daypass":{"grant":"gr_1","target":"orders","restrictions":{"max":12345678901234567890,"methods":["GET"]}}}`
	if diff := cmp.Diff(want, part(t, tok, 1)); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	if h := part(t, tok, 0); !strings.Contains(h, `"typ":"at+jwt"`) {
		t.Errorf("header %s", h)
	}
}

func TestSignRoundsTimesDown(t *testing.T) {
	c := goodClaims()
	c.ExpiresAt = now.Add(time.Minute + 999*time.Millisecond)
	if p := part(t, sign(t, newRing(t, token.ES256), c), 1); !strings.Contains(p, `"exp":1893553505,`) {
		t.Errorf("a token outlives its grant: %s", p)
	}
}

func TestSignRefuses(t *testing.T) {
	r := newRing(t, token.ES256)
	for name, change := range map[string]func(*token.Claims){
		"no issuer":       func(c *token.Claims) { c.Issuer = "" },
		"no subject":      func(c *token.Claims) { c.Subject = "" },
		"no client":       func(c *token.Claims) { c.ClientID = "" },
		"no jti":          func(c *token.Claims) { c.ID = "" },
		"no audience":     func(c *token.Claims) { c.Audience = nil },
		"two audiences":   func(c *token.Claims) { c.Audience = append(c.Audience, "b") },
		"another target":  func(c *token.Claims) { c.Grant.Target = "billing" },
		"no grant":        func(c *token.Claims) { c.Grant.ID = "" },
		"no target":       func(c *token.Claims) { c.Grant.Target = "" },
		"no end":          func(c *token.Claims) { c.ExpiresAt = time.Time{} },
		"no beginning":    func(c *token.Claims) { c.NotBefore = time.Time{} },
		"no iat":          func(c *token.Claims) { c.IssuedAt = time.Time{} },
		"no life":         func(c *token.Claims) { c.ExpiresAt = c.NotBefore },
		"year 10000":      func(c *token.Claims) { c.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"blank in scope":  func(c *token.Claims) { c.Scopes = []string{"a b", ""} },
		"quote in scope":  func(c *token.Claims) { c.Scopes = []string{`a"`} },
		"empty scope":     func(c *token.Claims) { c.Scopes = []string{"a", ""} },
		"empty cnf":       func(c *token.Claims) { c.Confirmation = &token.Confirmation{} },
		"actor unnamed":   func(c *token.Claims) { c.Actor = &token.Actor{Issuer: "i"} },
		"actors too deep": func(c *token.Claims) { c.Actor = chain(20) },
		"bad restriction": func(c *token.Claims) {
			c.Grant.Restrictions = map[string]json.RawMessage{"m": json.RawMessage(`{"a":1,"a":2}`)}
		},
		"too long":      func(c *token.Claims) { c.Subject = strings.Repeat("s", token.MaxBytes) },
		"invalid UTF-8": func(c *token.Claims) { c.Subject = "\xff" },
	} {
		c := goodClaims()
		change(&c)
		if tok, err := r.Sign(c); err == nil || cred.KindOf(err) != cred.Internal || tok != "" {
			t.Errorf("%s: token %q, error %v", name, tok, err)
		}
	}
}

func chain(n int) *token.Actor {
	if n == 0 {
		return nil
	}
	return &token.Actor{Subject: "a", Actor: chain(n - 1)}
}

func TestTimeAndAudience(t *testing.T) {
	r := newRing(t, token.ES256)
	end := goodClaims().ExpiresAt
	tests := map[string]struct {
		at       time.Time
		skew     time.Duration
		audience string
		reason   string
		claim    string
	}{
		"last instant":            {at: end.Add(-1), skew: 0},
		"at its end":              {at: end, skew: 0, reason: "TOKEN_EXPIRED", claim: "exp"},
		"within the skew":         {at: end.Add(10*time.Second - 1), skew: 10 * time.Second},
		"beyond the skew":         {at: end.Add(10 * time.Second), skew: 10 * time.Second, reason: "TOKEN_EXPIRED", claim: "exp"},
		"skew is bounded":         {at: end.Add(30 * time.Second), skew: time.Hour, reason: "TOKEN_EXPIRED", claim: "exp"},
		"skew is not negative":    {at: now, skew: -time.Hour},
		"first instant":           {at: now, skew: 0},
		"before":                  {at: now.Add(-1), skew: 0, reason: "TOKEN_NOT_YET_VALID", claim: "nbf"},
		"before, within the skew": {at: now.Add(-10 * time.Second), skew: 10 * time.Second},
		"before, beyond the skew": {at: now.Add(-10*time.Second - 1), skew: 10 * time.Second, reason: "TOKEN_NOT_YET_VALID", claim: "nbf"},
		"another target":          {at: now, audience: token.Audience("order"), reason: "WRONG_AUDIENCE", claim: "aud"},
		"a longer name":           {at: now, audience: token.Audience("orders2"), reason: "WRONG_AUDIENCE", claim: "aud"},
		"another case":            {at: now, audience: token.Audience("Orders"), reason: "WRONG_AUDIENCE", claim: "aud"},
	}
	tok := sign(t, r, goodClaims())
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			at := now
			v := token.NewVerifier(issuer, r, func() time.Time { return at }, token.Skew(test.skew))
			if _, err := v.Verify(t.Context(), tok, token.Audience("orders")); err != nil {
				t.Fatal(err) // and now it is cached
			}
			at = test.at
			audience := test.audience
			if audience == "" {
				audience = token.Audience("orders")
			}
			for _, v := range []*token.Verifier{v, token.NewVerifier(issuer, r, func() time.Time { return at }, token.Skew(test.skew), token.CacheSize(0))} {
				_, err := v.Verify(t.Context(), tok, audience)
				if test.reason == "" {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				wantRefused(t, err, cred.Unauthenticated, test.reason, test.claim)
			}
		})
	}
	_, err := token.NewVerifier(issuer, r, clock).Verify(t.Context(), tok, "")
	wantRefused(t, err, cred.Unauthenticated, "WRONG_AUDIENCE", "aud")
}

func TestIssuedInTheFuture(t *testing.T) {
	r := newRing(t, token.ES256)
	c := goodClaims()
	c.IssuedAt = now.Add(time.Minute)
	_, err := token.NewVerifier(issuer, r, clock).Verify(t.Context(), sign(t, r, c), token.Audience("orders"))
	wantRefused(t, err, cred.Unauthenticated, "TOKEN_NOT_YET_VALID", "iat")
}

func TestUnknownRestrictionsAreRefused(t *testing.T) {
	r := newRing(t, token.ES256)
	tok := sign(t, r, fullClaims())
	for _, known := range [][]string{nil, {"methods"}, {"max"}, {"Methods", "max"}} {
		_, err := token.NewVerifier(issuer, r, clock, token.Restrictions(known...)).Verify(t.Context(), tok, token.Audience("orders"))
		wantRefused(t, err, cred.Denied, "UNKNOWN_RESTRICTION", "daypass.restrictions")
	}
}

// keyStub stands for a key set that changes.
type keyStub struct {
	*token.KeyRing
	err   error
	calls int
}

func (k *keyStub) Key(ctx context.Context, kid, alg string) (crypto.PublicKey, error) {
	k.calls++
	if k.err != nil {
		return nil, k.err
	}
	return k.KeyRing.Key(ctx, kid, alg)
}

func TestACachedTokenDiesWithItsKey(t *testing.T) {
	keys := &keyStub{KeyRing: newRing(t, token.ES256)}
	v := token.NewVerifier(issuer, keys, clock)
	tok := sign(t, keys.KeyRing, goodClaims())
	if _, err := v.Verify(t.Context(), tok, token.Audience("orders")); err != nil {
		t.Fatal(err)
	}
	keys.err = &cred.Error{Kind: cred.Unavailable, Reason: "KEYS_UNAVAILABLE", Public: "later"}
	_, err := v.Verify(t.Context(), tok, token.Audience("orders"))
	wantRefused(t, err, cred.Unavailable, "KEYS_UNAVAILABLE", "")
	keys.err, keys.KeyRing = nil, newRing(t, token.ES256)
	_, err = v.Verify(t.Context(), tok, token.Audience("orders"))
	wantRefused(t, err, cred.Unauthenticated, "UNKNOWN_KEY", "kid")
}

// sameKid publishes another key under every name.
type sameKid struct{ other crypto.PublicKey }

func (s *sameKid) Key(context.Context, string, string) (crypto.PublicKey, error) { return s.other, nil }

func TestACachedTokenDiesWhenItsKidNamesAnotherKey(t *testing.T) {
	r, other := newRing(t, token.ES256), newRing(t, token.ES256)
	key := func(r *token.KeyRing) crypto.PublicKey {
		k, err := r.Key(t.Context(), r.KeyID(), token.ES256)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	keys := &sameKid{key(r)}
	v := token.NewVerifier(issuer, keys, clock)
	tok := sign(t, r, goodClaims())
	if _, err := v.Verify(t.Context(), tok, token.Audience("orders")); err != nil {
		t.Fatal(err)
	}
	keys.other = key(other)
	_, err := v.Verify(t.Context(), tok, token.Audience("orders"))
	wantRefused(t, err, cred.Unauthenticated, "BAD_SIGNATURE", "")
}

func TestWhatVerifyReturnsIsTheCallersOwn(t *testing.T) {
	r := newRing(t, token.ES256)
	v := token.NewVerifier(issuer, r, clock, token.Restrictions("methods", "max"))
	tok := sign(t, r, fullClaims())
	for range 3 {
		got, err := v.Verify(t.Context(), tok, token.Audience("orders"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fullClaims(), got); diff != "" {
			t.Fatalf("a caller changed what the next one reads:\n%s", diff)
		}
		got.Audience[0], got.Scopes[0], got.Actor.Subject, got.Actor.Actor.Subject = "x", "x", "x", "x"
		got.Confirmation.KeyThumbprint = "x"
		got.Grant.Restrictions["methods"][0] = 'x'
		delete(got.Grant.Restrictions, "max")
	}
}

// Whatever claims the broker signs, the verifier reads the same ones.
func TestSignedClaimsComeBack(t *testing.T) {
	r := newRing(t, token.EdDSA)
	v := token.NewVerifier(issuer, r, clock, token.Restrictions("r"), token.CacheSize(8))
	name := rapid.StringMatching(`[a-zA-Z0-9:/_.<>&"é\\-]{1,20}`)
	rapid.Check(t, func(t *rapid.T) {
		c := goodClaims()
		c.Subject, c.ClientID, c.ID = name.Draw(t, "sub"), name.Draw(t, "client"), name.Draw(t, "jti")
		c.Grant.Target = name.Draw(t, "target")
		c.Audience = []string{token.Audience(c.Grant.Target)}
		c.Grant.ID = cred.GrantID(name.Draw(t, "grant"))
		c.Scopes = rapid.SliceOfN(rapid.StringMatching(`[a-z:/.#\[\]]{1,10}`), 1, 4).Draw(t, "scopes")
		c.IssuedAt = now.Add(-time.Duration(rapid.IntRange(0, 1000).Draw(t, "age")) * time.Second)
		c.ExpiresAt = now.Add(time.Duration(rapid.IntRange(1, 1e6).Draw(t, "life")) * time.Second)
		if rapid.Bool().Draw(t, "restricted") {
			word := rapid.StringMatching(`[a-z]*`).Draw(t, "restriction")
			c.Grant.Restrictions = map[string]json.RawMessage{"r": json.RawMessage(`["` + word + `",1.50]`)}
		}
		tok, err := r.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Verify(context.Background(), tok, c.Audience[0])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func FuzzVerify(f *testing.F) {
	r, err := token.NewKeyRing(token.EdDSA, now)
	if err != nil {
		f.Fatal(err)
	}
	valid, err := r.Sign(fullClaims())
	if err != nil {
		f.Fatal(err)
	}
	v := token.NewVerifier(issuer, r, clock, token.Restrictions("methods", "max"))
	f.Add(valid)
	f.Add(valid[:len(valid)-1])
	f.Add("e30.e30.AA")
	f.Fuzz(func(t *testing.T, tok string) {
		_, err := v.Verify(context.Background(), tok, token.Audience("orders"))
		if err == nil && tok != valid {
			t.Fatalf("a token that was never signed verifies: %q", tok)
		}
		if e, ok := errors.AsType[*cred.Error](err); err != nil && (!ok || e.Reason == "" || e.Public == "") {
			t.Fatalf("error %v", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range algs {
		r := newRing(b, alg)
		tok := sign(b, r, goodClaims())
		for name, size := range map[string]int{"cached": 10, "uncached": 0} {
			b.Run(alg+"/"+name, func(b *testing.B) {
				v := token.NewVerifier(issuer, r, clock, token.CacheSize(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := v.Verify(context.Background(), tok, token.Audience("orders")); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkSign(b *testing.B) {
	for _, alg := range algs {
		b.Run(alg, func(b *testing.B) {
			r, c := newRing(b, alg), goodClaims()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Sign(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
