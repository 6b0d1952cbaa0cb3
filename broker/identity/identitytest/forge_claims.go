package identitytest

import (
	"encoding/json"
	"fmt"
	"strings"
)

func (f *forge) audiences() {
	for _, aud := range []any{
		"", "other", f.audience + "/", f.audience + " ", strings.ToUpper(f.audience), "*", f.audience + "\x00", f.audience + "," + f.audience,
		[]string{""},
		[]string{"other"},
		[]string{f.audience, "other"},
		[]string{"other", f.audience},
		[]string{f.audience, ""},
		[]string{f.audience, "other", "third"},
	} {
		f.claim(fmt.Sprintf("aud %q", aud), "aud", aud, "WRONG_AUDIENCE")
	}
	f.claim("no aud", "aud", nil, "MISSING_CLAIM")
	f.claim("aud null", "aud", json.RawMessage("null"), "MISSING_CLAIM", "CLAIM_INVALID")
	f.claim("aud an empty list", "aud", []string{}, "MISSING_CLAIM", "CLAIM_INVALID")
	for _, aud := range []any{1, true, map[string]any{f.audience: true}, []any{f.audience, 1}, []any{f.audience, nil}, []any{[]string{f.audience}}, []any{map[string]any{}}} {
		f.claim(fmt.Sprintf("aud %v", aud), "aud", aud, "CLAIM_INVALID")
	}
}

func (f *forge) issuers() {
	url := f.issuer.url
	for _, iss := range []string{
		url + "/", url + "//", url + "/.", url + "?", url + "#", " " + url, url + " ", url + "\t", strings.Replace(url, "http", "HTTP", 1), strings.ToUpper(url),
		url + ":80", url + "/other", strings.Replace(url, "://", "://user@", 1), strings.TrimPrefix(url, "http"), strings.Replace(url, "127.0.0.1", "localhost", 1) + "x",
		"http://127.0.0.1:1", "https://attacker.example.com", "file:///etc/passwd", "accounts.google.com", "*", "null", url + "\x00", url + "." + "example.com",
	} {
		f.claim(fmt.Sprintf("iss %q", iss), "iss", iss, "UNKNOWN_ISSUER", "CLAIM_INVALID")
	}
	f.claim("no iss", "iss", nil, "MISSING_CLAIM")
	for _, iss := range []any{"", 1, []string{url}, map[string]any{"url": url}, json.RawMessage("null"), long(2000)} {
		f.claim(fmt.Sprintf("iss %.20v", iss), "iss", iss, "CLAIM_INVALID", "MISSING_CLAIM")
	}
}

func (f *forge) times() {
	now := f.issuer.Now().Unix()
	for _, exp := range []int64{0, 1, now - 31, now - 3600, now - 40*365*86400} {
		f.claim(fmt.Sprintf("exp %d", exp), "exp", exp, "TOKEN_EXPIRED", "CLAIM_INVALID")
	}
	for _, iat := range []int64{now + 60, now + 3600, now + 5*365*86400} {
		f.claim(fmt.Sprintf("iat %d s ahead", iat-now), "iat", iat, "TOKEN_NOT_YET_VALID")
		f.claim(fmt.Sprintf("nbf %d s ahead", iat-now), "nbf", iat, "TOKEN_NOT_YET_VALID")
	}
	for _, iat := range []int64{0, 1, now - 2*86400, now - 365*86400} {
		f.claim(fmt.Sprintf("iat %d", iat), "iat", iat, "TOKEN_TOO_OLD")
	}
	early := f.with("exp", now-10)
	early["iat"] = now + 10
	f.add("exp before iat, both within the skew", f.issuer.Sign(early), "CLAIM_INVALID")
	for _, name := range []string{"exp", "iat"} {
		f.claim("no "+name, name, nil, "MISSING_CLAIM")
	}
	for _, name := range []string{"exp", "iat", "nbf"} {
		for _, value := range []string{
			`null`, `true`, `[]`, `{}`, `""`, `"now"`, fmt.Sprintf(`"%d"`, now), fmt.Sprintf(`[%d]`, now), fmt.Sprintf(`%d.5`, now), `-1`, `-0.5`,
			`1e18`, `1e300`, `9007199254740993`, `253402300800`, `18446744073709551617`, `-9223372036854775809`, `"NaN"`, `"Infinity"`,
		} {
			f.claim(name+" "+value, name, json.RawMessage(value), "CLAIM_INVALID", "MISSING_CLAIM")
		}
		for _, value := range []string{`NaN`, `Infinity`, `-Infinity`, `0x7fffffff`, `1e400`, `+1`, `01`, `1.`, `.5`, `1_000`, `1 000`} {
			f.add(name+" "+value, f.raw(fmt.Sprintf(`"%s":`, name), fmt.Sprintf(`"%s":%s,"was":`, name, value)), "TOKEN_MALFORMED")
		}
	}
}

