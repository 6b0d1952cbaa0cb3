package identity_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

func TestNewNamesEveryProblem(t *testing.T) {
	good := identity.Provider{Name: "good", Issuer: "https://issuer.example.com", Audiences: []string{audience}}
	for name, test := range map[string]struct {
		change func(*identity.Provider)
		says   string
	}{
		"no name":              {func(p *identity.Provider) { p.Name = "" }, "name is missing"},
		"no issuer":            {func(p *identity.Provider) { p.Issuer = "" }, "issuer"},
		"plain issuer":         {func(p *identity.Provider) { p.Issuer = "http://issuer.example.com"; p.AllowPlain = true }, "https"},
		"plain loopback":       {func(p *identity.Provider) { p.Issuer = "http://127.0.0.1:8080" }, "https"},
		"issuer with a query":  {func(p *identity.Provider) { p.Issuer += "/?a=b" }, "query"},
		"issuer with user":     {func(p *identity.Provider) { p.Issuer = "https://a@issuer.example.com" }, "user information"},
		"issuer without host":  {func(p *identity.Provider) { p.Issuer = "https:///x" }, "host"},
		"issuer is no URL":     {func(p *identity.Provider) { p.Issuer = "https://%zz" }, "issuer must be a URL"},
		"no audience":          {func(p *identity.Provider) { p.Audiences = nil }, "audiences"},
		"empty audience":       {func(p *identity.Provider) { p.Audiences = []string{audience, ""} }, "audiences"},
		"the issuer's own":     {func(p *identity.Provider) { p.Audiences = []string{audience, p.Issuer} }, "issuer's own API"},
		"somebody else's":      {func(p *identity.Provider) { p.RefuseAudiences = []string{"https://daypass.*"} }, "issuer's own API"},
		"plain keys":           {func(p *identity.Provider) { p.JWKSURL = "http://keys.example.com" }, "jwks_url must be https"},
		"trust domain":         {func(p *identity.Provider) { p.TrustDomain = "Example.org" }, "trust_domain must be"},
		"no keys":              {func(p *identity.Provider) { p.TrustDomain, p.Issuer = "example.org", "" }, "a jwks_url"},
		"HMAC":                 {func(p *identity.Provider) { p.Algorithms = []string{"RS256", "HS256"} }, `"HS256"`},
		"none":                 {func(p *identity.Provider) { p.Algorithms = []string{"none"} }, `"none"`},
		"kind":                 {func(p *identity.Provider) { p.Kind = cred.KindProxy }, `"proxy"`},
		"negative age":         {func(p *identity.Provider) { p.MaxAge = -1 }, "max_age"},
		"negative skew":        {func(p *identity.Provider) { p.Skew = -1 }, "skew"},
		"wide skew":            {func(p *identity.Provider) { p.Skew = time.Hour }, "skew"},
		"no CA file":           {func(p *identity.Provider) { p.CAFile = "/does/not/exist" }, "ca_file"},
		"CA file and a client": {func(p *identity.Provider) { p.CAFile = "x"; p.Client = &http.Client{} }, "ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			bad.Name = "bad"
			bad.Issuer = "https://bad.example.com"
			test.change(&bad)
			_, err := identity.New([]identity.Provider{good, bad}, time.Now)
			e := refused(t, err, "", cred.Invalid, "PROVIDER_INVALID")
			if !strings.Contains(e.Public, "identity provider 2") || !strings.Contains(e.Public, test.says) {
				t.Errorf("public text %q does not say %q of the second provider", e.Public, test.says)
			}
		})
	}
	twice := good
	_, err := identity.New([]identity.Provider{good, twice, {}}, time.Now)
	e := refused(t, err, "", cred.Invalid)
	for _, want := range []string{"issuer \"https://issuer.example.com\" is configured twice", "name is configured twice", "name is missing", "audiences"} {
		if !strings.Contains(e.Public, want) {
			t.Errorf("public text %q lacks %q", e.Public, want)
		}
	}
	if _, err := identity.New([]identity.Provider{good}, time.Now); err != nil {
		t.Errorf("the good provider: %v", err)
	}
}

// TestNewTakesCopies changes what was passed to New, which must not reach the verifier.
func TestNewTakesCopies(t *testing.T) {
	i := unserved(t)
	p := provider(i)
	p.Algorithms = []string{"RS256"}
	p.RefuseClaims = map[string][]string{"event_name": {"workflow_run"}}
	v := newVerifier(t, atNoon, p)
	p.Audiences[0], p.Algorithms[0], p.RefuseClaims["event_name"][0] = "changed", "ES256", "push"
	if _, err := v.Verify(t.Context(), i.Sign(i.GitHubClaims(audience, identitytest.GitHubJob{}))); err != nil {
		t.Error(err)
	}
}

func TestCAFile(t *testing.T) {
	i := unserved(t)
	server := httptest.NewTLSServer(i)
	defer server.Close()
	i.SetDiscovery(server.URL, server.URL+"/jwks")
	claims := i.PersonClaims(audience, "a")
	claims["iss"] = server.URL
	token := i.Sign(claims)
	roots := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(roots, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	p := identity.Provider{Name: "example", Issuer: server.URL, Audiences: []string{audience}, CAFile: roots}
	if _, err := newVerifier(t, atNoon, p).Verify(t.Context(), token); err != nil {
		t.Errorf("with its CA: %v", err)
	}
	p.CAFile = ""
	_, err := newVerifier(t, atNoon, p).Verify(t.Context(), token)
	refused(t, err, token, cred.Unavailable, "ISSUER_UNAVAILABLE")
	if err := os.WriteFile(roots, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.CAFile = roots
	_, err = identity.New([]identity.Provider{p}, atNoon)
	refused(t, err, "", cred.Invalid, "PROVIDER_INVALID")
}
