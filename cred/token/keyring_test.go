package token_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

var algs = []string{token.ES256, token.EdDSA}

func kids(t *testing.T, r *token.KeyRing) []string {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(r.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, k := range set.Keys {
		if !k.IsPublic() || !k.Valid() || k.Use != "sig" {
			t.Fatalf("the key set holds %+v", k)
		}
		all = append(all, k.KeyID)
	}
	return all
}

func TestRotationPublishesAKeyBeforeItSigns(t *testing.T) {
	for _, alg := range algs {
		t.Run(alg, func(t *testing.T) {
			first := newRing(t, alg)
			old := sign(t, first, goodClaims())
			published := kids(t, first)
			if len(published) != 2 || published[0] != first.KeyID() {
				t.Fatalf("a new ring publishes %q and signs with %q", published, first.KeyID())
			}
			second, err := first.Rotate(now.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if second.KeyID() != published[1] {
				t.Fatalf("the key that signs now was not published before")
			}
			if diff := cmp.Diff(published, kids(t, second)[:2]); diff != "" || len(kids(t, second)) != 3 {
				t.Fatalf("the second ring publishes %q, the first %q", kids(t, second), published)
			}
			if !second.RotatedAt().Equal(now.Add(time.Hour)) || !first.RotatedAt().Equal(now) {
				t.Errorf("rotated at %s and %s", first.RotatedAt(), second.RotatedAt())
			}
			verifies(t, second, old, true)
			// A broker that has not yet seen the rotation verifies what the other one signs.
			verifies(t, first, sign(t, second, goodClaims()), true)
			third, err := second.Rotate(now.Add(2 * time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			verifies(t, third, old, false)
		})
	}
}

func verifies(t *testing.T, r *token.KeyRing, tok string, want bool) {
	t.Helper()
	_, err := token.NewVerifier(issuer, r, clock).Verify(t.Context(), tok, token.Audience("orders"))
	if (err == nil) != want {
		t.Fatalf("verifies: %v, want %v", err, want)
	}
	if !want {
		wantRefused(t, err, cred.Unauthenticated, "UNKNOWN_KEY", "kid")
	}
}

func TestKeyRingRefusesOtherAlgorithms(t *testing.T) {
	for _, alg := range []string{"RS256", "HS256", "none", "es256", "ES384"} {
		if _, err := token.NewKeyRing(alg, now); cred.KindOf(err) != cred.Invalid {
			t.Errorf("NewKeyRing(%s): %v, want invalid", alg, err)
		}
	}
	if got := part(t, sign(t, newRing(t, ""), goodClaims()), 0); !strings.Contains(got, `"alg":"ES256"`) {
		t.Errorf("the default header is %s", got)
	}
}

func TestKidIsTheThumbprint(t *testing.T) {
	for _, alg := range algs {
		r := newRing(t, alg)
		public, err := r.Key(t.Context(), r.KeyID(), alg)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := jose.JSONWebKey{Key: public}.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil {
			t.Fatal(err)
		}
		sum, err := k.Thumbprint(5) // crypto.SHA256
		if err != nil {
			t.Fatal(err)
		}
		if b64(string(sum)) != r.KeyID() {
			t.Errorf("%s: kid %s is not the thumbprint", alg, r.KeyID())
		}
		other := map[string]string{token.ES256: token.EdDSA, token.EdDSA: token.ES256}[alg]
		if _, err := r.Key(t.Context(), r.KeyID(), other); cred.KindOf(err) != cred.Unauthenticated {
			t.Errorf("the key of %s is offered for %s: %v", alg, other, err)
		}
	}
}

func TestEncodeKeepsTheRing(t *testing.T) {
	for _, alg := range algs {
		fresh := newRing(t, alg)
		rotated, err := fresh.Rotate(now.Add(time.Hour + time.Nanosecond))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*token.KeyRing{fresh, rotated} {
			got, err := token.ParseKeyRing(r.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.JWKS(), r.JWKS()) || got.KeyID() != r.KeyID() || !got.RotatedAt().Equal(r.RotatedAt()) {
				t.Error("another ring came back")
			}
			if !bytes.Equal(got.Encode().Reveal(), r.Encode().Reveal()) {
				t.Error("it encodes differently the second time")
			}
			verifies(t, r, sign(t, got, goodClaims()), true)
		}
	}
}

func TestParseKeyRingRefuses(t *testing.T) {
	ring, other := newRing(t, token.ES256), newRing(t, token.ES256)
	ed := newRing(t, token.EdDSA)
	read := func(r *token.KeyRing) map[string]any {
		var m map[string]any
		if err := json.Unmarshal(r.Encode().Reveal(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	jwkOf := func(m map[string]any, slot string) map[string]any { return m[slot].(map[string]any) }
	changes := map[string]func(m map[string]any){
		"another version":       func(m map[string]any) { m["version"] = 2 },
		"no version":            func(m map[string]any) { delete(m, "version") },
		"an unknown member":     func(m map[string]any) { m["extra"] = 1 },
		"another algorithm":     func(m map[string]any) { m["alg"] = "EdDSA" },
		"an unknown algorithm":  func(m map[string]any) { m["alg"] = "HS256" },
		"no current key":        func(m map[string]any) { delete(m, "current") },
		"no next key":           func(m map[string]any) { delete(m, "next") },
		"null for a key":        func(m map[string]any) { m["next"] = nil },
		"null for previous":     func(m map[string]any) { m["previous"] = nil },
		"the same key twice":    func(m map[string]any) { m["next"] = m["current"] },
		"previous is current":   func(m map[string]any) { m["previous"] = m["current"] },
		"previous is next":      func(m map[string]any) { m["previous"] = m["next"] },
		"a public key":          func(m map[string]any) { delete(jwkOf(m, "current"), "d") },
		"another key's half":    func(m map[string]any) { jwkOf(m, "current")["d"] = jwkOf(m, "next")["d"] },
		"another kid":           func(m map[string]any) { jwkOf(m, "current")["kid"] = "k" },
		"another use":           func(m map[string]any) { jwkOf(m, "current")["use"] = "enc" },
		"another alg in a key":  func(m map[string]any) { jwkOf(m, "current")["alg"] = "ES384" },
		"a key of another type": func(m map[string]any) { m["current"] = read(ed)["current"] },
		"a symmetric key":       func(m map[string]any) { m["current"] = map[string]any{"kty": "oct", "k": "AAAA"} },
		"a time that is none":   func(m map[string]any) { m["rotated_at"] = "yesterday" },
	}
	for name, change := range changes {
		m := read(ring)
		change(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := token.ParseKeyRing(cred.NewSecret(b))
		if cred.KindOf(err) != cred.Internal || err == nil || got != nil {
			t.Errorf("%s: ring %v, error %v", name, got, err)
			continue
		}
		if d := jwkOf(read(ring), "current")["d"].(string); strings.Contains(err.Error(), d) {
			t.Errorf("%s: the error holds the private key", name)
		}
	}
	m := read(ring)
	m["previous"] = read(other)["current"]
	b, _ := json.Marshal(m)
	if _, err := token.ParseKeyRing(cred.NewSecret(b)); err != nil {
		t.Errorf("the change that is allowed: %v", err) // or the table above proves nothing
	}
	for name, raw := range map[string]string{
		"empty": "", "no JSON": "{", "too long": string(ring.Encode().Reveal()) + strings.Repeat(" ", 64<<10),
		"version twice": strings.Replace(string(ring.Encode().Reveal()), "{", `{"version":1,`, 1),
	} {
		if _, err := token.ParseKeyRing(cred.SecretString(raw)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAKeyRingPrintsNoKey(t *testing.T) {
	r := newRing(t, token.ES256)
	var m struct{ Current struct{ D string } }
	if err := json.Unmarshal(r.Encode().Reveal(), &m); err != nil || m.Current.D == "" {
		t.Fatalf("no private key to look for: %v", err)
	}
	nested := struct {
		ring  *token.KeyRing
		value token.KeyRing
	}{r, *r}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		for _, v := range []any{r, *r, nested, &nested, []any{r}} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, "PrivateKey") || strings.Contains(out, "D:") {
				t.Errorf("%s of %T prints %s", verb, v, out)
			}
		}
	}
	if got, want := fmt.Sprint(r), "token.KeyRing(ES256 "+r.KeyID()+")"; got != want {
		t.Errorf("prints %q, want %q", got, want)
	}
	if out := fmt.Sprint(r.Encode()); out != "[redacted]" {
		t.Errorf("the sealed form prints %q", out)
	}
	if strings.Contains(string(r.JWKS()), `"d"`) {
		t.Error("the key set holds a private member")
	}
	if out := fmt.Sprint((*token.KeyRing)(nil)); out != "<nil>" {
		t.Errorf("nil prints %q", out)
	}
}

// A peer that verifies with a common library must be able to read both kinds of token.
func TestOthersReadOurTokens(t *testing.T) {
	for _, alg := range algs {
		r := newRing(t, alg)
		id, err := r.SignIDToken(issuer, "daypass", "https://vault.example.com", now, 5*time.Minute, map[string]any{"role": "daypass"})
		if err != nil {
			t.Fatal(err)
		}
		keys := func(tok *jwt.Token) (any, error) {
			return r.Key(context.Background(), tok.Header["kid"].(string), tok.Method.Alg())
		}
		parser := jwt.NewParser(jwt.WithTimeFunc(clock), jwt.WithValidMethods([]string{alg}), jwt.WithIssuer(issuer), jwt.WithAudience("https://vault.example.com"))
		got, err := parser.Parse(id.RevealString(), keys)
		if err != nil {
			t.Fatal(err)
		}
		claims := got.Claims.(jwt.MapClaims)
		if id, ok := claims["jti"].(string); !ok || len(id) < 20 {
			t.Errorf("jti %v", claims["jti"])
		}
		delete(claims, "jti")
		want := jwt.MapClaims{
			"iss": issuer, "sub": "daypass", "aud": "https://vault.example.com", "role": "daypass",
			"iat": float64(now.Unix()), "nbf": float64(now.Unix()), "exp": float64(now.Add(5 * time.Minute).Unix()),
		}
		if diff := cmp.Diff(want, claims); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
		if got.Header["typ"] != "JWT" {
			t.Errorf("typ %v", got.Header["typ"])
		}
		if _, err := jwt.NewParser(jwt.WithTimeFunc(clock)).Parse(sign(t, r, fullClaims()), keys); err != nil {
			t.Errorf("a grant token: %v", err)
		}
	}
}

func TestSignIDTokenRefuses(t *testing.T) {
	r := newRing(t, token.ES256)
	for name, f := range map[string]func() (cred.Secret, error){
		"no issuer":   func() (cred.Secret, error) { return r.SignIDToken("", "s", "a", now, time.Minute, nil) },
		"no subject":  func() (cred.Secret, error) { return r.SignIDToken(issuer, "", "a", now, time.Minute, nil) },
		"no audience": func() (cred.Secret, error) { return r.SignIDToken(issuer, "s", "", now, time.Minute, nil) },
		"no life":     func() (cred.Secret, error) { return r.SignIDToken(issuer, "s", "a", now, 0, nil) },
		"another exp": func() (cred.Secret, error) {
			return r.SignIDToken(issuer, "s", "a", now, time.Minute, map[string]any{"exp": 1})
		},
		"another EXP": func() (cred.Secret, error) {
			return r.SignIDToken(issuer, "s", "a", now, time.Minute, map[string]any{"EXP": 1})
		},
		"what JSON has not": func() (cred.Secret, error) {
			return r.SignIDToken(issuer, "s", "a", now, time.Minute, map[string]any{"f": func() {}})
		},
		"too much": func() (cred.Secret, error) {
			return r.SignIDToken(issuer, "s", "a", now, time.Minute, map[string]any{"x": strings.Repeat("x", token.MaxBytes)})
		},
	} {
		if tok, err := f(); err == nil || cred.KindOf(err) != cred.Internal || !tok.IsZero() {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzParseKeyRing(f *testing.F) {
	r, err := token.NewKeyRing(token.ES256, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Encode().Reveal())
	ed, err := token.NewKeyRing(token.EdDSA, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ed.Encode().Reveal())
	f.Add([]byte(`{"version":1,"alg":"ES256","current":{},"next":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := token.ParseKeyRing(cred.NewSecret(bytes.Clone(b)))
		if err != nil {
			if r != nil || cred.KindOf(err) != cred.Internal {
				t.Fatalf("ring %v, error %v", r, err)
			}
			return
		}
		again, err := token.ParseKeyRing(r.Encode())
		if err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		if !bytes.Equal(again.JWKS(), r.JWKS()) {
			t.Fatal("it has other keys the second time")
		}
		if _, err := r.Sign(goodClaims()); err != nil {
			t.Fatalf("the ring can't sign: %v", err)
		}
	})
}
