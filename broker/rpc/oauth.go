package rpc

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
)

// Names of RFC 8693, sections 2.1 and 3.
const (
	grantTypeExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypeJWT      = "urn:ietf:params:oauth:token-type:jwt"
	tokenTypeID       = "urn:ietf:params:oauth:token-type:id_token"
	tokenTypeAccess   = "urn:ietf:params:oauth:token-type:access_token"
)

// maxFormBytes bounds the body of a token request.
const maxFormBytes = 64 << 10

// endpoints are the HTTP door: the same broker calls as the gRPC one, in OAuth's words.
func (s *Server) endpoints(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/token", s.token)
	mux.HandleFunc("POST /oauth/revoke", s.revoke)
	mux.HandleFunc("GET /.well-known/openid-configuration", s.discovery)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.discovery)
	mux.HandleFunc("GET /jwks.json", s.jwks)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, &cred.Error{Kind: cred.NotFound, Op: "http", Public: "there is nothing at this path; gRPC is served over HTTP/2 on this port"})
	})
	return mux
}

// tokenResponse is RFC 8693, section 2.2.1, with what daypass adds.
type tokenResponse struct {
	AccessToken     string           `json:"access_token"`
	IssuedTokenType string           `json:"issued_token_type"`
	TokenType       string           `json:"token_type"`
	ExpiresIn       int64            `json:"expires_in"` // seconds
	Scope           string           `json:"scope,omitempty"`
	GrantID         string           `json:"grant_id"`
	Credential      *tokenCredential `json:"credential,omitempty"` // for a target that is delivered directly
}

