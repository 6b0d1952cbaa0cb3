package rpc_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

type tokenAnswer struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type"`
	TokenType       string `json:"token_type"`
	ExpiresIn       int64  `json:"expires_in"`
	Scope           string `json:"scope"`
	GrantID         string `json:"grant_id"`
	Credential      *struct {
		Type      string            `json:"type"`
		Fields    map[string]string `json:"fields"`
		ExpiresAt time.Time         `json:"expires_at"`
	} `json:"credential"`
}

type refusal struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Rule        string `json:"rule"`
	Claim       string `json:"claim"`
	RequestID   string `json:"request_id"`
	Interval    int    `json:"interval"`
}

func TestTokenExchange(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for _, two := range []bool{false, true} {
			c := w.web(two)
			form := tokenForm(w.token("ann", "team"), "orders")
			form.Set("scope", "read")
			form.Set("unknown_parameter", "is ignored")
			r := postForm(t, w, c, "/oauth/token", form)
			if r.status != http.StatusOK || r.header.Get("Cache-Control") != "no-store" || r.header.Get("Content-Type") != "application/json" {
				t.Fatalf("%d %v %s", r.status, r.header, r.body)
			}
			var got tokenAnswer
			decode(t, strings.NewReader(r.body), &got)
			if got.IssuedTokenType != "urn:ietf:params:oauth:token-type:access_token" || got.TokenType != "Bearer" || got.Scope != "read" ||
				got.ExpiresIn <= 0 || got.ExpiresIn > 900 || got.GrantID == "" || got.AccessToken == "" {
				t.Errorf("%+v", got)
			}
			if got.Credential == nil || got.Credential.Type != "bearer" || !strings.HasPrefix(got.Credential.Fields["token"], "minted-") || got.Credential.ExpiresAt.IsZero() {
				t.Errorf("credential %+v", got.Credential)
			}
			proxied := postForm(t, w, c, "/oauth/token", tokenForm(w.token("ann", "team"), "api"))
			if proxied.status != http.StatusOK || strings.Contains(proxied.body, staticSecret) || strings.Contains(proxied.body, "credential") {
				t.Errorf("for a proxied target: %d %s", proxied.status, proxied.body)
			}
		}
	})
}

func TestTokenExchangeIsIdempotent(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	ids := map[string]bool{}
	for range 2 {
		r := request(t, http.MethodPost, w.url+"/oauth/token", tokenForm(w.token("ann", "team"), "orders").Encode())
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
		r.Header.Set("Idempotency-Key", "job-7")
		var got tokenAnswer
		decode(t, strings.NewReader(do(t, w.web(false), r).body), &got)
		ids[got.GrantID] = true
	}
	if issued, revoked := w.mint.counts(); len(ids) != 1 || ids[""] || issued != 2 || revoked != 1 {
		t.Errorf("grants %v, issued %d, revoked %d", ids, issued, revoked)
	}
}

func TestTokenRefusals(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	good := w.token("ann", "team")
	with := func(name string, values ...string) url.Values {
		f := tokenForm(good, "orders")
		if f[name] = values; values == nil {
			delete(f, name)
		}
		return f
	}
	long := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		form url.Values
		code string
	}{
		"no grant type":         {with("grant_type"), "invalid_request"},
		"another grant type":    {with("grant_type", "client_credentials"), "unsupported_grant_type"},
		"grant type twice":      {with("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange", "password"), "invalid_request"},
		"no subject":            {with("subject_token"), "invalid_request"},
		"empty subject":         {with("subject_token", ""), "invalid_request"},
		"two subjects":          {with("subject_token", good, good), "invalid_request"},
		"no type of subject":    {with("subject_token_type"), "invalid_request"},
		"an access token":       {with("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"), "invalid_request"},
		"bad subject":           {with("subject_token", good[:len(good)-4]+"AAAA"), "invalid_request"},
		"no audience":           {with("audience"), "invalid_request"},
		"two audiences":         {with("audience", "orders", "api"), "invalid_target"},
		"a resource":            {with("resource", "https://api.example.com"), "invalid_target"},
		"unknown target":        {with("audience", "absent"), "invalid_target"},
		"hidden target":         {with("audience", "hidden"), "invalid_target"},
		"long target":           {with("audience", long), "invalid_request"},
		"target is not UTF-8":   {with("audience", "orders\xff"), "invalid_request"},
		"scope not allowed":     {with("scope", "write"), "invalid_scope"},
		"malformed scope":       {with("scope", `re"ad`), "invalid_scope"},
		"scope twice":           {with("scope", "read", "read"), "invalid_request"},
		"an actor":              {with("actor_token", good), "invalid_request"},
		"a type of actor":       {with("actor_token_type", "urn:ietf:params:oauth:token-type:jwt"), "invalid_request"},
		"another type of token": {with("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), "invalid_request"},
		"long reason":           {with("reason", long), "invalid_request"},
		"too large":             {with("reason", strings.Repeat(long, 40)), "invalid_request"},
	} {
		r := postForm(t, w, w.web(false), "/oauth/token", c.form)
		var got refusal
		decode(t, strings.NewReader(r.body), &got)
		if r.status != http.StatusBadRequest || got.Error != c.code || got.Description == "" || len(r.body) > 1000 ||
			r.header.Get("Cache-Control") != "no-store" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v %s", name, r.status, r.header, r.body)
		}
	}
	if n := len(w.events(audit.ExchangeGranted)); n != 0 {
		t.Errorf("%d grants were made", n)
	}
	// Three of them showed no valid identity: two nothing at all, one a forged token.
	if n := len(w.events(audit.IdentityRefused)); n != 3 {
		t.Errorf("%d refused identities are recorded, want 3", n)
	}
}

