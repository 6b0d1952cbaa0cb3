package e2e_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
)

// A GitHub App's key, and that of a client of an OAuth server, stay in Vault, which signs with them. What
// the broker may not sign with, it says at its start.
func TestKeysStayInVault(t *testing.T) {
	c, vault := newCluster(t), peers.Vault(t)
	vault.Mount(t, "transit", "transit", nil)
	vault.Policy(t, "signer", vaultPolicy+`
path "transit/sign/github-app/sha2-256" { capabilities = ["update"] }
`)
	github := newHub(t, transitKey(t, vault, "github-app"))
	client := transitKey(t, vault, "oauth")
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asClient(w, r, client) }))
	t.Cleanup(login.Close)
	c.write("vault-token", vault.Token(t, []string{"signer"}, peers.Data{"period": "1h"}))
	c.configure(fmt.Sprintf(`
issuers:
  - { name: github, github_app: { app: Iv23example, url: "%s", allow_plain: true, private_key: { vault_transit: { issuer: keys, key: github-app } } } }
  - name: billing
    oauth:
      token_url: "%s"
      allow_plain: true
      grant: client_credentials
      client: { id: daypass, audience: "https://login.example.com", method: private_key_jwt, vault_transit: { issuer: keys, key: oauth } }
  - { name: keys, vault: { address: "%s", auth: { token_file: vault-token } } }
targets:
  - { name: services, credential: { issuer: github, params: { owner: octo-org, repositories: api, permissions: "contents:read" } } }
  - { name: billing-api, credential: { issuer: billing, params: { scope: "invoices:read" } } }
rules:
  - { name: jobs, who: principal.provider == "ci", may: [{ target: services }, { target: billing-api, scopes: ["invoices:read"] }], ttl: 5m }
`, github.url, login.URL, vault.URL))
	c.startBroker()
	g, err := c.as(c.job()).Exchange(t.Context(), cred.Request{Target: "services"})
	if err != nil {
		t.Fatal(err)
	}
	if got := github.reaches(g.Credential.Fields["token"].RevealString()); !slices.Equal(got, []string{"api"}) {
		t.Errorf("the token is for %q", got)
	}
	invoices := cred.Request{Target: "billing-api", Scopes: []string{"invoices:read"}}
	if _, err := c.as(c.job()).Exchange(t.Context(), invoices); err == nil {
		t.Error("the broker signed with a key that its policy does not name")
	}
	eventually(t, "the missing right is told", func() error {
		if !strings.Contains(c.broker.log.String(), "transit/sign/oauth/sha2-256") {
			return fmt.Errorf("the log is %s", c.broker.log.String())
		}
		return nil
	})
	vault.Policy(t, "signer", vaultPolicy+`
path "transit/sign/+/sha2-256" { capabilities = ["update"] }
`)
	g, err = c.as(c.job()).Exchange(t.Context(), invoices)
	if err != nil || g.Credential.Fields["token"].RevealString() != "example-access" {
		t.Errorf("minted %v, %v", g.Credential, err)
	}
}

// transitKey makes an RSA key that does not leave Vault, and returns its public half.
func transitKey(t *testing.T, vault *peers.VaultServer, name string) *rsa.PublicKey {
	t.Helper()
	vault.Write(t, "transit/keys/"+name, peers.Data{"type": "rsa-2048"})
	s, err := vault.Client.Logical().ReadWithContext(t.Context(), "transit/keys/"+name)
	if err != nil {
		t.Fatal(err)
	}
	text := s.Data["keys"].(map[string]any)["1"].(map[string]any)["public_key"].(string)
	block, _ := pem.Decode([]byte(text))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

// asClient is an OAuth server's token endpoint for one client, which authenticates by RFC 7523.
func asClient(w http.ResponseWriter, r *http.Request, key *rsa.PublicKey) {
	_, err := jwt.Parse(r.PostFormValue("client_assertion"), func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer("daypass"), jwt.WithSubject("daypass"),
		jwt.WithAudience("https://login.example.com"), jwt.WithExpirationRequired())
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client"}`)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "example-access", "token_type": "Bearer", "expires_in": 300, "scope": "invoices:read"})
}
