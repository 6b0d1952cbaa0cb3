// Package logintest is an OpenID provider for tests of signing in: authorization code with PKCE, device
// authorization, refresh tokens that rotate and whose reuse ends the sign-in, and revocation. It is
// strict where the specifications are, since a provider that lets things pass proves nothing, and has
// switches for what real providers do differently.
package logintest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ClientID is the one client that the provider knows: a public one.
const ClientID = "daypass-cli"

// Person is who signs in.
type Person struct {
	Subject string
	Name    string
	Groups  []string
}

// Behaviour is what a test changes, see Provider.Set.
type Behaviour struct {
	Person     Person
	Lifetime   time.Duration        // of ID tokens
	Claims     func(map[string]any) // changes the claims of an ID token; nil: nothing
	Deny       bool                 // the person refuses, in the browser and on the device
	SaysIssuer bool                 // RFC 9207
	Answer     func(map[string]any) // changes what the browser brings back, by name; nil: nothing

	NoRefresh        bool // no refresh token at all
	KeepRefresh      bool // a refresh does not rotate, and its answer has no refresh token
	NoIDTokenRefresh bool // a refresh brings no ID token
	NoDevice         bool
	NoRevocation     bool

	Device   DeviceStyle
	Interval int  // seconds that a device is told to wait; zero: nothing is said
	Stricter int  // by how many seconds a device must wait longer than it is told
	Page     bool // the authorization endpoint shows a page whose script goes on, for real browsers

	Fail map[string]int // HTTP status by path; -1: the connection breaks after the request was done
}

// DeviceStyle is a way in which providers differ in RFC 8628.
type DeviceStyle string

// The styles of device flows.
const (
	DeviceRFC    DeviceStyle = ""       // errors with status 400
	DeviceGitHub DeviceStyle = "github" // errors with status 200
	DeviceGoogle DeviceStyle = "google" // verification_url; pending with 428, slow_down with 403
)

// Provider is an OpenID provider. It is an http.Handler, and safe for concurrent use.
type Provider struct {
	URL    string
	server *httptest.Server // nil for an unserved one
	key    *ecdsa.PrivateKey

	mu       sync.Mutex // guards all below
	is       Behaviour
	codes    map[string]authorization
	devices  map[string]*device
	families map[string]*family // by the refresh token that is good
	spent    map[string]*family // by one that was
	authTime time.Time
	counts   map[string]int // requests by path, and of "/token" by grant type
}

// family is what came of one sign-in; reuse of a spent refresh token ends it.
type family struct {
	ended    bool
	person   Person
	authTime time.Time
}

// New starts a provider on a loopback address.
func New() *Provider {
	p := Unserved("")
	p.server = httptest.NewServer(p)
	p.URL = p.server.URL
	return p
}

// Unserved makes a provider that listens nowhere; Client reaches it without a network, also under
// testing/synctest.
func Unserved(url string) *Provider {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("logintest: no key: " + err.Error())
	}
	return &Provider{
		URL: url, key: key,
		is:    Behaviour{Person: Person{Subject: "ann", Name: "Ann Example", Groups: []string{"team"}}, Lifetime: time.Hour},
		codes: map[string]authorization{}, devices: map[string]*device{}, families: map[string]*family{}, spent: map[string]*family{},
		counts: map[string]int{},
	}
}

// Close stops the provider.
func (p *Provider) Close() {
	if p.server != nil {
		p.server.Close()
	}
}

// Set changes the provider's behaviour.
func (p *Provider) Set(change func(*Behaviour)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.is)
}

// Count returns how often a path was asked for, or a grant type at the token endpoint.
func (p *Provider) Count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[what]
}

// SignInEarlier has the person be known to the provider since an instant, as a browser's cookie would.
func (p *Provider) SignInEarlier(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.authTime = at
}

// Alive is how many sign-ins have not ended.
func (p *Provider) Alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, f := range p.families {
		if !f.ended {
			n++
		}
	}
	return n
}

// EndAll ends every sign-in, as an administrator would.
func (p *Provider) EndAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.families {
		f.ended = true
	}
}

// ServeHTTP is the provider.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[r.URL.Path]++
	status := p.is.Fail[r.URL.Path]
	if status > 0 {
		http.Error(w, "out of order", status)
		return
	}
	if status < 0 {
		p.route(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	p.route(w, r)
}

func (p *Provider) route(w http.ResponseWriter, r *http.Request) {
	routes := map[string]func(http.ResponseWriter, *http.Request){
		"GET /.well-known/openid-configuration": p.discovery,
		"GET /keys":                             p.keys,
		"GET /authorize":                        p.authorize,
		"POST /token":                           p.token,
		"POST /device_authorization":            p.deviceAuthorization,
		"POST /revoke":                          p.revoke,
	}
	serve := routes[r.Method+" "+r.URL.Path]
	if serve == nil {
		http.NotFound(w, r)
		return
	}
	serve(w, r)
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	d := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
		"jwks_uri": p.URL + "/keys", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"}, "code_challenge_methods_supported": []string{"S256"},
		"authorization_response_iss_parameter_supported": p.is.SaysIssuer,
	}
	if !p.is.NoDevice {
		d["device_authorization_endpoint"] = p.URL + "/device_authorization"
	}
	if !p.is.NoRevocation {
		d["revocation_endpoint"] = p.URL + "/revoke"
	}
	writeJSON(w, http.StatusOK, d)
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	public, err := p.key.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		panic("logintest: " + err.Error())
	}
	b64 := base64.RawURLEncoding.EncodeToString
	writeJSON(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": b64(public[1:33]), "y": b64(public[33:]),
	}}})
}

// idToken signs an ID token for a sign-in.
func (p *Provider) idToken(f *family, nonce string) string {
	now := time.Now()
	claims := map[string]any{
		"iss": p.URL, "sub": f.person.Subject, "aud": ClientID, "iat": now.Unix(), "exp": now.Add(p.is.Lifetime).Unix(),
		"auth_time": f.authTime.Unix(), "name": f.person.Name, "groups": f.person.Groups, "jti": rand.Text(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if p.is.Claims != nil {
		p.is.Claims(claims)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(claims))
	t.Header["kid"] = "k1"
	signed, err := t.SignedString(p.key)
	if err != nil {
		panic("logintest: " + err.Error())
	}
	return signed
}

// signIn makes a sign-in. A person who is known is not asked again unless the client wants it.
func (p *Provider) signIn(again bool) *family {
	if again || p.authTime.IsZero() {
		p.authTime = time.Now()
	}
	return &family{person: p.is.Person, authTime: p.authTime}
}

// issue answers the token endpoint with what belongs to a sign-in.
func (p *Provider) issue(w http.ResponseWriter, f *family, nonce string) {
	answer := map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 300, "id_token": p.idToken(f, nonce)}
	if !p.is.NoRefresh {
		answer["refresh_token"] = p.newRefresh(f)
	}
	writeJSON(w, http.StatusOK, answer)
}

func (p *Provider) newRefresh(f *family) string {
	tok := "rt-" + rand.Text()
	p.families[tok] = f
	return tok
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse is an OAuth error (RFC 6749, section 5.2).
func refuse(w http.ResponseWriter, status int, code, format string, args ...any) {
	writeJSON(w, status, map[string]string{"error": code, "error_description": fmt.Sprintf(format, args...)})
}

// only reports whether a form has every name once and nothing else.
func only(form map[string][]string, names ...string) bool {
	for name, values := range form {
		if !slices.Contains(names, name) || len(values) != 1 {
			return false
		}
	}
	return true
}
