package rpc_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// answered is an HTTP answer that was read to its end.
type answered struct {
	status int
	header http.Header
	body   string
}

func do(t testing.TB, c *http.Client, r *http.Request) answered {
	t.Helper()
	resp, err := c.Do(r)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	for name, values := range resp.Trailer { // where gRPC has its status
		resp.Header[name] = values
	}
	return answered{resp.StatusCode, resp.Header, string(body)}
}

func request(t testing.TB, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	return r
}

func get(t testing.TB, w *world, path string) answered {
	t.Helper()
	return do(t, w.web(false), request(t, http.MethodGet, w.url+path, ""))
}

func postForm(t testing.TB, w *world, c *http.Client, path string, form url.Values) answered {
	t.Helper()
	r := request(t, http.MethodPost, w.url+path, form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return do(t, c, r)
}

// tokenForm is a good token exchange.
func tokenForm(subject, target string) url.Values {
	return url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {target},
		"subject_token": {subject}, "subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
	}
}

type problem struct {
	Type, Title, Detail string
	Status              int
}

func wantProblem(t *testing.T, what string, r answered, status int) {
	t.Helper()
	var p problem
	if r.status != status || r.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s: %d %v %s", what, r.status, r.header, r.body)
	}
	decode(t, strings.NewReader(r.body), &p)
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" || p.Type != "about:blank" {
		t.Errorf("%s: %+v", what, p)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for _, two := range []bool{false, true} {
			for _, path := range []string{"/", "/oauth", "/oauth/token/", "/debug/pprof/", "/daypass.v1.ExchangeService/Exchange", "/OAUTH/TOKEN"} {
				wantProblem(t, path, do(t, w.web(two), request(t, http.MethodPost, w.url+path, "")), http.StatusNotFound)
			}
			for path, allow := range map[string]string{
				"/oauth/token": "POST", "/oauth/revoke": "POST", "/jwks.json": "GET", "/metrics": "GET", "/healthz": "GET", "/readyz": "GET",
				"/.well-known/openid-configuration": "GET", "/.well-known/oauth-authorization-server": "GET",
			} {
				wrong := map[string]string{"POST": http.MethodGet, "GET": http.MethodPost}[allow]
				r := do(t, w.web(two), request(t, wrong, w.url+path, ""))
				wantProblem(t, path, r, http.StatusMethodNotAllowed)
				if r.header.Get("Allow") != allow {
					t.Errorf("%s allows %q", path, r.header.Get("Allow"))
				}
			}
		}
	})
}

// A content type that gRPC or a browser might read in its own way opens no other way in.
func TestContentTypesOpenNoOtherDoor(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	message := "\x00\x00\x00\x00\x00"
	for _, two := range []bool{false, true} {
		for _, contentType := range []string{
			"application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text", "text/plain", "application/json",
			"Application/gRPC", " application/grpc", "application/grpcx", "application/x-www-form-urlencoded", "",
		} {
			r := request(t, http.MethodPost, w.url+"/daypass.v1.ExchangeService/WhoAmI", message)
			r.Header["Content-Type"] = []string{contentType}
			r.Header.Set("Te", "trailers")
			got := do(t, w.web(two), r)
			if got.status == http.StatusOK && got.header.Get("Grpc-Status") != "16" {
				t.Errorf("HTTP/2 %v %q: %d %v %q", two, contentType, got.status, got.header, got.body)
			}
		}
	}
	// gRPC itself, in JSON, does pass through every interceptor.
	r := request(t, http.MethodPost, w.url+"/daypass.v1.ExchangeService/WhoAmI", message)
	r.Header.Set("Content-Type", "application/grpc+json")
	r.Header.Set("Te", "trailers")
	if got := do(t, w.web(true), r); got.header.Get("Grpc-Status") != "16" {
		t.Errorf("gRPC: %d %v", got.status, got.header)
	}
	if n := len(w.events("identity.refused")); n != 1 {
		t.Errorf("%d refusals are recorded, want 1", n)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	for _, path := range []string{"/healthz", "/readyz"} {
		if r := get(t, w, path); r.status != http.StatusOK || r.body != "ok\n" {
			t.Errorf("%s: %d %q", path, r.status, r.body)
		}
	}
	must(t, w.raw.Close())
	wantProblem(t, "/readyz without a store", get(t, w, "/readyz"), http.StatusServiceUnavailable)
	if r := get(t, w, "/healthz"); r.status != http.StatusOK {
		t.Errorf("/healthz without a store: %d", r.status)
	}
}