type tokenCredential struct {
	Type      string            `json:"type"`
	Fields    map[string]string `json:"fields"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
}

// token is the token exchange of RFC 8693: subject_token is the caller's ID token, audience the
// target's name.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	ctx := broker.WithPeer(r.Context(), hostOf(r.RemoteAddr))
	want, subject, err := readTokenRequest(r)
	if err != nil {
		writeOAuthError(w, err)
		return
	}
	leave, err := s.enter()
	if err != nil {
		writeOAuthError(w, err)
		return
	}
	defer leave()
	who, err := s.broker.Authenticate(ctx, subject)
	if err != nil {
		writeOAuthError(w, err)
		return
	}
	ex, err := exchange(ctx, s.broker, who, want)
	if err != nil {
		writeOAuthError(w, err)
		return
	}
	out := tokenResponse{
		AccessToken: ex.token.RevealString(), IssuedTokenType: tokenTypeAccess, TokenType: "Bearer",
		ExpiresIn: int64(time.Until(ex.grant.NotAfter).Seconds()),
		Scope:     strings.Join(ex.grant.Want.Scopes, " "), GrantID: string(ex.grant.ID),
	}
	if ex.redeemed != nil {
		c := credentialTo(*ex.redeemed)
		out.Credential = &tokenCredential{Type: c.GetType(), Fields: c.GetFields(), ExpiresAt: ex.redeemed.Credential.NotAfter}
	}
	writeJSON(w, http.StatusOK, "application/json", out)
}

// readTokenRequest reads the form of RFC 8693, section 2.1. A parameter that is given twice, or one
// that asks for what we don't do, is refused.
func readTokenRequest(r *http.Request) (want cred.Request, subject string, err error) {
	if err := r.ParseForm(); err != nil {
		return want, "", invalidRequest("the body is not a form, or larger than 64 KiB")
	}
	f := r.PostForm
	for name, values := range f {
		if len(values) != 1 {
			return want, "", invalidRequest("the parameter " + name + " is given more than once")
		}
	}
	switch {
	case f.Get("grant_type") != grantTypeExchange:
		return want, "", &cred.Error{Kind: cred.Invalid, Op: "token", Reason: "unsupported_grant_type", Public: "grant_type must be " + grantTypeExchange}
	case f.Get("subject_token") == "" || f.Get("audience") == "":
		return want, "", invalidRequest("subject_token (your ID token) and audience (the target's name) are needed")
	case f.Get("subject_token_type") != tokenTypeJWT && f.Get("subject_token_type") != tokenTypeID:
		return want, "", invalidRequest("subject_token_type must be that of an ID token or a JWT")
	case f.Has("actor_token"), f.Has("resource"):
		return want, "", invalidRequest("actor_token and resource are not supported")
	}
	if t := f.Get("requested_token_type"); t != "" && t != tokenTypeAccess {
		return want, "", invalidRequest("requested_token_type can only be " + tokenTypeAccess)
	}
	return cred.Request{
		Target: f.Get("audience"), Scopes: strings.Fields(f.Get("scope")),
		Reason: f.Get("reason"), IdempotencyKey: r.Header.Get("Idempotency-Key"),
	}, f.Get("subject_token"), nil
}

func invalidRequest(public string) error {
	return &cred.Error{Kind: cred.Invalid, Op: "token", Reason: "invalid_request", Public: public}
}

// oauthError is RFC 6749, section 5.2.
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Rule        string `json:"rule,omitempty"`
	Claim       string `json:"claim,omitempty"`
}

// writeOAuthError says an error in OAuth's words: a bad subject token is invalid_request (RFC 8693,
// section 2.2.2), a target that is refused invalid_target.
func writeOAuthError(w http.ResponseWriter, err error) {
	kind := cred.KindOf(err)
	out := oauthError{Error: "server_error", Description: cred.PublicText(err)}
	e, ours := errors.AsType[*cred.Error](err)
	switch {
	case ours && kind == cred.Invalid && e.Reason == strings.ToLower(e.Reason) && e.Reason != "":
		out.Error = e.Reason
	case kind == cred.Invalid, kind == cred.Unauthenticated, kind == cred.Conflict, kind == cred.Expired:
		out.Error = "invalid_request"
	case kind == cred.Denied, kind == cred.NotFound:
		out.Error = "invalid_target"
	case kind == cred.Unavailable, kind == cred.Exhausted:
		out.Error = "temporarily_unavailable"
	}
	if ours && kind != cred.Internal {
		out.Rule, out.Claim = e.Rule, e.Claim
	}
	code := http.StatusBadRequest
	if kind == cred.Unavailable || kind == cred.Exhausted || kind == cred.Internal {
		code = httpStatusOf[kind]
	}
	writeJSON(w, code, "application/json", out)
}

// revoke is RFC 7009: the grant token that is sent authenticates its own revocation, and a token that
// we don't know is no error.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	ctx := broker.WithPeer(r.Context(), hostOf(r.RemoteAddr))
	if err := r.ParseForm(); err != nil || len(r.PostForm["token"]) != 1 {
		writeOAuthError(w, invalidRequest("send one parameter 'token' with the grant token"))
		return
	}
	who, id, err := s.broker.AuthenticateGrant(ctx, r.PostForm.Get("token"))
	if err == nil {
		_, _, err = s.broker.Revoke(ctx, who, id, "revoked with its token")
	}
	if k := cred.KindOf(err); err != nil && (k == cred.Unavailable || k == cred.Internal) {
		w.Header().Set("Retry-After", "1")
		writeOAuthError(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

// discovery is the metadata of OpenID Connect Discovery 1.0, section 3, and of RFC 8414, section 2.
func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) {
	url := s.broker.URL()
	writeJSON(w, http.StatusOK, "application/json", map[string]any{
		"issuer":                                url,
		"token_endpoint":                        url + "/oauth/token",
		"revocation_endpoint":                   url + "/oauth/revoke",
		"jwks_uri":                              url + "/jwks.json",
		"grant_types_supported":                 []string{grantTypeExchange},
		"response_types_supported":              []string{},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256", "EdDSA"},
		"token_endpoint_auth_methods_supported": []string{"none"},
	})
}

func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(s.broker.JWKS())
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.broker.Ready(r.Context()); err != nil {
		writeProblem(w, &cred.Error{Kind: cred.Unavailable, Op: "ready", Public: "the store does not answer", Err: err})
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
