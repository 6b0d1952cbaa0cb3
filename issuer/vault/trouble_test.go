package vault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// trouble answers as a Vault does that can't serve, or as what stands before it does.
func trouble(code int, text, retryAfter string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, "{\"errors\":[%q]}\n", text)
	})
}

func at(path string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v1/"+path) }
}

// Between the issuer and a real Vault stands a front that is sealed, on standby, busy or broken for
// some requests. Every request is held in turn; what is said to exist exists, and nothing else does.
func (w *world) testTrouble(t *testing.T) {
	const mint = "database/creds/ro"
	stranger := newFake(t, false)
	elsewhere := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, stranger.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	defer func() {
		if len(stranger.seen) > 0 {
			t.Errorf("a redirect was followed: %q", stranger.seen)
		}
	}()
	for name, tc := range map[string]struct {
		where   string
		times   int
		with    http.Handler
		minted  int  // how many requests to mint reached Vault
		ok      bool // Issue goes well
		certain bool // and where it does not, it says that nothing was made
		public  string
	}{
		"sealed for a moment, signing in":     {"auth/jwt/login", 2, trouble(503, "Vault is sealed", ""), 1, true, false, ""},
		"standby for a moment, reserving":     {"auth/token/create", 3, trouble(503, "Vault is in standby mode", ""), 1, true, false, ""},
		"lagging for a moment, reserving":     {"auth/token/create", 2, trouble(412, "required index state not present", ""), 1, true, false, ""},
		"standby points elsewhere, reserving": {"auth/token/create", 2, elsewhere, 1, true, false, ""},
		"standby points elsewhere, minting":   {mint, 1, elsewhere, 1, true, false, ""},
		"points elsewhere for long, minting":  {mint, 100, elsewhere, 0, false, true, "not active"},
		"busy for a moment, reserving":        {"auth/token/create", 1, trouble(429, "request path \"auth/token/create\": rate limit quota exceeded", "1"), 1, true, false, ""},
		"bad gateway for a moment, looking":   {"sys/internal/ui/mounts", 2, trouble(502, "local node not active but active cluster node not found", ""), 1, true, false, ""},
		"sealed for long, signing in":         {"auth/jwt/login", 100, trouble(503, "Vault is sealed", ""), 0, false, true, "sealed"},
		"sealed for long, reserving":          {"auth/token/create", 100, trouble(503, "Vault is sealed", ""), 0, false, true, "sealed"},
		"recovery secondary":                  {"auth/token/create", 100, trouble(472, "disaster recovery secondary", ""), 0, false, true, "not active"},
		"busy for long, reserving":            {"auth/token/create", 100, trouble(429, "rate limit quota exceeded", "60"), 0, false, true, "limits"},
		"busy for a moment, minting":          {mint, 2, trouble(429, "rate limit quota exceeded", "1"), 1, true, false, ""},
		"lagging for a moment, minting":       {mint, 1, trouble(412, "required index state not present", ""), 1, true, false, ""},
		"busy for long, minting":              {mint, 100, trouble(429, "rate limit quota exceeded", ""), 0, false, true, "limits"},
		"sealed once, minting":                {mint, 1, trouble(503, "Vault is sealed", ""), 0, false, false, "not known"},
		"server error once, minting":          {mint, 1, trouble(500, "internal error", ""), 0, false, false, "not known"},
		"bad gateway once, minting":           {mint, 1, trouble(502, "bad gateway", ""), 0, false, false, "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			front := issuertest.NewFront(t, w.URL)
			cfg := w.config()
			cfg.Address = front.URL
			iss := newIssuer(t, cfg)
			front.Answer(tc.times, at(tc.where), tc.with)
			s := spec(in(time.Minute))
			var c cred.Credential
			var l cred.Lease
			handle, err := iss.Reserve(t.Context(), s)
			if s.Handle = handle; err == nil {
				c, l, err = iss.Issue(t.Context(), s)
			}
			if (err == nil) != tc.ok || (err != nil && (errors.Is(err, issuer.ErrNotIssued) != tc.certain || cred.KindOf(err) != cred.Unavailable)) {
				t.Errorf("%v, want success %v, certain that nothing was made %v", err, tc.ok, tc.certain)
			}
			if err != nil && (!strings.Contains(cred.PublicText(err), tc.public) || strings.Contains(err.Error(), "RetryAfter")) {
				t.Errorf("the public text is %q, want %q in it", cred.PublicText(err), tc.public)
			}
			if n := front.Reached("GET /v1/" + mint); n != tc.minted {
				t.Errorf("%d requests to mint reached Vault, want %d", n, tc.minted)
			}
			front.Answer(0, nil, nil)
			if err == nil {
				if err := w.works(t.Context(), c); err != nil {
					t.Errorf("the credential does not work: %v", err)
				}
				s.Handle = l.Handle
			}
			if s.Handle != "" {
				if err := iss.Revoke(t.Context(), cred.Lease{Handle: s.Handle}); err != nil {
					t.Errorf("Revoke: %v", err)
				}
			}
			w.wantAlive(t, 0)
		})
	}
}

