package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
)

// hub answers as GitHub's API does to an app; issuer/github has a stricter one for its own tests.
type hub struct {
	key  *rsa.PublicKey
	url  string
	mu   sync.Mutex
	live map[string][]string // repositories by token
}

func newHub(t *testing.T, key *rsa.PublicKey) *hub {
	h := &hub{key: key, live: map[string][]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /app", h.asApp(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"slug":"example"}`) }))
	mux.HandleFunc("GET /orgs/octo-org/installation", h.asApp(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":7,"account":{"login":"octo-org","id":99},"target_type":"Organization"}`)
	}))
	mux.HandleFunc("POST /app/installations/7/access_tokens", h.asApp(h.mint))
	mux.HandleFunc("DELETE /installation/token", h.revoke)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// asApp wants a JWT of the app.
func (h *hub) asApp(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, err := jwt.Parse(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), func(*jwt.Token) (any, error) { return h.key, nil },
			jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer("Iv23example"), jwt.WithExpirationRequired())
		if err != nil {
			http.Error(w, `{"message":"Bad credentials"}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		next(w, r)
	}
}

func (h *hub) mint(w http.ResponseWriter, r *http.Request) {
	var want struct {
		Repositories []string          `json:"repositories"`
		Permissions  map[string]string `json:"permissions"`
	}
	if json.NewDecoder(r.Body).Decode(&want) != nil || len(want.Repositories) == 0 {
		http.Error(w, `{"message":"not what a test sends"}`, http.StatusUnprocessableEntity)
		return
	}
	token := "ghs" + "_" + rand.Text() + strings.Repeat("x", 490)
	h.mu.Lock()
	h.live[token] = want.Repositories
	h.mu.Unlock()
	var repositories []map[string]any
	for i, name := range want.Repositories {
		repositories = append(repositories, map[string]any{"id": i + 1, "name": name, "full_name": "octo-org/" + name})
	}
	want.Permissions["metadata"] = "read"
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": token, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "permissions": want.Permissions,
		"repository_selection": "selected", "repositories": repositories,
	})
}

func (h *hub) revoke(w http.ResponseWriter, r *http.Request) {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.live[token]; !ok {
		http.Error(w, `{"message":"Bad credentials"}`, http.StatusUnauthorized)
		return
	}
	delete(h.live, token)
	w.WriteHeader(http.StatusNoContent)
}

// reaches returns the repositories that a token is good for; nil once it is revoked.
func (h *hub) reaches(token string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live[token]
}

// A job gets a token for the one repository that it names, within what its rule allows, and it ends
// with the grant.
func TestGitHubAppToken(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c, github := newCluster(t), newHub(t, &key.PublicKey)
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(c.path("app.pem"), pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	c.configure(fmt.Sprintf(`
issuers:
  - { name: github, github_app: { app: Iv23example, url: "%s", allow_plain: true, private_key: { file: app.pem } } }
targets:
  - name: services
    credential: { issuer: github, params: { owner: octo-org, repositories: "api,web,svc-*", permissions: "contents:write" } }
rules:
  - name: jobs
    who: principal.provider == "ci"
    may: [{ target: services, params: { repositories: { any_of: [api, "svc-*"], required: true }, permissions: { one_of: ["contents:read"], default: "contents:read" } } }]
    ttl: 10m
`, github.url))
	c.startBroker()
	ask := func(repositories string) (sdk.Granted, error) {
		return c.as(c.job()).Exchange(t.Context(), cred.Request{Target: "services", Params: map[string]string{"repositories": repositories}})
	}
	g, err := ask("svc-orders")
	if err != nil {
		t.Fatal(err)
	}
	token := g.Credential.Fields["token"].RevealString()
	if got := github.reaches(token); !slices.Equal(got, []string{"svc-orders"}) {
		t.Errorf("the token is for %q", got)
	}
	for _, repositories := range []string{"web", "svc-orders,web", "", "api,"} {
		if _, err := ask(repositories); cred.KindOf(err) != cred.Denied && cred.KindOf(err) != cred.Invalid {
			t.Errorf("asked for %q: %v", repositories, err)
		}
	}
	id := cred.GrantID(g.Grant.GetId())
	if _, err := c.as(c.job()).Revoke(t.Context(), id, "done"); err != nil {
		t.Fatal(err)
	}
	if got := github.reaches(token); got != nil {
		t.Error("the token outlives its grant")
	}
	if kinds := kindsOf(c.export(), id); !slices.Contains(kinds, audit.LeaseRevoked) {
		t.Errorf("the history is %v", kinds)
	}
}
