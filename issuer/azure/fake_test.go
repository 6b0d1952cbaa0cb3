package azure_test

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
	tenant   = "contoso.example.com"
	client   = "00001111-aaaa-2222-bbbb-3333cccc4444"
	stranger = "99991111-aaaa-2222-bbbb-3333cccc4444"

	brokerURL = "https://daypass.example.com"
	subject   = "daypass-broker"
	public    = "api://AzureADTokenExchange"
	manage    = "https://management.azure.com/.default"
)

// federated is a federated credential. Entra compares each part to the letter.
type federated struct{ issuer, subject, audience string }

// directory is the token endpoint of one Entra tenant with one application.
type directory struct {
	*httptest.Server

	mu     sync.Mutex // owns what follows
	trusts []federated
	live   map[string]time.Time           // tokens and their ends
	edit   func(map[string]any)           // changes an answer before it is sent
	answer func(http.ResponseWriter) bool // answers in the fake's stead if it says so
	forms  []url.Values
	ids    []string         // client-request-id
	claims []map[string]any // of the assertions
}

func newDirectory(t testing.TB) *directory {
	d := &directory{live: map[string]time.Time{}, trusts: []federated{{"https://other.example.com", subject, public}, {brokerURL, subject, public}}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", d.token)
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

func (d *directory) token(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = r.ParseForm()
	form, claims := r.PostForm, claimsOf(r.PostForm.Get("client_assertion"))
	d.forms, d.ids, d.claims = append(d.forms, form), append(d.ids, r.Header.Get("client-request-id")), append(d.claims, claims)
	now, exp := float64(time.Now().Unix()), number(claims["exp"])
	mismatch, why := d.compare(claims)
	switch {
	case d.answer != nil && d.answer(w):
	case r.PathValue("tenant") != tenant:
		refuse(w, 400, "invalid_request", 90002, "Tenant '"+r.PathValue("tenant")+"' not found.")
	case form.Get("grant_type") != "client_credentials" || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
		refuse(w, 400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
	case form.Get("client_id") != client:
		refuse(w, 400, "unauthorized_client", 700016, "Application with identifier '"+form.Get("client_id")+"' was not found in the directory.")
	case claims == nil:
		refuse(w, 401, "invalid_client", 700027, "The certificate with identifier used to sign the client assertion is not registered.")
	case now >= exp || now < number(claims["nbf"]):
		refuse(w, 401, "invalid_client", 700024, "Client assertion is not within its valid time range.")
	case mismatch != 0:
		refuse(w, 401, "invalid_client", mismatch, why)
	case !strings.HasSuffix(form.Get("scope"), "/.default") || strings.Contains(form.Get("scope"), " "):
		refuse(w, 400, "invalid_scope", 1002012, "The provided value for scope is not valid.")
	case !strings.Contains(form.Get("scope"), ".azure."):
		refuse(w, 400, "invalid_resource", 500011, "The resource principal was not found in the tenant.")
	default:
		d.give(w)
	}
}

// compare says what is wrong with an assertion by the number that Entra has for it.
func (d *directory) compare(claims map[string]any) (number int, why string) {
	iss, sub, aud := fmt.Sprint(claims["iss"]), fmt.Sprint(claims["sub"]), fmt.Sprint(claims["aud"])
	number = 700211
	for _, f := range d.trusts {
		switch {
		case f == federated{iss, sub, aud}:
			return 0, ""
		case f.issuer != iss:
		case strings.EqualFold(f.subject, sub) && f.subject != sub:
			number = 7002138
		case f.subject != sub:
			number = 700213
		default:
			number = 700212
		}
	}
	return number, fmt.Sprintf("No matching federated identity record found for presented assertion %s %s %s.", iss, sub, aud)
}

func (d *directory) give(w http.ResponseWriter) {
	token := "eyJ0." + rand.Text()
	d.live[token] = time.Now().Add(65 * time.Minute)
	body := map[string]any{"token_type": "Bearer", "expires_in": 3899, "ext_expires_in": 86399, "access_token": token}
	if d.edit != nil {
		d.edit(body)
	}
	reply(w, 200, body)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, code string, number int, why string) {
	reply(w, status, map[string]any{
		"error": code, "error_codes": []int{number},
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: 0 Correlation ID: 0 Timestamp: 2026-11-22 00:00:00Z", number, why),
		"timestamp":         "2026-11-22 00:00:00Z", "trace_id": "0", "correlation_id": "0",
	})
}

// signs makes assertions with other claims; it signs nothing, since the fake reads the claims alone.
func signs(edit map[string]any) func(context.Context, string, time.Duration, map[string]any) (cred.Secret, error) {
	return func(_ context.Context, audience string, life time.Duration, extra map[string]any) (cred.Secret, error) {
		now := time.Now()
		claims := map[string]any{"iss": brokerURL, "sub": subject, "aud": audience, "nbf": now.Unix(), "exp": now.Add(life).Unix()}
		for _, more := range []map[string]any{extra, edit} {
			for name, value := range more {
				claims[name] = value
			}
		}
		payload, err := json.Marshal(claims)
		return cred.SecretString("header." + base64.RawURLEncoding.EncodeToString(payload) + ".signature"), err
	}
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

func (d *directory) works(_ context.Context, got cred.Credential) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.live[got.Fields["token"].RevealString()]; !known {
		return errors.New("401")
	}
	return nil
}

func (d *directory) alive(context.Context) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.live), nil
}

func (d *directory) calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.forms)
}
