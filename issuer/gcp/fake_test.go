package gcp_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

const (
	provider  = "projects/123456789012/locations/global/workloadIdentityPools/brokers/providers/daypass"
	account   = "deploy-prod@example.iam.gserviceaccount.com"
	deleted   = "gone@example.iam.gserviceaccount.com"
	forbidden = "other@example.iam.gserviceaccount.com"

	accessToken = "urn:ietf:params:oauth:token-type:access_token"
)

// minted is a token that the fake made.
type minted struct {
	kind  string // "federated", "account" or "bounded"
	end   time.Time
	scope string
}

// cloud is Google's Security Token Service and its Service Account Credentials API, as far as they
// matter here.
type cloud struct {
	*httptest.Server

	mu        sync.Mutex // owns what follows
	made      map[string]minted
	skew      time.Duration                                 // how far Google's clock is ahead
	extended  bool                                          // the organization policy permits 12 h
	condition func(claims map[string]any) bool              // of the provider; nil: everybody
	edit      func(path string, b map[string]any)           // changes an answer before it is sent
	answer    func(w http.ResponseWriter, path string) bool // answers in the fake's stead if it says so
	forms     []url.Values                                  // what the Security Token Service got
	bodies    []map[string]any                              // what the credentials API got
	subjects  []map[string]any                              // claims of the ID tokens
}

func newCloud(t testing.TB) *cloud {
	c := &cloud{made: map[string]minted{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/token", c.token)
	mux.HandleFunc("POST /v1/projects/-/serviceAccounts/", c.generate)
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

// token is TopLevel/token: an external ID token is exchanged, or an access token narrowed.
func (c *cloud) token(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = r.ParseForm()
	c.forms = append(c.forms, r.PostForm)
	switch {
	case c.answer != nil && c.answer(w, "token"):
	case r.Header.Get("Authorization") != "":
		refuse(w, "invalid_request", "the Authorization header must not be sent")
	case r.PostForm.Get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" || r.PostForm.Get("requested_token_type") != accessToken:
		refuse(w, "unsupported_grant_type", "no such grant")
	case r.PostForm.Get("subject_token_type") == accessToken:
		c.narrow(w, r.PostForm)
	default:
		c.federate(w, r.PostForm)
	}
}

func (c *cloud) federate(w http.ResponseWriter, form url.Values) {
	claims := claimsOf(form.Get("subject_token"))
	c.subjects = append(c.subjects, claims)
	left := time.Until(time.Unix(int64(number(claims["exp"])), 0)).Round(time.Second)
	aud := fmt.Sprint(claims["aud"])
	switch {
	case form.Get("audience") != "//iam.googleapis.com/"+provider:
		refuse(w, "invalid_target", "the provider is disabled or deleted or does not exist")
	case form.Get("scope") == "":
		refuse(w, "invalid_scope", "no scope")
	case aud != "https://iam.googleapis.com/"+provider && aud != "//iam.googleapis.com/"+provider:
		refuse(w, "invalid_grant", "The audience in ID Token ["+aud+"] does not match the expected audience.")
	case left <= 0:
		refuse(w, "invalid_grant", "ID Token has expired.")
	case c.condition != nil && !c.condition(claims):
		refuse(w, "unauthorized_client", "The given credential is rejected by the attribute condition.")
	default: // the trap: a federated token ends with the ID token
		c.give(w, "federated", min(left, time.Hour), form.Get("scope"))
	}
}

func (c *cloud) narrow(w http.ResponseWriter, form url.Values) {
	var options struct {
		AccessBoundary struct {
			AccessBoundaryRules []struct {
				AvailableResource    string
				AvailablePermissions []string
			}
		}
	}
	from, known := c.made[form.Get("subject_token")]
	err := json.Unmarshal([]byte(form.Get("options")), &options)
	if !known || err != nil || len(options.AccessBoundary.AccessBoundaryRules) == 0 {
		refuse(w, "invalid_request", "no such token, or no boundary")
		return
	}
	c.give(w, "bounded", time.Until(from.end).Round(time.Second), from.scope)
}

func (c *cloud) give(w http.ResponseWriter, kind string, life time.Duration, scope string) {
	token := "ya29." + rand.Text()
	c.made[token] = minted{kind, time.Now().Add(life), scope}
	body := map[string]any{"access_token": token, "issued_token_type": accessToken, "token_type": "Bearer", "expires_in": int(life.Seconds())}
	if c.edit != nil {
		c.edit(kind, body)
	}
	reply(w, 200, body)
}

// generate is generateAccessToken.
func (c *cloud) generate(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Date", time.Now().Add(c.skew).UTC().Format(http.TimeFormat))
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body)
	c.bodies = append(c.bodies, body)
	if c.answer != nil && c.answer(w, "generate") {
		return
	}
	name, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v1/projects/-/serviceAccounts/"), ":generateAccessToken")
	from := c.made[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	life, err := time.ParseDuration(fmt.Sprint(body["lifetime"]))
	most := time.Hour
	if c.extended {
		most = 12 * time.Hour
	}
	switch {
	case !ok || err != nil || body["scope"] == nil:
		apiError(w, 400, "INVALID_ARGUMENT", "bad request")
	case from.kind != "federated" || from.scope != "https://www.googleapis.com/auth/cloud-platform" || time.Now().After(from.end):
		apiError(w, 401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
	case name == deleted:
		apiError(w, 404, "NOT_FOUND", "Not found; Gaia id not found for email "+name)
	case name != account:
		apiError(w, 403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).")
	case life > most:
		apiError(w, 400, "INVALID_ARGUMENT", "The lifetime is longer than constraints/iam.allowServiceAccountCredentialLifetimeExtension permits")
	default:
		token := "ya29.c." + rand.Text()
		c.made[token] = minted{"account", time.Now().Add(life), ""}
		answer := map[string]any{"accessToken": token, "expireTime": time.Now().Add(c.skew + life).UTC().Format(time.RFC3339)}
		if c.edit != nil {
			c.edit("account", answer)
		}
		reply(w, 200, answer)
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, code, why string) {
	reply(w, 400, map[string]string{"error": code, "error_description": why})
}

func apiError(w http.ResponseWriter, status int, name, why string) {
	reply(w, status, map[string]any{"error": map[string]any{"code": status, "message": why, "status": name}})
}

// idToken signs nothing: the fake reads the claims alone.
func idToken(_ context.Context, audience string, life time.Duration, extra map[string]any) (cred.Secret, error) {
	claims := map[string]any{"iss": "https://daypass.example.com", "sub": "daypass-broker", "aud": audience, "exp": time.Now().Add(life).Unix()}
	for name, value := range extra {
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	return cred.SecretString("header." + base64.RawURLEncoding.EncodeToString(payload) + ".signature"), err
}

func claimsOf(token string) map[string]any {
	var claims map[string]any
	parts := strings.Split(token, ".")
	if len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims)
	}
	return claims
}

func number(v any) float64 {
	n, _ := v.(float64)
	return n
}

func (c *cloud) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

func (c *cloud) works(_ context.Context, got cred.Credential) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, known := c.made[got.Fields["token"].RevealString()]
	if !known || !time.Now().Before(m.end) {
		return errors.New("401")
	}
	return nil
}

// alive counts the tokens of one kind.
func (c *cloud) alive(kind string) func(context.Context) (int, error) {
	return func(context.Context) (n int, _ error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, m := range c.made {
			if m.kind == kind && time.Now().Before(m.end) {
				n++
			}
		}
		return n, nil
	}
}

// calls counts what came to either service.
func (c *cloud) calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.forms) + len(c.bodies)
}