// Parameters are taken from a form in the body and from nowhere else.
func TestTokenParametersStandInTheBody(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	form := tokenForm(w.token("ann", "team"), "orders").Encode()
	const formType = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct{ query, body, contentType string }{
		"in the address":           {"?" + form, "", formType},
		"audience in the address":  {"?audience=orders", strings.Replace(form, "audience=orders", "x=y", 1), formType},
		"anything in the address":  {"?x=y", form, formType},
		"no content type":          {"", form, ""},
		"JSON":                     {"", `{"grant_type":"x"}`, "application/json"},
		"a form that claims text":  {"", form, "text/plain"},
		"multipart":                {"", form, "multipart/form-data; boundary=x"},
		"a form that is malformed": {"", form + "&%zz=1", formType},
	} {
		r := request(t, http.MethodPost, w.url+"/oauth/token"+c.query, c.body)
		if c.contentType != "" {
			r.Header.Set("Content-Type", c.contentType)
		}
		got := do(t, w.web(false), r)
		if got.status != http.StatusBadRequest || !strings.Contains(got.body, `"invalid_request"`) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	r := request(t, http.MethodPost, w.url+"/oauth/token", form)
	r.Header.Set("Content-Type", formType)
	r.Header["Idempotency-Key"] = []string{"a", "b"}
	if got := do(t, w.web(false), r); got.status != http.StatusBadRequest {
		t.Errorf("two keys: %d %s", got.status, got.body)
	}
	if issued, _ := w.mint.counts(); issued != 0 {
		t.Errorf("%d credentials were issued", issued)
	}
}

// A refusal names the rule and the claim over HTTP too; a failure of ours names nothing, and is logged.
func TestTokenErrorsTellWhatTheyMay(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	r := postForm(t, w, w.web(false), "/oauth/token", tokenForm(w.token("eve"), "orders"))
	var got refusal
	decode(t, strings.NewReader(r.body), &got)
	if got.Error != "invalid_target" || got.Rule != "team-has-orders" || !strings.Contains(got.Claim, "principal.groups") {
		t.Errorf("%+v", got)
	}
	for kind, want := range map[cred.Kind]struct {
		status int
		code   string
	}{
		cred.Internal: {500, "server_error"}, cred.Unavailable: {503, "temporarily_unavailable"}, cred.Exhausted: {429, "temporarily_unavailable"},
		cred.Pending: {400, "authorization_pending"}, cred.Expired: {400, "invalid_request"},
	} {
		w.mint.failWith(func(context.Context) error {
			return &cred.Error{Kind: kind, Op: "mint", Public: "said in public", Rule: "r", Err: errors.New(inner)}
		})
		r := postForm(t, w, w.web(false), "/oauth/token", tokenForm(w.token("ann", "team"), "orders"))
		var got refusal
		decode(t, strings.NewReader(r.body), &got)
		if r.status != want.status || got.Error != want.code || strings.Contains(r.body, inner) {
			t.Errorf("%v: %d %s", kind, r.status, r.body)
		}
		if internal := kind == cred.Internal; internal != (got.Description == cred.PublicText(nil)) || internal != (got.Rule == "") {
			t.Errorf("%v: says %+v", kind, got)
		}
	}
	if !strings.Contains(w.logs.String(), "endpoint=/oauth/token") || !strings.Contains(w.logs.String(), inner) {
		t.Error("our own log does not tell why")
	}
}

func TestOAuthRevoke(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	revoke := func(values ...string) answered {
		return postForm(t, w, w.web(false), "/oauth/revoke", url.Values{"token": values, "token_type_hint": {"refresh_token"}})
	}
	granted, err := w.member().Exchange(t.Context(), cred.Request{Target: "orders"})
	must(t, err)
	tok := granted.Token.RevealString()
	for _, unknown := range []string{"abc", tok[:len(tok)-4] + "AAAA", w.token("ann", "team")} {
		if r := revoke(unknown); r.status != http.StatusOK || r.body != "" {
			t.Errorf("an unknown token: %d %s", r.status, r.body)
		}
	}
	if _, revoked := w.mint.counts(); revoked != 0 {
		t.Fatal("an unknown token revoked")
	}
	for range 2 { // revoking again is no error
		if r := revoke(tok); r.status != http.StatusOK || r.body != "" || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if _, revoked := w.mint.counts(); revoked != 1 || len(w.events(audit.GrantRevoked)) != 1 {
		t.Errorf("%d leases were revoked, %d grants", revoked, len(w.events(audit.GrantRevoked)))
	}
	for name, r := range map[string]answered{"none": revoke(), "two": revoke(tok, tok), "an empty one": revoke("")} {
		if r.status != http.StatusBadRequest || !strings.Contains(r.body, `"invalid_request"`) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	r := do(t, w.web(false), request(t, http.MethodPost, w.url+"/oauth/revoke?token="+url.QueryEscape(tok), ""))
	if r.status != http.StatusBadRequest {
		t.Errorf("in the address: %d %s", r.status, r.body)
	}
	must(t, w.raw.Close())
	if r := revoke(tok); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "temporarily_unavailable") {
		t.Errorf("without a store: %d %s", r.status, r.body)
	}
}
