package jws

import (
	"encoding/json"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// readFully is what readPlain must agree with.
func readFully(b []byte) (map[string]any, bool) {
	var v any
	err := jsonv2.Unmarshal(b, &v)
	object, ok := v.(map[string]any)
	return object, err == nil && ok && !deeper(object, maxDepth)
}

// FuzzReadPlain looks for objects that are read in two ways.
func FuzzReadPlain(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"iss":"https://a.example","exp":1700000000,"aud":["a","b"],"ok":true,"no":false,"nil":null,"in":{"a":{}}}`,
		` { "a" : [ ] , "b" : [ 1 , -2 ] } `, `{"a":1,"a":2}`, `{"a":{"b":1,"b":1}}`, `{"a":"\u0041"}`, `{"a":"é"}`, `{"a":-0}`, `{"a":01}`, `{"a":+1}`,
		`{"a":1e3}`, `{"a":0.5}`, `{"a":999999999999999}`, `{"a":9007199254740993}`, `{"a":1_0}`, `{"a":1,}`, `{"a":[1,]}`, `{,}`, `{"a"}`, `{"a":}`, `{} x`, `{}{}`,
		`{"a":nul}`, `{"a":True}`, "{\"a\":\"\x00\"}", "{\"a\":\"\x7f\"}", "{\"a\":\"\xff\"}", "{\"a\":\v1}", `[]`, `null`, `"a"`, ``, `{`,
		strings.Repeat(`{"a":`, 16) + `1` + strings.Repeat(`}`, 16), strings.Repeat(`{"a":`, 16) + `{}` + strings.Repeat(`}`, 16),
		`{"a":` + strings.Repeat(`[`, 15) + strings.Repeat(`]`, 15) + `}`, `{"a":` + strings.Repeat(`[`, 16) + strings.Repeat(`]`, 16) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := readPlain(b)
		if !ok {
			return
		}
		want, wantOK := readFully(b)
		if !wantOK {
			t.Fatalf("%q is read, and it is refused", b)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q: %s", b, diff)
		}
	})
}

// TestReadPlainReadsTokens holds that the quick way is taken: what an issuer makes of plain claims.
func TestReadPlainReadsTokens(t *testing.T) {
	text := rapid.StringMatching(`[ !#-\[\]-~]*`)
	value := rapid.OneOf(
		rapid.Map(text, func(s string) any { return s }),
		rapid.Map(rapid.Int64Range(-1e13, 1e14), func(n int64) any { return float64(n) }),
		rapid.Map(rapid.Bool(), func(is bool) any { return is }), rapid.Just[any](nil),
		rapid.Map(rapid.SliceOf(text), func(list []string) any {
			out := make([]any, len(list))
			for i, s := range list {
				out[i] = s
			}
			return out
		}),
	)
	rapid.Check(t, func(t *rapid.T) {
		claims := rapid.MapOf(text, value).Draw(t, "claims")
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if rapid.Bool().Draw(t, "spaces") {
			enc.SetIndent(" ", "\t")
		}
		if err := enc.Encode(claims); err != nil {
			t.Fatal(err)
		}
		got, ok := readPlain([]byte(b.String()))
		if !ok {
			t.Fatalf("%s is not read", &b)
		}
		if diff := cmp.Diff(claims, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
