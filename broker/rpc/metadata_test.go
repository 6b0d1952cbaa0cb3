package rpc_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/internal/jwks"
)

func TestDiscovery(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.web(false)
		p, err := oidc.NewProvider(oidc.ClientContext(t.Context(), c), w.url)
		must(t, err)
		if p.Endpoint().TokenURL != w.url+"/oauth/token" {
			t.Errorf("token endpoint %q", p.Endpoint().TokenURL)
		}
		for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
			var doc map[string]any
			must(t, json.Unmarshal([]byte(get(t, w, path).body), &doc))
			if doc["issuer"] != w.url {
				t.Errorf("%s: issuer %v", path, doc["issuer"])
			}
			for _, member := range []string{"jwks_uri", "token_endpoint", "revocation_endpoint"} {
				u, err := url.Parse(doc[member].(string))
				must(t, err)
				method := map[bool]string{true: http.MethodGet, false: http.MethodPost}[member == "jwks_uri"]
				if r := do(t, c, request(t, method, u.String(), "")); r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed {
					t.Errorf("%s: %s is %d", path, member, r.status)
				}
			}
		}
	})
}

// The key set that we publish verifies the tokens that we sign.
func TestJWKSVerifiesAGrantToken(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	got, err := w.member().Exchange(t.Context(), cred.Request{Target: "api"})
	must(t, err)
	keys := jwks.New(w.url+"/jwks.json", jwks.Options{Client: w.web(false)})
	claims, err := token.NewVerifier(w.url, keys, time.Now).Verify(t.Context(), got.Token.RevealString(), token.Audience("api"))
	must(t, err)
	if string(claims.Grant.ID) != got.Grant.GetId() || claims.Subject != "ann" || claims.Grant.Target != "api" {
		t.Errorf("claims %+v", claims)
	}
	r := get(t, w, "/jwks.json")
	if r.header.Get("Content-Type") != "application/jwk-set+json" || !strings.Contains(r.header.Get("Cache-Control"), "max-age") || strings.Contains(r.body, `"d"`) {
		t.Errorf("%v %s", r.header, r.body)
	}
}

// Metrics tell how the broker fares, not who uses it for what.
func TestMetricsNameNobody(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	_, err := w.member().Exchange(t.Context(), cred.Request{Target: "orders"})
	must(t, err)
	_, err = w.as(w.token("eve")).Exchange(t.Context(), cred.Request{Target: "hidden"})
	wantError(t, err, cred.NotFound, "TARGET_UNKNOWN")
	get(t, w, "/some/path/of/eve")
	body := get(t, w, "/metrics").body
	for _, name := range []string{"ann", "eve", "orders", "hidden", "team", "127.0.0.1", "some"} {
		if strings.Contains(body, name) {
			t.Errorf("metrics name %q", name)
		}
	}
	for _, line := range []string{
		`daypass_grpc_calls_total{code="OK",method="/daypass.v1.ExchangeService/Exchange"} 1`,
		`daypass_grpc_calls_total{code="NotFound",method="/daypass.v1.ExchangeService/Exchange"} 1`,
		`daypass_http_requests_total{endpoint="none",status="404"} 1`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("metrics lack %s in\n%s", line, body)
		}
	}
}
