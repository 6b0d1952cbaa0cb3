package token_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/go-jose/go-jose/v4"
)

// forge signs whatever header and payload with the ring's own current key, as a broker with a bug,
// or a thief of a key, could.
func forge(t testing.TB, r *token.KeyRing, header, payload string) string {
	t.Helper()
	input := b64(header) + "." + b64(payload)
	sum := sha256.Sum256([]byte(input))
	x, y, err := ecdsa.Sign(rand.Reader, private(t, r), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(string(raw(x, y)))
}

func private(t testing.TB, r *token.KeyRing) *ecdsa.PrivateKey {
	t.Helper()
	var ring struct{ Current jose.JSONWebKey }
	if err := json.Unmarshal(r.Encode().Reveal(), &ring); err != nil {
		t.Fatal(err)
	}
	return ring.Current.Key.(*ecdsa.PrivateKey)
}

func raw(r, s *big.Int) []byte {
	b := make([]byte, 64)
	r.FillBytes(b[:32])
	s.FillBytes(b[32:])
	return b
}

type forgery struct {
	tok    string
	kind   cred.Kind
	reason string
	claim  string
}

// checkForgeries verifies each token alone, and once more after the genuine one was cached.
func checkForgeries(t *testing.T, r *token.KeyRing, forgeries map[string]forgery) {
	t.Helper()
	v := token.NewVerifier(issuer, r, clock)
	good := sign(t, r, goodClaims())
	if _, err := v.Verify(t.Context(), good, token.Audience("orders")); err != nil {
		t.Fatal(err)
	}
	for name, f := range forgeries {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				c, err := v.Verify(t.Context(), f.tok, token.Audience("orders"))
				wantRefused(t, err, f.kind, f.reason, f.claim)
				if c.Subject != "" {
					t.Error("claims beside an error")
				}
			}
		})
	}
}

