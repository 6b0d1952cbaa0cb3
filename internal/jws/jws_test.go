package jws_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/jws"
	"github.com/google/go-cmp/cmp"
)

const (
	goodHeader = `{"alg":"ES256","kid":"k1","typ":"at+jwt"}`
	goodClaims = `{"iss":"https://broker.example.com","n":{"a":[1,-2.5,true,false,null,"\u00e9"]}}`
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func compact(header, claims string) string {
	return b64(header) + "." + b64(claims) + "." + b64("signature")
}

func TestParseReadsAGoodToken(t *testing.T) {
	tok := compact(goodHeader, goodClaims)
	got, err := jws.Parse(tok, 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	want := jws.Parsed{
		Header: jws.Header{Alg: "ES256", Kid: "k1", Typ: "at+jwt"},
		Claims: map[string]any{
			"iss": "https://broker.example.com",
			"n":   map[string]any{"a": []any{1.0, -2.5, true, false, nil, "é"}},
		},
		Payload:      []byte(goodClaims),
		SigningInput: b64(goodHeader) + "." + b64(goodClaims),
		Signature:    []byte("signature"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

func TestParseAccepts(t *testing.T) {
	accepted := map[string]string{
		"no kid, no typ":         compact(`{"alg":"RS256"}`, `{}`),
		"thumbprints":            compact(`{"alg":"PS512","x5t":"a","x5t#S256":"b"}`, `{}`),
		"white space inside":     compact("{ \"alg\" : \"EdDSA\" }\n", "\t{}\r\n"),
		"sixteen levels":         compact(goodHeader, nested(16)),
		"capitals in own claims": compact(goodHeader, `{"Name":"a","GROUPS":[]}`),
		"a case pair that nobody registered": compact(goodHeader,
			`{"repo":"a","Repo":"b"}`),
		"a registered name in capitals deeper down": compact(goodHeader, `{"x":{"ISS":1}}`),
		"all of the bytes":                          compact(goodHeader, `{"x":"`+strings.Repeat("a", 100)+`"}`),
	}
	for name, tok := range accepted {
		if _, err := jws.Parse(tok, len(tok)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// nested returns an object that nests n levels deep.
func nested(n int) string {
	return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1)
}

func TestParseRefuses(t *testing.T) {
	good := compact(goodHeader, goodClaims)
	h, c, s := b64(goodHeader), b64(goodClaims), b64("signature")
	type refusal struct{ tok, reason, says string }
	const malformed, algorithm = "TOKEN_MALFORMED", "TOKEN_ALGORITHM"
	refused := map[string]refusal{
		"empty":               {"", malformed, "three parts"},
		"two parts":           {h + "." + c, malformed, "three parts"},
		"four parts":          {good + ".x", malformed, "three parts"},
		"five parts, a JWE":   {good + ".x.y", malformed, "three parts"},
		"no signature":        {h + "." + c + ".", malformed, "no signature"},
		"no claims":           {h + ".." + s, malformed, "claims"},
		"no header":           {"." + c + "." + s, malformed, "header"},
		"JSON serialisation":  {`{"payload":"` + c + `","signatures":[]}`, malformed, "three parts"},
		"padding":             {base64.URLEncoding.EncodeToString([]byte(goodHeader)) + "." + c + "." + s, malformed, "header is not canonical"},
		"padded signature":    {h + "." + c + "." + b64("ab") + "=", malformed, "signature is not canonical"},
		"standard alphabet":   {h + "." + c + ".+/+/", malformed, "signature is not canonical"},
		"stray bits":          {h + "." + c + "." + "YR", malformed, "signature is not canonical"},
		"one character":       {h + "." + c + "." + "Y", malformed, "signature is not canonical"},
		"line break in":       {h[:4] + "\n" + h[4:] + "." + c + "." + s, malformed, "header is not canonical"},
		"return in claims":    {h + "." + c[:4] + "\r" + c[4:] + "." + s, malformed, "claims is not canonical"},
		"line break at end":   {good + "\n", malformed, "signature is not canonical"},
		"blank before":        {" " + good, malformed, "header is not canonical"},
		"Bearer before":       {"Bearer " + good, malformed, "header is not canonical"},
		"header not JSON":     {compact(`alg`, goodClaims), malformed, "header"},
		"header an array":     {compact(`[]`, goodClaims), malformed, "header: not a JSON object"},
		"claims a string":     {compact(goodHeader, `"a"`), malformed, "claims: not a JSON object"},
		"claims null":         {compact(goodHeader, `null`), malformed, "claims: not a JSON object"},
		"claims a nested JWT": {compact(goodHeader, good), malformed, "not valid JSON"},
		"trailing object":     {compact(goodHeader, `{}{}`), malformed, "not valid JSON"},
		"trailing garbage":    {compact(goodHeader, `{} x`), malformed, "not valid JSON"},
		"trailing zero byte":  {compact(goodHeader, "{}\x00"), malformed, "not valid JSON"},
		"cut short":           {compact(goodHeader, `{"a":[1,`), malformed, "not valid JSON"},
		"trailing comma":      {compact(goodHeader, `{"a":1,}`), malformed, "not valid JSON"},
		"comment":             {compact(goodHeader, `{/**/}`), malformed, "not valid JSON"},
		"byte order mark":     {compact(goodHeader, "\ufeff{}"), malformed, "not valid JSON"},
		"invalid UTF-8":       {compact(goodHeader, "{\"a\":\"\xff\"}"), malformed, "not valid JSON"},
		"lone surrogate":      {compact(goodHeader, `{"a":"\ud800"}`), malformed, "not valid JSON"},
		"control in string":   {compact(goodHeader, "{\"a\":\"\n\"}"), malformed, "not valid JSON"},
		"number too large":    {compact(goodHeader, `{"exp":1e999}`), malformed, "out of range"},
		"not a number":        {compact(goodHeader, `{"exp":NaN}`), malformed, "not valid JSON"},
		"twice":               {compact(goodHeader, `{"sub":"a","sub":"b"}`), malformed, "there twice"},
		"twice, escaped":      {compact(goodHeader, `{"sub":"a","\u0073ub":"b"}`), malformed, "there twice"},
		"twice, deeper":       {compact(goodHeader, `{"a":[{"b":{"c":1,"c":1}}]}`), malformed, "there twice"},
		"twice in header":     {compact(`{"alg":"ES256","alg":"ES256"}`, `{}`), malformed, "there twice"},
		"seventeen levels":    {compact(goodHeader, nested(17)), malformed, "too deep"},
		"seventeen arrays":    {compact(goodHeader, `{"a":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)+`}`), malformed, "too deep"},
		"alg none":            {compact(`{"alg":"none"}`, `{}`), algorithm, `"none"`},
		"alg None":            {compact(`{"alg":"None"}`, `{}`), algorithm, `"None"`},
		"alg in small":        {compact(`{"alg":"es256"}`, `{}`), algorithm, `"es256"`},
		"no alg":              {compact(`{"kid":"a"}`, `{}`), algorithm, "does not name"},
		"alg empty":           {compact(`{"alg":""}`, `{}`), malformed, "not a string"},
		"alg a number":        {compact(`{"alg":1}`, `{}`), malformed, "not a string"},
		"kid null":            {compact(`{"alg":"ES256","kid":null}`, `{}`), malformed, "not a string"},
		"kid long":            {compact(`{"alg":"ES256","kid":"`+strings.Repeat("k", 513)+`"}`, `{}`), malformed, "names its key"},
		"typ an array":        {compact(`{"alg":"ES256","typ":["JWT"]}`, `{}`), malformed, "not a string"},
		"x5t an object":       {compact(`{"alg":"ES256","x5t":{}}`, `{}`), malformed, "not a string"},
		"Alg for alg":         {compact(`{"alg":"ES256","Alg":"none"}`, `{}`), malformed, `"Alg"`},
	}
	for _, alg := range []string{"HS256", "HS384", "HS512", "ES256K", "RSA-OAEP", "dir", "RS1"} {
		refused["alg "+alg] = refusal{compact(`{"alg":"`+alg+`"}`, `{}`), algorithm, alg}
	}
	for _, member := range []string{"jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "cty", "enc", "url", "nonce", "p2c", "ver"} {
		refused["header with "+member] = refusal{compact(`{"alg":"ES256","`+member+`":"a"}`, `{}`), malformed, `"` + member + `"`}
	}
	for _, claim := range []string{"Iss", "SUB", "aUd", "EXP", "Nbf", "iAT", "JTI", "Azp", "Nonce", "Act", "Scope", "Client_ID", "Cnf", "Daypass", "i\u017fs", "\u017fub", "_Claim_Names"} {
		refused["claim "+claim] = refusal{compact(goodHeader, `{"`+claim+`":"a"}`), malformed, "could be taken for"}
	}
	for name, want := range refused {
		t.Run(name, func(t *testing.T) {
			got, err := jws.Parse(want.tok, 1<<16)
			e, ok := errors.AsType[*cred.Error](err)
			if !ok {
				t.Fatalf("error %v, want a *cred.Error", err)
			}
			if e.Kind != cred.Unauthenticated || e.Reason != want.reason {
				t.Errorf("%s %s, want unauthenticated %s", e.Kind, e.Reason, want.reason)
			}
			if !strings.Contains(cred.PublicText(err), want.says) {
				t.Errorf("public text %q does not say %q", cred.PublicText(err), want.says)
			}
			if diff := cmp.Diff(jws.Parsed{}, got); diff != "" {
				t.Errorf("a refused token was read all the same:\n%s", diff)
			}
		})
	}
}

func TestParseBoundsTheLength(t *testing.T) {
	tok := compact(goodHeader, goodClaims)
	_, err := jws.Parse(tok, len(tok)-1)
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != "TOKEN_TOO_LARGE" {
		t.Fatalf("error %v, want TOKEN_TOO_LARGE", err)
	}
}

// A stranger's member name goes into our log and into an answer: escaped and short.
func TestParseQuotesStrangeNames(t *testing.T) {
	_, err := jws.Parse(compact(`{"alg":"ES256","\n\u001b[31m`+strings.Repeat("x", 500)+`":1}`, `{}`), 1<<16)
	text := cred.PublicText(err)
	if len(text) > 300 || strings.ContainsAny(text, "\n\x1b") {
		t.Errorf("public text %q holds a stranger's control characters or length", text)
	}
}

// FuzzParse holds that an accepted token has one reading: encoding/json reads the same claims, and
// the parts, encoded anew, give the same bytes.
func FuzzParse(f *testing.F) {
	f.Add(compact(goodHeader, goodClaims))
	f.Add(compact(goodHeader, `{"sub":"a","\u0073ub":"b"}`))
	f.Add(compact(goodHeader, nested(17)))
	f.Add(compact(`{"alg":"none"}`, `{"exp":1e999}`))
	f.Add("..")
	f.Fuzz(func(t *testing.T, tok string) {
		p, err := jws.Parse(tok, 4<<10)
		if err != nil {
			if cred.KindOf(err) != cred.Unauthenticated {
				t.Fatalf("refused as %s: %v", cred.KindOf(err), err)
			}
			return
		}
		if again := p.SigningInput + "." + base64.RawURLEncoding.EncodeToString(p.Signature); again != tok {
			t.Fatalf("the parts give %q", again)
		}
		if !strings.HasSuffix(p.SigningInput, "."+base64.RawURLEncoding.EncodeToString(p.Payload)) {
			t.Fatalf("the payload %q is not what is signed", p.Payload)
		}
		var other map[string]any
		if err := json.Unmarshal(p.Payload, &other); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", p.Payload, err)
		}
		if diff := cmp.Diff(other, p.Claims); diff != "" {
			t.Fatalf("encoding/json reads something else:\n%s", diff)
		}
	})
}

// FuzzParseClaims lets the fuzzer work on the JSON itself.
func FuzzParseClaims(f *testing.F) {
	f.Add(goodHeader, goodClaims)
	f.Add(`{"alg":"RS256","crit":["b64"],"b64":false}`, `{"a":{"b":[{"b":1}]},"a":2}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		p, err := jws.Parse(compact(header, claims), 1<<16)
		if err != nil {
			return
		}
		var h map[string]string
		if err := json.Unmarshal([]byte(header), &h); err != nil {
			t.Fatalf("encoding/json refuses the header %q: %v", header, err)
		}
		if got := (jws.Header{Alg: h["alg"], Kid: h["kid"], Typ: h["typ"]}); got != p.Header {
			t.Fatalf("header %+v, encoding/json reads %+v", p.Header, got)
		}
		var std struct {
			Sub any `json:"sub"`
			Exp any `json:"exp"`
		}
		if err := json.Unmarshal([]byte(claims), &std); err != nil {
			t.Fatalf("encoding/json refuses the claims %q: %v", claims, err)
		}
		if diff := cmp.Diff([]any{std.Sub, std.Exp}, []any{p.Claims["sub"], p.Claims["exp"]}); diff != "" {
			t.Fatalf("a reader that ignores case reads something else:\n%s", diff)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	claims := `{"iss":"https://broker.example.com","sub":"repo:example/app:ref:refs/heads/main","aud":"urn:daypass:target:orders","exp":1790000000,"iat":1789999000,"nbf":1789999000,"jti":"` +
		strings.Repeat("j", 26) + `","client_id":"github-actions","scope":"read write","daypass":{"grant":"gr_` + strings.Repeat("0", 26) + `","target":"orders"}}`
	tok := compact(goodHeader, claims)
	b.ReportAllocs()
	b.SetBytes(int64(len(tok)))
	for b.Loop() {
		if _, err := jws.Parse(tok, 16<<10); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleParse() {
	_, err := jws.Parse(compact(`{"alg":"ES256","jku":"https://attacker.example.com/jwks"}`, `{}`), 16<<10)
	fmt.Println(cred.PublicText(err))
	// Output: the token's header has the member "jku", which is not accepted; send the token exactly as its issuer made it
}
