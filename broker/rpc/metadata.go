package rpc

import (
	"net/http"

	"github.com/daypass-io/daypass/cred"
)

// discovery is the metadata of OpenID Connect Discovery 1.0, section 3, and of RFC 8414, section 2.
func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) error {
	url := s.broker.URL()
	writeJSON(w, http.StatusOK, "application/json", map[string]any{
		"issuer":                                     url,
		"token_endpoint":                             url + "/oauth/token",
		"revocation_endpoint":                        url + "/oauth/revoke",
		"jwks_uri":                                   url + "/jwks.json",
		"grant_types_supported":                      []string{grantTypeExchange},
		"response_types_supported":                   []string{},
		"subject_types_supported":                    []string{"public"},
		"id_token_signing_alg_values_supported":      []string{"ES256", "EdDSA"},
		"token_endpoint_auth_methods_supported":      []string{"none"},
		"revocation_endpoint_auth_methods_supported": []string{"none"},
		"dpop_signing_alg_values_supported":          []string{"ES256", "EdDSA", "RS256"},
		"tls_client_certificate_bound_access_tokens": true,
	})
	return nil
}

// Login is how people sign in with one identity provider.
type Login struct {
	Provider string   `json:"provider"` // its name in the configuration
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`
}

// daypassConfiguration is what our own clients need to know of a broker; nothing in it is secret.
func (s *Server) daypassConfiguration(w http.ResponseWriter, _ *http.Request) error {
	login := s.login
	if login == nil {
		login = []Login{}
	}
	writeJSON(w, http.StatusOK, "application/json", map[string]any{"issuer": s.broker.URL(), "login": login})
	return nil
}

// jwks is the key set that verifies grant tokens (RFC 7517, section 5).
func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, err := w.Write(s.broker.JWKS())
	return sent(err)
}

// alive says that the process answers, whatever its store does.
func alive(w http.ResponseWriter, _ *http.Request) error {
	_, err := w.Write([]byte("ok\n"))
	return sent(err)
}

// ready says whether calls can be served: the store answers and the broker is not stopping.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	if s.running.Err() != nil {
		return &cred.Error{Kind: cred.Unavailable, Op: "ready", Public: "the broker is stopping"}
	}
	if err := s.broker.Ready(r.Context()); err != nil {
		return &cred.Error{Kind: cred.Unavailable, Op: "ready", Public: "the store does not answer", Err: err}
	}
	return alive(w, r)
}