func (f *forge) subjects() {
	f.claim("no sub", "sub", nil, "MISSING_CLAIM")
	for _, sub := range []any{
		"", 1, true,
		[]string{"a"},
		map[string]any{"sub": "a"},
		json.RawMessage("null"), long(513), long(8000),
		"a\nb", "a\rb", "a\x00", "\x1b[31ma", "a\u0085b", "a\u202eb", "a\u200bb", "a\u2028b", "\ufeffa", "a\u007f",
	} {
		f.claim(fmt.Sprintf("sub %.20q of %d bytes", fmt.Sprint(sub), len(fmt.Sprint(sub))), "sub", sub, "CLAIM_INVALID", "MISSING_CLAIM")
	}
}

// payloads are claims that two readers may read differently.
func (f *forge) payloads() {
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "email", "groups"} {
		f.add("two times "+name, f.raw(`{`, fmt.Sprintf(`{"%s":"first",`, name)), "TOKEN_MALFORMED")
		f.add("two times "+name+", once with an escape", f.raw(`{`, fmt.Sprintf(`{"\u%04x%s":"first",`, name[0], name[1:])), "TOKEN_MALFORMED")
	}
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "nonce", "azp"} {
		for _, variant := range []string{strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]} {
			f.add("claim "+variant+" beside", f.raw(`{`, fmt.Sprintf(`{"%s":"x",`, variant)), "TOKEN_MALFORMED")
			instead := f.with(name, nil)
			instead[variant] = f.claims()[name]
			f.add("claim "+variant+" in its place", f.issuer.Sign(instead), "TOKEN_MALFORMED")
		}
	}
	f.add("claim i\u017fs", f.raw(`{`, `{"i\u017fs":"x",`), "TOKEN_MALFORMED")
	f.add("two times a nested member", f.raw(`{`, `{"deep":{"a":1,"a":2},`), "TOKEN_MALFORMED")
	f.add("two times a member in a list", f.raw(`{`, `{"deep":[{"a":1,"a":2}],`), "TOKEN_MALFORMED")
	good := string(mustJSON(f.claims()))
	for name, payload := range map[string]string{
		"claims in a list": "[" + good + "]", "claims in a string": string(mustJSON(good)), "claims null": "null", "claims a number": "1", "claims true": "true",
		"no claims": "", "claims a space": " ", "claims twice": good + good, "claims and a letter": good + "x", "claims and NUL": good + "\x00", "claims and a byte order mark": "\ufeff" + good,
		"claims without the end": good[:len(good)-1], "claims with a comma too many": good[:len(good)-1] + ",}", "claims with a comment": "{/**/" + good[1:], "claims in single quotes": strings.ReplaceAll(good, `"`, `'`),
		"claims in UTF-16": "{\x00\"\x00", "claims with a control character": "{\"a\":\"\x01\"," + good[1:], "claims with a bad escape": `{"a":"\x41",` + good[1:],
		"invalid UTF-8 in a value": "{\"a\":\"\xff\"," + good[1:], "invalid UTF-8 in a name": "{\"\xc3\x28\":1," + good[1:], "overlong UTF-8": "{\"a\":\"\xc0\xae\"," + good[1:], "half a surrogate pair": `{"a":"\ud83d",` + good[1:],
		"lists nested 17 deep": `{"a":` + strings.Repeat("[", 17) + strings.Repeat("]", 17) + "," + good[1:], "lists nested 5000 deep": `{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "," + good[1:],
		"objects nested 100 deep": strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 99) + "," + good[1:], "a number too large": `{"a":1e999,` + good[1:], "a JWT as claims": f.issuer.Sign(f.claims()),
	} {
		f.add(name, f.payload(payload), "TOKEN_MALFORMED")
	}
	f.add("claims of 20 KB", f.payload(`{"a":"`+long(20000)+`",`+good[1:]), "TOKEN_TOO_LARGE")
	f.add("claims of 1 MB", f.payload(`{"a":"`+long(1<<20)+`",`+good[1:]), "TOKEN_TOO_LARGE")
}
