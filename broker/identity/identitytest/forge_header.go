package identitytest

import (
	"fmt"
	"strings"
)

// headers forges by header members that name keys or change the reading.
func (f *forge) headers() {
	evil := f.stranger.key("RS256")
	members := map[string]any{
		"jku": "http://127.0.0.1:1/jwks", "x5u": "http://127.0.0.1:1/cert", "x5c": []string{"AAAA"}, "jwk": evil.jwk(),
		"crit": []string{"exp"}, "b64": false, "zip": "DEF", "cty": "JWT", "enc": "A128GCM", "epk": evil.jwk(), "apu": "AA",
		"iss": f.issuer.url, "nonce": "AA", "url": "http://127.0.0.1:1/", "p2c": 1, "iv": "AA", "tag": "AA", "svt": "AA",
	}
	for name, value := range members {
		f.add("header "+name+", the issuer's signature", f.issuer.Sign(f.claims(), WithHeader(name, value)), "TOKEN_MALFORMED")
		f.add("header "+name+", a stranger's signature", f.stranger.Sign(f.claims(), WithHeader(name, value)), "TOKEN_MALFORMED")
	}
	for _, header := range []string{
		`{"alg":"RS256","kid":"rs256-1","alg":"none"}`, `{"alg":"none","alg":"RS256","kid":"rs256-1"}`,
		`{"alg":"RS256","kid":"rs256-1","kid":"rs256-1"}`, `{"alg":"RS256","ALG":"none","kid":"rs256-1"}`,
		`{"alg":"RS256","Kid":"rs256-1"}`, `{"alg":"RS256","kid":"rs256-1","TYP":"JWT"}`, `{"al\u0067":"RS256","alg":"RS256"}`,
		`["RS256"]`, `"RS256"`, `null`, `true`, `17`, `{}{"alg":"RS256"}`, `{"alg":"RS256"`, `{"alg":"RS256",}`, `{alg:"RS256"}`,
		`{"alg":"RS256","kid":"rs256-1"}x`, "\ufeff" + `{"alg":"RS256","kid":"rs256-1"}`, `{"alg":"RS256","kid":"` + "\xff" + `"}`,
		`{"alg":"RS256","kid":"\ud800"}`, "", " ", "{'alg':'RS256'}", `{"alg":"RS256","x5t":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}`,
		`{"alg":null,"kid":"rs256-1"}`, `{"alg":"RS256","kid":null}`, `{"alg":"RS256","kid":"rs256-1","typ":null}`,
	} {
		f.add(fmt.Sprintf("header %.50q", header), f.headed(header), "TOKEN_MALFORMED", "TOKEN_ALGORITHM")
	}
}

// types are tokens that an issuer signs for other ends than to say who somebody is.
func (f *forge) types() {
	for _, typ := range []string{
		"at+jwt", "application/at+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "oauth-id-jag+jwt", "token-introspection+jwt",
		"oauth-authz-req+jwt", "client-authentication+jwt", "jwt-vc", "vc+sd-jwt", "dc+sd-jwt", "kb+jwt", "entity-statement+jwt",
		"JOSE", "JOSE+JSON", "JWE", "JWS", "jwt+at", "JWT ", " JWT", "JWT;at+jwt", "AT+JWT", "Bearer", "ID",
	} {
		f.add(fmt.Sprintf("typ %q", typ), f.issuer.Sign(f.claims(), WithHeader("typ", typ)), "WRONG_TYPE")
	}
	for _, typ := range []any{"", 1, []string{"JWT"}, true} {
		f.add(fmt.Sprintf("typ %#v", typ), f.issuer.Sign(f.claims(), WithHeader("typ", typ)), "TOKEN_MALFORMED")
	}
}
