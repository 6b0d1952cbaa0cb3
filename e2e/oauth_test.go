package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/daypass-io/daypass/cred"
)

// tokenServer is somebody's OAuth server, which trusts the broker as an OIDC issuer: it verifies the
// broker's ID tokens by its discovery document and its keys.
type tokenServer struct {
	c    *cluster
	url  string
	mu   sync.Mutex
	live map[string]map[string]any // the claims of the ID token that each token was made for
}

func newTokenServer(t *testing.T, c *cluster) *tokenServer {
	s := &tokenServer{c: c, live: map[string]map[string]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.exchange)
	mux.HandleFunc("POST /revoke", s.revoke)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *tokenServer) exchange(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	ctx := oidc.ClientContext(r.Context(), s.c.httpClient())
	provider, err := oidc.NewProvider(ctx, s.c.url)
	if err != nil {
		http.Error(w, `{"error":"server_error"}`, http.StatusInternalServerError)
		return
	}
	verifier := provider.VerifierContext(ctx, &oidc.Config{ClientID: "https://login.example.com", SupportedSigningAlgs: []string{oidc.ES256}})
	id, err := verifier.Verify(ctx, r.PostFormValue("subject_token"))
	if err != nil || r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" || r.PostFormValue("scope") != "invoices:read" {
		http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
		return
	}
	claims := map[string]any{}
	_ = id.Claims(&claims)
	token := "at-" + rand.Text()
	s.mu.Lock()
	s.live[token] = claims
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": "invoices:read",
		"issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
	})
}

func (s *tokenServer) revoke(_ http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, r.PostFormValue("token"))
}

func (s *tokenServer) madeFor(token string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[token]
}

// The broker needs no secret at a server that trusts it: it shows an ID token of its own, which names
// the grant, and what comes of it ends with the grant.
func TestOAuthTokenExchange(t *testing.T) {
	c := newCluster(t)
	s := newTokenServer(t, c)
	c.configure(fmt.Sprintf(`
issuers:
  - name: billing
    oauth: { token_url: "%s/token", revocation_url: "%s/revoke", allow_plain: true, grant: token_exchange, client: { id: daypass }, audience: "https://login.example.com" }
targets:
  - { name: billing-api, credential: { issuer: billing, params: { scope: "invoices:read invoices:write" } } }
rules:
  - { name: jobs, who: principal.provider == "ci", may: [{ target: billing-api, scopes: ["invoices:read"] }], ttl: 5m }
`, s.url, s.url))
	c.startBroker()
	g, err := c.as(c.job()).Exchange(t.Context(), cred.Request{Target: "billing-api", Scopes: []string{"invoices:read"}})
	if err != nil {
		t.Fatal(err)
	}
	token := g.Credential.Fields["token"].RevealString()
	claims := s.madeFor(token)
	if claims["sub"] != "daypass-broker" || claims["iss"] != c.url || claims["grant"] != g.Grant.GetId() {
		t.Errorf("the token was made for %v", claims)
	}
	if _, err := c.as(c.job()).Exchange(t.Context(), cred.Request{Target: "billing-api", Scopes: []string{"invoices:write"}}); cred.KindOf(err) != cred.Denied {
		t.Errorf("a scope that the rule does not allow: %v", err)
	}
	if _, err := c.as(c.job()).Revoke(t.Context(), cred.GrantID(g.Grant.GetId()), "done"); err != nil {
		t.Fatal(err)
	}
	if s.madeFor(token) != nil {
		t.Error("the token outlives its grant")
	}
}