func TestForgedHeadersAndSignatures(t *testing.T) {
	r, other := newRing(t, token.ES256), newRing(t, token.ES256)
	good := sign(t, r, goodClaims())
	header, payload := part(t, good, 0), part(t, good, 1)
	parts := strings.Split(good, ".")
	with := func(signature []byte) string { return parts[0] + "." + parts[1] + "." + b64(string(signature)) }
	replaced := func(old, new string) string {
		if !strings.Contains(header, old) {
			t.Fatalf("the header %s has no %s", header, old)
		}
		return forge(t, r, strings.Replace(header, old, new, 1), payload)
	}
	if _, err := token.NewVerifier(issuer, r, clock).Verify(t.Context(), forge(t, r, header, payload), token.Audience("orders")); err != nil {
		t.Fatalf("the forger's own signatures do not verify, so the table proves nothing: %v", err)
	}

	signature := []byte(part(t, good, 2))
	half := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	der, err := asn1.Marshal(struct{ R, S *big.Int }{half(signature[:32]), half(signature[32:])})
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	const unauthenticated, malformed, algorithm, bad = cred.Unauthenticated, "TOKEN_MALFORMED", "TOKEN_ALGORITHM", "BAD_SIGNATURE"
	forgeries := map[string]forgery{
		"alg none":                   {b64(`{"alg":"none","typ":"at+jwt"}`) + "." + parts[1] + ".", unauthenticated, malformed, ""},
		"alg none, signed":           {replaced(`"ES256"`, `"none"`), unauthenticated, algorithm, ""},
		"HS256 with the public key":  {hs256(t, r, header, payload), unauthenticated, algorithm, ""},
		"alg EdDSA":                  {replaced(`"ES256"`, `"EdDSA"`), unauthenticated, "UNKNOWN_KEY", "kid"},
		"alg RS256":                  {replaced(`"ES256"`, `"RS256"`), unauthenticated, algorithm, "alg"},
		"alg ES384":                  {replaced(`"ES256"`, `"ES384"`), unauthenticated, algorithm, "alg"},
		"r and s are 0":              {with(make([]byte, 64)), unauthenticated, bad, ""},
		"r and s are n":              {with(raw(n, n)), unauthenticated, bad, ""},
		"r is 0":                     {with(raw(new(big.Int), half(signature[32:]))), unauthenticated, bad, ""},
		"s is 0":                     {with(raw(half(signature[:32]), new(big.Int))), unauthenticated, bad, ""},
		"s and r swapped":            {with(append(bytes.Clone(signature[32:]), signature[:32]...)), unauthenticated, bad, ""},
		"DER":                        {with(der), unauthenticated, bad, ""},
		"a byte more":                {with(append(bytes.Clone(signature), 0)), unauthenticated, bad, ""},
		"a byte less":                {with(signature[:63]), unauthenticated, bad, ""},
		"another ring":               {sign(t, other, goodClaims()), unauthenticated, "UNKNOWN_KEY", "kid"},
		"another ring with our kid":  {forge(t, other, header, payload), unauthenticated, bad, ""},
		"kid of the next key":        {replaced(r.KeyID(), kids(t, r)[1]), unauthenticated, bad, ""},
		"kid unknown":                {replaced(r.KeyID(), "../../dev/null"), unauthenticated, "UNKNOWN_KEY", "kid"},
		"no kid":                     {replaced(`"kid":"`+r.KeyID()+`",`, ""), unauthenticated, "MISSING_CLAIM", "kid"},
		"typ JWT":                    {replaced("at+jwt", "JWT"), unauthenticated, "WRONG_TYPE", "typ"},
		"typ of logout":              {replaced("at+jwt", "logout+jwt"), unauthenticated, "WRONG_TYPE", "typ"},
		"no typ":                     {replaced(`,"typ":"at+jwt"`, ""), unauthenticated, "WRONG_TYPE", "typ"},
		"another claim's signature":  {parts[0] + "." + b64(strings.Replace(payload, "read", "root", 1)) + "." + parts[2], unauthenticated, bad, ""},
		"nested JWT":                 {forge(t, r, header, good), unauthenticated, malformed, ""},
		"four parts":                 {good + "." + parts[2], unauthenticated, malformed, ""},
		"line break":                 {good + "\n", unauthenticated, malformed, ""},
		"padding":                    {good + "==", unauthenticated, malformed, ""},
		"Bearer":                     {"Bearer " + good, unauthenticated, malformed, ""},
		"JSON":                       {`{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`, unauthenticated, malformed, ""},
		"too long":                   {good + strings.Repeat("A", token.MaxBytes), unauthenticated, "TOKEN_TOO_LARGE", ""},
		"empty":                      {"", unauthenticated, malformed, ""},
		"the broker's own ID token":  {idToken(t, r), unauthenticated, "WRONG_TYPE", "typ"},
		"alg twice":                  {replaced(`"alg"`, `"alg":"none","alg"`), unauthenticated, malformed, ""},
		"two signatures in one":      {with(append(bytes.Clone(signature), signature...)), unauthenticated, bad, ""},
		"a signature of other bytes": {with([]byte("not a signature")), unauthenticated, bad, ""},
	}
	for name, member := range map[string]string{
		"b64 false": `"b64":false,"crit":["b64"]`, "crit": `"crit":["exp"]`, "crit empty": `"crit":[]`, "zip": `"zip":"DEF"`, "cty": `"cty":"JWT"`,
		"jku": `"jku":"https://attacker.example.com/jwks"`, "x5u": `"x5u":"https://attacker.example.com/cert"`, "x5c": `"x5c":["AA=="]`,
		"jwk": `"jwk":` + firstJWK(t, other), "ALG": `"ALG":"none"`,
	} {
		forgeries["header with "+name] = forgery{replaced(`{"alg"`, "{"+member+`,"alg"`), unauthenticated, malformed, ""}
	}
	checkForgeries(t, r, forgeries)

	for _, typ := range []string{"AT+JWT", "application/at+jwt", "Application/At+Jwt"} {
		if _, err := token.NewVerifier(issuer, r, clock).Verify(t.Context(), replaced("at+jwt", typ), token.Audience("orders")); err != nil {
			t.Errorf("typ %s: %v", typ, err)
		}
	}
}

