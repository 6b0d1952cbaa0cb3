package login_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/clients/login/logintest"
	"github.com/daypass-io/daypass/cred"
)

func TestDiscover(t *testing.T) {
	okta := login.Method{Provider: "okta", Issuer: "https://example.okta.com", ClientID: "c1", Scopes: []string{"openid", "offline_access"}}
	const entry = `{"provider":"okta","issuer":"https://example.okta.com","client_id":"c1","scopes":["openid","offline_access"],"later":1}`
	for name, c := range map[string]struct {
		status int
		body   string
		want   []login.Method
		reason string
	}{
		"one":            {200, `{"issuer":"URL","login":[` + entry + `],"more":true}`, []login.Method{okta}, ""},
		"a last slash":   {200, `{"issuer":"URL/","login":[` + entry + `]}`, []login.Method{okta}, ""},
		"none":           {200, `{"issuer":"URL"}`, nil, ""},
		"an old broker":  {404, `no such page`, nil, ""},
		"another broker": {200, `{"issuer":"https://other.example.com","login":[` + entry + `]}`, nil, "BROKER_URL"},
		"no issuer":      {200, `{"login":[` + entry + `]}`, nil, "BROKER_URL"},
		"no JSON":        {200, `<html>`, nil, "BROKER_ANSWER"},
		"out of order":   {503, ``, nil, "BROKER_ANSWER"},
		"elsewhere":      {302, ``, nil, "BROKER_ANSWER"},
	} {
		t.Run(name, func(t *testing.T) {
			var url string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/.well-known/daypass-configuration" {
					t.Errorf("asked for %s", r.URL)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, strings.ReplaceAll(c.body, "URL", url))
			}))
			defer server.Close()
			url = server.URL
			got, err := login.Discover(t.Context(), login.NewClient(nil), url+"/")
			e, _ := errors.AsType[*cred.Error](err)
			if (err == nil) != (c.reason == "") || err != nil && e.Reason != c.reason {
				t.Errorf("got %v, want reason %q", err, c.reason)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDiscoverAsksOverHTTPS(t *testing.T) {
	for _, broker := range []string{"http://daypass.example.com", "daypass.example.com", "https://user@daypass.example.com", "ftp://127.0.0.1"} {
		_, err := login.Discover(t.Context(), &http.Client{Transport: unreachable{t}}, broker)
		if cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", broker, err)
		}
	}
}

type unreachable struct{ t *testing.T }

func (u unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	u.t.Errorf("%s was asked", r.URL)
	return nil, errors.New("not to be asked")
}

func TestChoose(t *testing.T) {
	a, b := login.Method{Provider: "a"}, login.Method{Provider: "b"}
	for name, c := range map[string]struct {
		methods  []login.Method
		provider string
		want     string
		reason   string
	}{
		"the only one":  {[]login.Method{a}, "", "a", ""},
		"by name":       {[]login.Method{a, b}, "b", "b", ""},
		"several":       {[]login.Method{a, b}, "", "", "WHICH_LOGIN"},
		"none":          {nil, "", "", "NO_LOGIN"},
		"none, by name": {nil, "a", "", "NO_LOGIN"},
		"another":       {[]login.Method{a}, "b", "", "NO_SUCH_LOGIN"},
	} {
		got, err := login.Choose(c.methods, c.provider)
		e, _ := errors.AsType[*cred.Error](err)
		if got.Provider != c.want || (err == nil) != (c.reason == "") || err != nil && e.Reason != c.reason {
			t.Errorf("%s: %q, %v", name, got.Provider, err)
		}
	}
}

// TestIssuersThatAreNotTrusted: no endpoint that could be read on the way gets a code or a token.
func TestIssuersThatAreNotTrusted(t *testing.T) {
	for name, c := range map[string]struct{ issuer, body, reason string }{
		"plain issuer":        {"http://idp.example.com", "", "ISSUER_URL"},
		"another's document":  {"https://idp.example.com", `{"issuer":"https://other.example.com"}`, "ISSUER_DISCOVERY"},
		"a last slash":        {"https://idp.example.com/", `{"issuer":"https://idp.example.com"}`, "ISSUER_DISCOVERY"},
		"plain token URL":     {"https://idp.example.com", `{"issuer":"https://idp.example.com","authorization_endpoint":"https://idp.example.com/a","token_endpoint":"http://idp.example.com/t","jwks_uri":"https://idp.example.com/k"}`, "ISSUER_ENDPOINT"},
		"loopback token URL":  {"https://idp.example.com", `{"issuer":"https://idp.example.com","authorization_endpoint":"https://idp.example.com/a","token_endpoint":"http://127.0.0.1/t","jwks_uri":"https://idp.example.com/k"}`, "ISSUER_ENDPOINT"},
		"plain revocation":    {"https://idp.example.com", `{"issuer":"https://idp.example.com","token_endpoint":"https://idp.example.com/t","revocation_endpoint":"http://idp.example.com/r","jwks_uri":"https://idp.example.com/k"}`, "ISSUER_ENDPOINT"},
		"no token URL":        {"https://idp.example.com", `{"issuer":"https://idp.example.com","authorization_endpoint":"https://idp.example.com/a","jwks_uri":"https://idp.example.com/k"}`, "ISSUER_ENDPOINT"},
		"no PKCE with S256":   {"https://idp.example.com", `{"issuer":"https://idp.example.com","authorization_endpoint":"https://idp.example.com/a","token_endpoint":"https://idp.example.com/t","jwks_uri":"https://idp.example.com/k","code_challenge_methods_supported":["plain"]}`, "NO_BROWSER_FLOW"},
		"nobody to sign in":   {"https://idp.example.com", `{"issuer":"https://idp.example.com","token_endpoint":"https://idp.example.com/t","jwks_uri":"https://idp.example.com/k"}`, "NO_BROWSER_FLOW"},
		"more than it can be": {"https://idp.example.com", `{"issuer":"https://idp.example.com"}` + strings.Repeat(" ", 2<<20), "ISSUER_DISCOVERY"},
	} {
		t.Run(name, func(t *testing.T) {
			transport := instead{unreachable{t}, "/.well-known/openid-configuration", c.body}
			f := login.Flow{Method: login.Method{Issuer: c.issuer, ClientID: logintest.ClientID}, Client: login.NewClient(transport), Out: io.Discard}
			_, err := f.Browser(t.Context())
			if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != c.reason {
				t.Errorf("got %v, want %s", err, c.reason)
			}
		})
	}
}

func TestCanBrowse(t *testing.T) {
	for name, c := range map[string]struct {
		goos string
		env  map[string]string
		want bool
	}{
		"a desktop":          {"linux", map[string]string{"DISPLAY": ":0"}, true},
		"Wayland":            {"linux", map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, true},
		"a server":           {"linux", nil, false},
		"SSH with a display": {"linux", map[string]string{"DISPLAY": ":10", "SSH_CONNECTION": "x"}, false},
		"SSH to a Mac":       {"darwin", map[string]string{"SSH_TTY": "/dev/ttys000"}, false},
		"a Mac":              {"darwin", nil, true},
		"a named browser":    {"linux", map[string]string{"BROWSER": "w3m", "SSH_CONNECTION": "x"}, true},
	} {
		ok, why := login.CanBrowse(c.goos, func(name string) string { return c.env[name] })
		if ok != c.want || ok != (why == "") {
			t.Errorf("%s: %v %q", name, ok, why)
		}
	}
}