// A redirect is no confirmation that a lease has ended.
func TestRevokeBelievesNoRedirect(t *testing.T) {
	for _, where := range []string{"PUT sys/leases/revoke", "PUT auth/token/revoke-accessor"} {
		f := newFake(t, false)
		f.handle(where, func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, r.URL.Path, http.StatusTemporaryRedirect)
		})
		err := newIssuer(t, f.config()).Revoke(t.Context(), cred.Lease{Handle: `{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database","lease":"db/creds/r/1"}`})
		if cred.KindOf(err) != cred.Unavailable {
			t.Errorf("%s was redirected: %v, want kind unavailable", where, err)
		}
	}
}

// How long Vault asks to wait is passed on, and never waited for beyond the caller's deadline.
func TestRetriesKeepTheDeadline(t *testing.T) {
	f := newFake(t, false)
	f.handle("PUT auth/token/create", trouble(429, "rate limit quota exceeded", "60").ServeHTTP)
	f.handle("GET db/creds/r", trouble(429, "rate limit quota exceeded", "5").ServeHTTP)
	iss := newIssuer(t, f.config())
	began := time.Now()
	_, err := iss.Reserve(t.Context(), source("db/creds/r", "database", nil))
	if after, ok := cred.RetryAfter(err); !ok || after != time.Minute || f.count("PUT auth/token/create") != 1 {
		t.Errorf("asked to wait a minute: %v, %v, sent %d times", err, after, f.count("PUT auth/token/create"))
	}
	f.handle("PUT auth/token/create", answer(`{"auth":{"client_token":"child","accessor":"ca","lease_duration":600}}`))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	_, _, err = iss.Issue(ctx, source("db/creds/r", "database", nil))
	if !errors.Is(err, issuer.ErrNotIssued) || f.count("GET db/creds/r") != 1 || ctx.Err() != nil {
		t.Errorf("five seconds asked for and four left: %v, sent %d times, context %v", err, f.count("GET db/creds/r"), ctx.Err())
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
}

// The namespace goes along with whatever is asked.
func TestNamespaceIsSentEverywhere(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET sys/internal/ui/mounts/db/creds/r", answer(`{"data":{"path":"db/","type":"database"}}`))
	f.handle("GET db/creds/r", answer(`{"lease_id":"db/creds/r/1","lease_duration":60,"data":{"username":"u","password":"p"}}`))
	f.handle("GET kv/data/x", answer(`{"data":{"data":{"a":"b"},"metadata":{"version":1}}}`))
	f.handle("PUT sys/capabilities-self", answer(`{"data":{}}`))
	f.handle("GET sys/leases/lookup/db/creds/r", answer(`{"data":{"keys":["1"]}}`))
	f.handle("PUT sys/leases/lookup", status(400, `{"errors":["invalid lease"]}`))
	f.handle("PUT transit/sign/k/sha2-256", status(400, `{"errors":["x"]}`))
	f.handle("PUT auth/token/renew-self", status(500, ``))
	cfg := f.config()
	cfg.Namespace, cfg.Paths = "team/apps", []string{"db/creds/r"}
	iss := newIssuer(t, cfg)
	_ = iss.Check(t.Context())
	_, l, err := iss.Issue(t.Context(), source("db/creds/r", "", nil))
	if err != nil {
		t.Fatal(err)
	}
	reserved := strings.Split(l.Handle, `,"lease"`)[0] + "}"
	if err := errors.Join(iss.Revoke(t.Context(), l), iss.Revoke(t.Context(), cred.Lease{Handle: reserved})); err != nil {
		t.Fatal(err)
	}
	if _, _, err := iss.Issue(t.Context(), source("kv/x", "kv2", nil)); err != nil {
		t.Fatal(err)
	}
	signer, err := iss.TransitSigner("", "k")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = signer.SignRS256(t.Context(), []byte("x"))
	for _, asked := range []string{
		"PUT auth/approle/login", "GET auth/token/lookup-self", "PUT auth/token/create", "GET sys/internal/ui/mounts", "PUT sys/capabilities-self",
		"GET db/creds/r", "PUT sys/leases/revoke", "PUT auth/token/revoke-accessor", "GET sys/leases/lookup/db", "PUT sys/leases/lookup", "GET kv/data/x", "PUT transit/sign",
	} {
		if f.count(asked) == 0 {
			t.Errorf("%s was never asked, so nothing is known of its namespace", asked)
		}
	}
	for n, h := range f.heads {
		want := "team/apps"
		if strings.Contains(f.seen[n], "sys/health") {
			want = "" // of the root namespace
		}
		if h.Get("X-Vault-Namespace") != want {
			t.Errorf("%s: namespace %q", f.seen[n], h.Get("X-Vault-Namespace"))
		}
	}
}