func hs256(t *testing.T, r *token.KeyRing, header, payload string) string {
	t.Helper()
	public, err := x509.MarshalPKIXPublicKey(&private(t, r).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	input := b64(strings.Replace(header, "ES256", "HS256", 1)) + "." + b64(payload)
	mac := hmac.New(sha256.New, public)
	mac.Write([]byte(input))
	return input + "." + b64(string(mac.Sum(nil)))
}

func idToken(t *testing.T, r *token.KeyRing) string {
	t.Helper()
	id, err := r.SignIDToken(issuer, "daypass", token.Audience("orders"), now, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id.RevealString()
}

func firstJWK(t *testing.T, r *token.KeyRing) string {
	t.Helper()
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(r.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	return string(set.Keys[0])
}

// Claims that the broker would never sign are refused even with its signature.
func TestForgedClaims(t *testing.T) {
	r := newRing(t, token.ES256)
	good := sign(t, r, goodClaims())
	header, payload := part(t, good, 0), part(t, good, 1)
	tests := []struct{ name, old, new, reason, claim string }{
		{"issuer with a slash", `example.com"`, `example.com/"`, "WRONG_ISSUER", "iss"},
		{"issuer in capitals", `https://broker`, `https://Broker`, "WRONG_ISSUER", "iss"},
		{"issuer missing", `"iss":"` + issuer + `",`, ``, "MISSING_CLAIM", "iss"},
		{"issuer an array", `"` + issuer + `"`, `["` + issuer + `"]`, "TOKEN_MALFORMED", ""},
		{"issuer null", `"` + issuer + `"`, `null`, "MISSING_CLAIM", "iss"},
		{"audiences, two", `"urn:daypass:target:orders"`, `["urn:daypass:target:orders","urn:daypass:target:billing"]`, "WRONG_AUDIENCE", "aud"},
		{"audiences, the same twice", `"urn:daypass:target:orders"`, `["urn:daypass:target:orders","urn:daypass:target:orders"]`, "WRONG_AUDIENCE", "aud"},
		{"audiences, none", `"urn:daypass:target:orders"`, `[]`, "WRONG_AUDIENCE", "aud"},
		{"audience another", `target:orders"`, `target:billing"`, "WRONG_AUDIENCE", "aud"},
		{"audience missing", `"aud":"urn:daypass:target:orders",`, ``, "MISSING_CLAIM", "aud"},
		{"audience empty", `"urn:daypass:target:orders"`, `""`, "MISSING_CLAIM", "aud"},
		{"audience an object", `"urn:daypass:target:orders"`, `{}`, "TOKEN_MALFORMED", "aud"},
		{"target another", `"target":"orders"`, `"target":"billing"`, "WRONG_AUDIENCE", "aud"},
		{"expired", `"exp":1893554345`, `"exp":1893553439`, "TOKEN_MALFORMED", "exp"},
		{"exp missing", `"exp":1893554345,`, ``, "MISSING_CLAIM", "exp"},
		{"exp null", `1893554345`, `null`, "MISSING_CLAIM", "exp"},
		{"exp a string", `1893554345`, `"1893554345"`, "TOKEN_MALFORMED", ""},
		{"exp a fraction", `1893554345`, `1893554345.5`, "TOKEN_MALFORMED", ""},
		{"exp huge", `1893554345`, `9223372036854775807`, "TOKEN_MALFORMED", "exp"},
		{"exp beyond int64", `1893554345`, `9223372036854775808`, "TOKEN_MALFORMED", ""},
		{"exp with an exponent", `1893554345`, `1e99`, "TOKEN_MALFORMED", ""},
		{"exp negative", `1893554345`, `-1`, "TOKEN_MALFORMED", "exp"},
		{"iat missing", `"iat":1893553445,`, ``, "MISSING_CLAIM", "iat"},
		{"iat in the future", `"iat":1893553445`, `"iat":1893553745`, "TOKEN_NOT_YET_VALID", "iat"},
		{"nbf missing", `"nbf":1893553445,`, ``, "MISSING_CLAIM", "nbf"},
		{"nbf in the future", `"nbf":1893553445`, `"nbf":1893553745`, "TOKEN_NOT_YET_VALID", "nbf"},
		{"nbf at its end", `"nbf":1893553445`, `"nbf":1893554345`, "TOKEN_MALFORMED", "exp"},
		{"iat at its end", `"iat":1893553445`, `"iat":1893554345`, "TOKEN_MALFORMED", "exp"},
		{"jti missing", `"jti":"j-1",`, ``, "MISSING_CLAIM", "jti"},
		{"sub missing", `"sub":"repo:example/app:ref:refs/heads/main",`, ``, "MISSING_CLAIM", "sub"},
		{"client_id missing", `"client_id":"github-actions",`, ``, "MISSING_CLAIM", "client_id"},
		{"scope an array", `"read write"`, `["read","write"]`, "TOKEN_MALFORMED", ""},
		{"scope with two blanks", `"read write"`, `"read  write"`, "TOKEN_MALFORMED", "scope"},
		{"sub twice", `"sub":`, `"sub":"a","sub":`, "TOKEN_MALFORMED", ""},
		{"SUB beside sub", `"sub":`, `"SUB":"a","sub":`, "TOKEN_MALFORMED", ""},
		{"EXP for exp", `"exp"`, `"EXP"`, "TOKEN_MALFORMED", ""},
		{"Daypass for daypass", `"daypass"`, `"Daypass"`, "TOKEN_MALFORMED", ""},
		{"\u017fub for sub", `"sub"`, "\"\u017fub\"", "TOKEN_MALFORMED", ""},
		{"daypass missing", `,"daypass":{"grant":"gr_1","target":"orders"}`, ``, "MISSING_CLAIM", "daypass"},
		{"daypass null", `{"grant":"gr_1","target":"orders"}`, `null`, "MISSING_CLAIM", "daypass.grant"},
		{"grant missing", `"grant":"gr_1",`, ``, "MISSING_CLAIM", "daypass.grant"},
		{"target missing", `,"target":"orders"`, ``, "MISSING_CLAIM", "daypass.target"},
		{"actor null", `"daypass"`, `"act":null,"daypass"`, "TOKEN_MALFORMED", "act"},
		{"actor a string", `"daypass"`, `"act":"a","daypass"`, "TOKEN_MALFORMED", "act"},
		{"actor without sub", `"daypass"`, `"act":{"iss":"a"},"daypass"`, "MISSING_CLAIM", "act.sub"},
		{"actor with more", `"daypass"`, `"act":{"sub":"a","exp":1},"daypass"`, "TOKEN_MALFORMED", "act"},
		{"trailing garbage", `"orders"}}`, `"orders"}}}`, "TOKEN_MALFORMED", ""},
	}
	forgeries := make(map[string]forgery)
	for _, test := range tests {
		if !strings.Contains(payload, test.old) {
			t.Fatalf("%s: the payload %s has no %s", test.name, payload, test.old)
		}
		changed := strings.Replace(payload, test.old, test.new, 1)
		forgeries[test.name] = forgery{forge(t, r, header, changed), cred.Unauthenticated, test.reason, test.claim}
	}
	for name, change := range map[string][3]string{
		"a restriction":              {`"target":`, `"restrictions":{"methods":["GET"]},"target":`, "daypass.restrictions"},
		"a restriction that is null": {`"target":`, `"restrictions":{"methods":null},"target":`, "daypass.restrictions"},
		"restrictions of a kind":     {`"target":`, `"restrictions":["methods"],"target":`, "daypass"},
		"a member of a later day":    {`"target":`, `"only_once":true,"target":`, "daypass"},
		"Restrictions in capitals":   {`"target":`, `"Restrictions":{},"target":`, "daypass"},
		"bound in an unknown way":    {`"daypass"`, `"cnf":{"kid":"a"},"daypass"`, "cnf"},
		"bound in two ways":          {`"daypass"`, `"cnf":{"jkt":"a","kid":"a"},"daypass"`, "cnf"},
		"bound to nothing":           {`"daypass"`, `"cnf":{},"daypass"`, "cnf"},
		"bound to null":              {`"daypass"`, `"cnf":null,"daypass"`, "cnf"},
	} {
		changed := strings.Replace(payload, change[0], change[1], 1)
		forgeries[name] = forgery{forge(t, r, header, changed), cred.Denied, "UNKNOWN_RESTRICTION", change[2]}
	}
	old := goodClaims()
	old.IssuedAt, old.NotBefore, old.ExpiresAt = now.Add(-time.Hour), now.Add(-time.Hour), now.Add(-time.Minute)
	forgeries["an old token"] = forgery{sign(t, r, old), cred.Unauthenticated, "TOKEN_EXPIRED", "exp"}
	checkForgeries(t, r, forgeries)
}

// Each token that differs from a genuine one in any place is refused.
func TestEveryByteCounts(t *testing.T) {
	for _, alg := range algs {
		r := newRing(t, alg)
		good := sign(t, r, goodClaims())
		v := token.NewVerifier(issuer, r, clock)
		refused := func(tok, what string, at int) {
			if _, err := v.Verify(t.Context(), tok, token.Audience("orders")); err == nil {
				t.Errorf("%s: %s at byte %d of %d verifies", alg, what, at, len(good))
			}
		}
		if _, err := v.Verify(t.Context(), good, token.Audience("orders")); err != nil {
			t.Fatal(err)
		}
		for at := range len(good) {
			refused(good[:at], "cut", at)
			refused(good[:at]+good[at+1:], "left out", at)
			for bit := range 8 {
				changed := []byte(good)
				changed[at] ^= 1 << bit
				refused(string(changed), "a flipped bit", at)
			}
		}
	}
}

// The same, under the base64: a flipped bit of what is encoded.
func TestEveryEncodedBitCounts(t *testing.T) {
	r := newRing(t, token.EdDSA)
	good := sign(t, r, goodClaims())
	v := token.NewVerifier(issuer, r, clock)
	for n := range 3 {
		plain := []byte(part(t, good, n))
		for at := range plain {
			parts := strings.Split(good, ".")
			plain[at] ^= 0x10
			parts[n] = base64.RawURLEncoding.EncodeToString(plain)
			plain[at] ^= 0x10
			if _, err := v.Verify(t.Context(), strings.Join(parts, "."), token.Audience("orders")); err == nil {
				t.Errorf("a flipped bit in byte %d of part %d verifies", at, n)
			}
		}
	}
}
