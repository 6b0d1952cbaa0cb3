package identitytest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"

	"github.com/daypass-io/daypass/cred"
)

// Forged is a token that must be refused.
type Forged struct {
	Name    string // what is wrong with it
	Token   string
	Kind    cred.Kind // of the refusal
	Reasons []string  // one of which the refusal must have; none: any
}

// Genuine is a token that must be accepted: a near sibling of a forged one.
type Genuine struct{ Name, Token string }

// forge collects forged tokens. Most are signed with the issuer's own key, so that nothing but what
// the name says is wrong with them.
type forge struct {
	issuer   *Issuer
	stranger *Issuer // has keys of its own under the same URL and the same kids
	audience string
	weak     *rsa.PrivateKey // published, and too short
	all      []Forged
}

// Forge returns forged and mangled ID tokens for a verifier that knows the issuer under its URL,
// with the one audience, every algorithm, and an accepted age of at most a day. It publishes a
// weak, a symmetric and an encryption key, so it must be called before the verifier fetches keys.
func (i *Issuer) Forge(audience string) ([]Forged, error) {
	stranger, err := Unserved(i.url)
	if err != nil {
		return nil, err
	}
	stranger.SetNow(i.Now)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		return nil, err
	}
	f := &forge{issuer: i, stranger: stranger, audience: audience, weak: weak}
	f.algorithms()
	f.secrets()
	f.keys()
	f.headers()
	f.types()
	f.audiences()
	f.issuers()
	f.times()
	f.subjects()
	f.payloads()
	f.shapes()
	f.damage()
	return f.all, nil
}

// Siblings returns tokens that lie close to forged ones and are good.
func (i *Issuer) Siblings(audience string) []Genuine {
	f := &forge{issuer: i, audience: audience}
	now := i.Now().Unix()
	with := func(name string, value any) string { return i.Sign(f.with(name, value)) }
	expired := f.with("exp", now-20)
	expired["iat"], expired["nbf"] = now-300, now-300
	genuine := []Genuine{
		{"plain", i.Sign(f.claims())},
		{"without typ", i.Sign(f.claims(), WithHeader("typ", nil))},
		{"with x5t", i.Sign(f.claims(), WithHeader("x5t", "AAAA"))},
		{"without kid where one key fits", i.Sign(f.claims(), WithAlg("EdDSA"), WithHeader("kid", nil))},
		{"without nbf", with("nbf", nil)},
		{"audience in a list of one", with("aud", []string{audience})},
		{"expired within the skew", i.Sign(expired)},
		{"issued within the skew", with("iat", now+20)},
		{"valid from within the skew", with("nbf", now+20)},
		{"far exp, young iat", with("exp", now+6*3600)},
		{"exp with an exponent", f.raw(`"exp"`, `"exp":1e10,"was"`)},
		{"longest sub", with("sub", long(512))},
		{"sub beyond ASCII", with("sub", "subject-\u00e9")},
		{"other claims in capitals", with("Environment", "x")},
		{"null in other claims", with("environment", json.RawMessage("null"))},
		{"white space in the claims", f.raw(`{`, "{ \n\t")},
		{"GitHub", i.Sign(i.GitHubClaims(audience, GitHubJob{}))},
		{"GitHub, immutable sub", i.Sign(i.GitHubClaims(audience, GitHubJob{Immutable: true}))},
		{"GitHub, environment with a colon", i.Sign(i.GitHubClaims(audience, GitHubJob{Environment: "eu:prod"}))},
		{"GitLab", i.Sign(i.GitLabClaims(audience, GitLabJob{}))},
		{"person", i.Sign(i.PersonClaims(audience, "example-user", "leads"))},
	}
	for _, alg := range algorithms {
		genuine = append(genuine, Genuine{alg, i.Sign(f.claims(), WithAlg(alg))})
	}
	return genuine
}

// claims returns good claims.
func (f *forge) claims() map[string]any {
	claims := f.issuer.PersonClaims(f.audience, "forged-subject", "leads")
	claims["nbf"] = claims["iat"]
	claims["jti"] = "forged-id"
	return claims
}

// with returns good claims but one, which is absent where value is nil.
func (f *forge) with(name string, value any) map[string]any {
	claims := f.claims()
	claims[name] = value
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// raw returns a signed token whose payload has the first occurrence of a text replaced.
func (f *forge) raw(old, replacement string) string {
	payload := bytes.Replace(mustJSON(f.claims()), []byte(old), []byte(replacement), 1)
	return f.payload(string(payload))
}

// payload signs any payload with the issuer's key.
func (f *forge) payload(payload string) string {
	k := f.issuer.key("RS256")
	return k.compact(f.header(k), []byte(payload))
}

// headed signs good claims under any header with the issuer's key.
func (f *forge) headed(header string) string {
	return f.issuer.key("RS256").compact([]byte(header), mustJSON(f.claims()))
}

// header returns the good header for a key.
func (f *forge) header(k key) []byte {
	return mustJSON(map[string]any{"alg": k.alg, "kid": k.kid, "typ": "JWT"})
}

// add notes a token that must be refused as Unauthenticated for one of the reasons.
func (f *forge) add(name, token string, reasons ...string) {
	f.all = append(f.all, Forged{Name: name, Token: token, Kind: cred.Unauthenticated, Reasons: reasons})
}

// claim notes a token that the issuer signed, with one claim replaced, or removed by nil.
func (f *forge) claim(what, name string, value any, reasons ...string) {
	f.add(what, f.issuer.Sign(f.with(name, value)), reasons...)
}

// public returns the issuer's public RSA key, from which forgers make secrets.
func (f *forge) public() *rsa.PublicKey {
	public, ok := f.issuer.key("RS256").private.Public().(*rsa.PublicKey)
	if !ok {
		panic("identitytest: the RS256 key is no RSA key")
	}
	return public
}

// flip returns b with one bit turned.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at/8] ^= 1 << (at % 8)
	return b
}

// long returns a text of n bytes.
func long(n int) string { return string(bytes.Repeat([]byte("a"), n)) }
