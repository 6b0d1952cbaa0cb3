package jws_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/jws"
)

const headerWithKey = `{"alg":"ES256","typ":"dpop+jwt","jwk":{"kty":"EC","x":1}}`

func TestParseWithKeyReadsTheKeyAsSent(t *testing.T) {
	got, jwk, err := jws.ParseWithKey(compact(headerWithKey, goodClaims), 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(jws.Header{Alg: "ES256", Typ: "dpop+jwt"}, got.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"kty": "EC", "x": 1.0}, jwk); diff != "" {
		t.Errorf("jwk (-want +got):\n%s", diff)
	}
	if got.SigningInput != b64(headerWithKey)+"."+b64(goodClaims) || string(got.Signature) != "signature" {
		t.Errorf("%+v", got)
	}
	if _, err := jws.Parse(compact(headerWithKey, goodClaims), 1<<10); err == nil {
		t.Error("Parse takes a token that brings its own key")
	}
}

func TestParseWithKeyRefuses(t *testing.T) {
	for name, c := range map[string]struct{ header, claims, reason string }{
		"no key":           {goodHeader, goodClaims, "TOKEN_MALFORMED"},
		"a kid besides":    {`{"alg":"ES256","typ":"a","kid":"k","jwk":{}}`, goodClaims, "TOKEN_MALFORMED"},
		"no typ":           {`{"alg":"ES256","jwk":{}}`, goodClaims, "TOKEN_MALFORMED"},
		"no alg":           {`{"typ":"a","jwk":{}}`, goodClaims, "TOKEN_MALFORMED"},
		"a jku for a typ":  {`{"alg":"ES256","jku":"a","jwk":{}}`, goodClaims, "TOKEN_MALFORMED"},
		"JWK for jwk":      {`{"alg":"ES256","typ":"a","JWK":{}}`, goodClaims, "TOKEN_MALFORMED"},
		"a null key":       {`{"alg":"ES256","typ":"a","jwk":null}`, goodClaims, "TOKEN_MALFORMED"},
		"a list of keys":   {`{"alg":"ES256","typ":"a","jwk":[]}`, goodClaims, "TOKEN_MALFORMED"},
		"a number for typ": {`{"alg":"ES256","typ":1,"jwk":{}}`, goodClaims, "TOKEN_MALFORMED"},
		"a member twice":   {`{"alg":"ES256","typ":"a","jwk":{"x":1,"x":2}}`, goodClaims, "TOKEN_MALFORMED"},
		"alg none":         {`{"alg":"none","typ":"a","jwk":{}}`, goodClaims, "TOKEN_ALGORITHM"},
		"alg HS256":        {`{"alg":"HS256","typ":"a","jwk":{}}`, goodClaims, "TOKEN_ALGORITHM"},
		"a claim twice":    {headerWithKey, `{"jti":1,"jti":2}`, "TOKEN_MALFORMED"},
		"a claim in case":  {headerWithKey, `{"JTI":1}`, "TOKEN_MALFORMED"},
	} {
		_, jwk, err := jws.ParseWithKey(compact(c.header, c.claims), 1<<10)
		if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Unauthenticated || e.Reason != c.reason {
			t.Errorf("%s: key %v, error %v, want %s", name, jwk, err, c.reason)
		}
	}
	if _, _, err := jws.ParseWithKey(compact(headerWithKey, goodClaims), 100); err == nil {
		t.Error("a token that is too long is read")
	}
}
