package vault_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/vault"
)

// fake answers as Vault does, for engines that the tests' Vault does not have and for failures that
// a real one can't be made to show.
type fake struct {
	*httptest.Server
	mu    sync.Mutex                  // owns what follows
	seen  []string                    // "METHOD path?query body"
	heads []http.Header               // of the same requests
	on    map[string]http.HandlerFunc // by "METHOD path"
	rest  http.HandlerFunc            // what is not among them
}

func newFake(t *testing.T, tls bool) *fake {
	f := &fake{rest: status(http.StatusNotFound, `{"errors":[]}`)}
	f.on = map[string]http.HandlerFunc{
		"PUT auth/approle/login":         answer(`{"auth":{"client_token":"parent","accessor":"pa","lease_duration":3600,"renewable":true}}`),
		"GET auth/token/lookup-self":     answer(`{"data":{"type":"service","ttl":3600,"period":3600,"explicit_max_ttl":0,"num_uses":0,"renewable":true,"policies":["p"]}}`),
		"PUT auth/token/create":          answer(`{"auth":{"client_token":"child","accessor":"ca","lease_duration":600}}`),
		"PUT auth/token/revoke-accessor": answer(``),
		"PUT sys/leases/revoke":          answer(``),
	}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that refuses its certificate is no news
	if tls {
		f.StartTLS()
	} else {
		f.Start()
	}
	t.Cleanup(f.Close)
	return f
}

// answer is a success; without a body it is Vault's 204.
func answer(body string) http.HandlerFunc {
	if body == "" {
		return status(http.StatusNoContent, "")
	}
	return status(http.StatusOK, strings.Replace(body, "{", `{"request_id":"r",`, 1))
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1/")
	f.mu.Lock()
	line := key
	if r.URL.RawQuery != "" {
		line += "?" + r.URL.RawQuery
	}
	f.seen = append(f.seen, strings.TrimSpace(line+" "+string(body)))
	f.heads = append(f.heads, r.Header)
	handler, rest := f.on[key], f.rest
	f.mu.Unlock()
	if handler == nil {
		handler = rest
	}
	handler(w, r)
}

func (f *fake) handle(key string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on[key] = h
}

// all answers everything in the same way.
func (f *fake) all(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key := range f.on {
		f.on[key] = h
	}
	f.rest = h
}

// count returns how many requests began with a prefix.
func (f *fake) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range f.seen {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func (f *fake) config() vault.Config {
	return vault.Config{Address: f.URL, Timeout: 5 * time.Second, AppRole: &vault.AppRole{RoleID: "r", SecretID: cred.SecretString("s")}}
}

func source(path, engine string, params map[string]string) issuer.Spec {
	s := spec(in(10 * time.Minute))
	s.Target.Credential.Path = path
	s.Target.Credential.Params = map[string]string{"engine": engine}
	for name, value := range params {
		s.Target.Credential.Params[name] = value
	}
	return s
}

// What other engines than the database answer becomes the right type, with an honest end.
func TestEngines(t *testing.T) {
	expiration := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, tc := range map[string]struct {
		spec      issuer.Spec
		on        string
		answer    string
		sent      string // what the request that mints must be
		kind      cred.CredentialType
		fields    map[string]string
		revocable bool
		note      string
	}{
		"aws user": {
			source("aws/creds/r", "aws", nil), "GET aws/creds/r",
			`{"lease_id":"aws/creds/r/1","lease_duration":3600,"data":{"access_key":"a","secret_key":"s","security_token":null}}`,
			"GET aws/creds/r?ttl=15m0s", cred.AWS,
			map[string]string{"access_key_id": "a", "secret_access_key": "s"},
			true, "",
		},
		"aws sts": {
			source("aws/sts/r", "aws", map[string]string{"method": "write", "role_arn": "x"}), "PUT aws/sts/r",
			`{"lease_id":"aws/sts/r/1","lease_duration":900,"data":{"access_key":"a","secret_key":"s","security_token":"t"}}`,
			`PUT aws/sts/r {"role_arn":"x","ttl":"15m0s"}`, cred.AWS,
			map[string]string{"access_key_id": "a", "secret_access_key": "s", "session_token": "t"},
			false, "later than was asked",
		},
		"pki without lease": {
			source("pki/issue/r", "pki", map[string]string{"method": "write", "common_name": "a.example.com", "ttl": "1h"}), "PUT pki/issue/r",
			fmt.Sprintf(`{"data":{"certificate":"c","private_key":"k","issuing_ca":"i","ca_chain":["x","y"],"expiration":%d}}`, expiration.Unix()),
			`PUT pki/issue/r {"common_name":"a.example.com","ttl":"1h"}`, cred.TLS,
			map[string]string{"certificate": "c", "private_key": "k", "ca_chain": "x\ny"},
			false, "generate_lease",
		},
		"ssh": {
			source("ssh/issue/r", "ssh", map[string]string{"method": "write", "ttl": "5m"}), "PUT ssh/issue/r",
			`{"data":{"serial_number":"1","signed_key":"k"}}`, `PUT ssh/issue/r {"ttl":"5m"}`,
			cred.SSHCertificate,
			map[string]string{"signed_key": "k"},
			false, "nobody can end it",
		},
		"kubernetes, account made for the lease": {
			source("kubernetes/creds/r", "kubernetes", map[string]string{"method": "write", "kubernetes_namespace": "apps"}), "PUT kubernetes/creds/r",
			`{"lease_id":"kubernetes/creds/r/1","lease_duration":600,"renewable":false,"data":{"service_account_name":"v-token-da-r-1790000000-abc","service_account_namespace":"apps","service_account_token":"t"}}`,
			`PUT kubernetes/creds/r {"kubernetes_namespace":"apps","ttl":"10m0s"}`, cred.Bearer,
			map[string]string{"token": "t"},
			true, "",
		},
		"kubernetes, account of its own": {
			source("kubernetes/creds/r", "kubernetes", map[string]string{"method": "write", "kubernetes_namespace": "apps"}), "PUT kubernetes/creds/r",
			fmt.Sprintf(`{"lease_id":"kubernetes/creds/r/1","lease_duration":600,"data":{"service_account_name":"builder","service_account_namespace":"apps","service_account_token":"h.%s.s"}}`,
				base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, expiration.Unix()))),
			`PUT kubernetes/creds/r {"kubernetes_namespace":"apps","ttl":"10m0s"}`, cred.Bearer,
			map[string]string{"token": "h." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, expiration.Unix())) + ".s"},
			false, "later than was asked",
		},
		"github plugin": {
			source("github/token/r", "github", nil), "GET github/token/r",
			`{"lease_id":"github/token/r/1","lease_duration":3600,"data":{"token":"t","installation_id":7}}`,
			"GET github/token/r", cred.Bearer,
			map[string]string{"token": "t"},
			true, "",
		},
		"google cloud token": {
			source("gcp/roleset/r/token", "gcp", nil), "GET gcp/roleset/r/token",
			fmt.Sprintf(`{"lease_id":"","lease_duration":0,"data":{"token":"t","token_ttl":3590,"expires_at_seconds":%d}}`, expiration.Unix()),
			"GET gcp/roleset/r/token", cred.Bearer,
			map[string]string{"token": "t"},
			false, "later than was asked",
		},
		"pki that is not known as such": {
			source("pki/issue/r", "custom", map[string]string{"method": "write"}), "PUT pki/issue/r",
			fmt.Sprintf(`{"data":{"certificate":"c","private_key":"k","expiration":%d}}`, expiration.Unix()),
			`PUT pki/issue/r {}`, cred.TLS,
			map[string]string{"certificate": "c", "private_key": "k"},
			false, "later than was asked",
		},
		"aws static role": {
			source("aws/static-creds/r", "aws", nil), "GET aws/static-creds/r",
			fmt.Sprintf(`{"data":{"access_key":"a","secret_key":"s","expiration":%q}}`, expiration.UTC().Format(time.RFC3339)),
			"GET aws/static-creds/r?ttl=15m0s", cred.AWS,
			map[string]string{"access_key_id": "a", "secret_access_key": "s"},
			false, "later than was asked",
		},
		"identity token": {
			source("identity/oidc/token/r", "identity", nil), "GET identity/oidc/token/r",
			`{"data":{"client_id":"c","token":"t","ttl":86400}}`,
			"GET identity/oidc/token/r", cred.Bearer,
			map[string]string{"token": "t"},
			false, "later than was asked",
		},
		"aws sts as values": {
			func() issuer.Spec {
				s := source("aws/sts/r", "aws", map[string]string{"method": "write"})
				s.Target.Credential.Type = cred.KV
				return s
			}(), "PUT aws/sts/r",
			`{"lease_id":"aws/sts/r/1","lease_duration":900,"data":{"access_key":"a","secret_key":"s","security_token":"t"}}`,
			`PUT aws/sts/r {"ttl":"15m0s"}`, cred.KV,
			map[string]string{"access_key": "a", "secret_key": "s", "security_token": "t"},
			false, "later than was asked",
		},
		"unknown": {
			source("x/y", "x", nil), "GET x/y", `{"lease_id":"x/y/1","lease_duration":60,"data":{"a":"b","n":7,"none":null}}`,
			"GET x/y", cred.KV,
			map[string]string{"a": "b", "n": "7"},
			true, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.handle(tc.on, answer(tc.answer))
			iss := newIssuer(t, f.config())
			c, l, err := iss.Issue(t.Context(), tc.spec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.fields, reveal(c)); diff != "" || c.Type != tc.kind {
				t.Errorf("type %q, fields (-want +got):\n%s", c.Type, diff)
			}
			if n := f.count(tc.sent); n != 1 {
				t.Errorf("%q was sent %d times, of\n%s", tc.sent, n, strings.Join(f.seen, "\n"))
			}
			leased := strings.Contains(tc.answer, `"lease_id":"`+tc.spec.Target.Credential.Path)
			if l.Revocable != tc.revocable || (l.Handle != "") != leased || !strings.Contains(l.Note, tc.note) {
				t.Errorf("lease %+v, want revocable %v and a note of %q", l, tc.revocable, tc.note)
			}
			if l.NotAfter.After(tc.spec.NotAfter) && l.Note == "" {
				t.Errorf("the lease ends later than asked and does not say so")
			}
			if told := strings.Contains(tc.answer, `"exp`) || name == "kubernetes, account of its own"; told && (!l.NotAfter.Equal(expiration) || !c.NotAfter.Equal(expiration)) {
				t.Errorf("it ends %v, the lease says %v, the credential %v", expiration, l.NotAfter, c.NotAfter)
			}
			if err := iss.Revoke(t.Context(), l); (err == nil) != tc.revocable || err != nil && cred.KindOf(err) != cred.Invalid {
				t.Errorf("Revoke: %v, want it revocable %v", err, tc.revocable)
			}
			if _, err := iss.Renew(t.Context(), l, in(time.Hour)); !tc.revocable && cred.KindOf(err) != cred.Invalid {
				t.Errorf("Renew: %v, want kind invalid", err)
			}
		})
	}
}

// Which failure of the request that mints promises that nothing was made.
func TestMintFailures(t *testing.T) {
	for code, want := range map[int]struct {
		kind      cred.Kind
		notIssued bool
	}{
		400: {cred.Invalid, false}, 404: {cred.Invalid, false}, 405: {cred.Invalid, false},
		403: {cred.Unavailable, true}, 429: {cred.Unavailable, true},
		500: {cred.Unavailable, false}, 502: {cred.Unavailable, false}, 503: {cred.Unavailable, false},
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			f := newFake(t, false)
			f.handle("GET db/creds/r", status(code, `{"errors":["inner text"]}`))
			_, _, err := newIssuer(t, f.config()).Issue(t.Context(), source("db/creds/r", "database", nil))
			if cred.KindOf(err) != want.kind || errors.Is(err, issuer.ErrNotIssued) != want.notIssued {
				t.Errorf("%v, want kind %v, not issued %v", err, want.kind, want.notIssued)
			}
			if logged := code < 500; strings.Contains(cred.PublicText(err), "inner text") || strings.Contains(err.Error(), "inner text") != logged {
				t.Errorf("public %q, private %q", cred.PublicText(err), err)
			}
			sent := 1
			if code == 429 { // Vault looks at its limits before it does anything
				sent = 4
			}
			if n := f.count("GET db/creds/r"); n != sent {
				t.Errorf("the request that mints was sent %d times, want %d", n, sent)
			}
			ended := want.kind == cred.Invalid || want.notIssued
			if n := f.count("PUT auth/token/revoke-accessor"); (n == 1) != ended {
				t.Errorf("the lease's token was revoked %d times, want it %v", n, ended)
			}
		})
	}
}

// net/http repeats a GET by itself when a kept connection breaks; a GET that mints must not be.
func TestMintIsNotRepeatedOnBrokenConnection(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET db/creds/r", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	_, _, err := newIssuer(t, f.config()).Issue(t.Context(), source("db/creds/r", "database", nil))
	if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("%v, want kind unavailable, perhaps issued", err)
	}
	if n := f.count("GET db/creds/r"); n != 1 {
		t.Errorf("the request that mints was sent %d times", n)
	}
}

// Requests that make no credential are repeated while Vault is in trouble, and not when it refuses.
func TestReserveRetries(t *testing.T) {
	for name, tc := range map[string]struct {
		code, fails, sent int
		ok                bool
	}{
		"sealed for a moment": {503, 2, 3, true},
		"busy for a moment":   {429, 1, 2, true},
		"sealed for long":     {503, 100, 4, false},
		"refused":             {400, 100, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			good, failed := f.on["PUT auth/token/create"], 0
			f.handle("PUT auth/token/create", func(w http.ResponseWriter, r *http.Request) {
				if failed++; failed <= tc.fails {
					status(tc.code, `{"errors":["x"]}`)(w, r)
					return
				}
				good(w, r)
			})
			_, err := newIssuer(t, f.config()).Reserve(t.Context(), source("db/creds/r", "database", nil))
			if (err == nil) != tc.ok || (err != nil && !errors.Is(err, issuer.ErrNotIssued)) {
				t.Errorf("Reserve: %v", err)
			}
			if n := f.count("PUT auth/token/create"); n != tc.sent {
				t.Errorf("sent %d times, want %d", n, tc.sent)
			}
		})
	}
}

func TestManySignInOnce(t *testing.T) {
	f := newFake(t, false)
	release := make(chan struct{})
	login := f.on["PUT auth/approle/login"]
	f.handle("PUT auth/approle/login", func(w http.ResponseWriter, r *http.Request) { <-release; login(w, r) })
	iss := newIssuer(t, f.config())
	errs := make(chan error)
	for range 20 {
		go func() {
			_, err := iss.Reserve(t.Context(), source("db/creds/r", "database", nil))
			errs <- err
		}()
	}
	for f.count("PUT auth/approle/login") == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	for range 20 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := f.count("PUT auth/approle/login"); n != 1 {
		t.Errorf("signed in %d times", n)
	}
}

func TestRevokeAnswers(t *testing.T) {
	lease := `{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database","lease":"db/creds/r/1"}`
	reserved := `{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database"}`
	for name, tc := range map[string]struct {
		handle, on string
		code       int
		body       string
		want       cred.Kind // Internal: success
	}{
		"older Vault, unknown accessor":  {lease, "PUT auth/token/revoke-accessor", 400, `{"errors":["invalid accessor"]}`, cred.Internal},
		"source does not end it":         {lease, "PUT sys/leases/revoke", 500, `{"errors":["x"]}`, cred.Unavailable},
		"no right":                       {lease, "PUT sys/leases/revoke", 403, `{"errors":["permission denied"]}`, cred.Unavailable},
		"no lease of the path is left":   {reserved, "", 0, "", cred.Internal},
		"aws, after a crash":             {strings.Replace(reserved, "database", "aws", 1), "", 0, "", cred.Invalid},
		"another version":                {strings.Replace(lease, `"v":1`, `"v":2`, 1), "", 0, "", cred.Invalid},
		"unknown member":                 {strings.Replace(lease, `"v":1`, `"v":1,"x":1`, 1), "", 0, "", cred.Invalid},
		"the token can't be revoked yet": {lease, "PUT auth/token/revoke-accessor", 503, `{"errors":["x"]}`, cred.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			if tc.on != "" {
				f.handle(tc.on, status(tc.code, tc.body))
			}
			err := newIssuer(t, f.config()).Revoke(t.Context(), cred.Lease{Handle: tc.handle})
			if (err == nil) != (tc.want == cred.Internal) || cred.KindOf(err) != tc.want {
				t.Errorf("Revoke: %v, want kind %v", err, tc.want)
			}
			if strings.Contains(tc.handle, `"v":1,"a`) && f.count("PUT auth/token/revoke-accessor") == 0 {
				t.Error("the lease's token was not revoked")
			}
		})
	}
}

// A lease whose end has come but which Vault still works on keeps Revoke waiting.
func TestRevokeWaitsForLeasesThatAreEnding(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET sys/leases/lookup/db/creds/r", answer(`{"data":{"keys":["live","ending"]}}`))
	asked := 0
	f.handle("PUT sys/leases/lookup", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		body := f.seen[len(f.seen)-1]
		f.mu.Unlock()
		switch {
		case strings.Contains(body, "/live"):
			answer(`{"data":{"expire_time":"2999-01-01T00:00:00Z","ttl":3600}}`)(w, r)
		case asked < 3:
			asked++
			answer(`{"data":{"expire_time":"2020-01-01T00:00:00Z","ttl":0}}`)(w, r)
		default:
			status(400, `{"errors":["invalid lease"]}`)(w, r)
		}
	})
	iss := newIssuer(t, f.config())
	if err := iss.Revoke(t.Context(), cred.Lease{Handle: `{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database"}`}); err != nil {
		t.Error(err)
	}
	if asked != 3 {
		t.Errorf("returned while the lease was ending, after %d looks", asked)
	}
}

func TestTLSNamespaceAndEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"VAULT_TOKEN": "from the environment", "VAULT_NAMESPACE": "elsewhere", "VAULT_ADDR": "http://127.0.0.1:1", "VAULT_SKIP_VERIFY": "true",
	} {
		t.Setenv(name, value)
	}
	f := newFake(t, true)
	f.handle("GET db/creds/r", answer(`{"lease_id":"db/creds/r/1","lease_duration":60,"data":{"username":"u","password":"p"}}`))
	cfg := f.config()
	if _, err := newIssuer(t, cfg).Reserve(t.Context(), source("db/creds/r", "database", nil)); !errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("trusted a certificate that nobody vouches for: %v", err)
	}
	cfg.Namespace = "team"
	cfg.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	if err := os.WriteFile(cfg.CAFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := newIssuer(t, cfg).Issue(t.Context(), source("db/creds/r", "database", nil)); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"PUT auth/approle/login": "", "PUT auth/token/create": "parent", "GET db/creds/r": "child"}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, line := range f.seen {
		key := strings.Join(strings.Fields(line)[:2], " ")
		if token, ok := want[key]; ok && f.heads[n].Get("X-Vault-Token") != token {
			t.Errorf("%s: token %q, want %q", key, f.heads[n].Get("X-Vault-Token"), token)
		}
		if ns := f.heads[n].Get("X-Vault-Namespace"); ns != "team" {
			t.Errorf("%s: namespace %q", key, ns)
		}
	}
	var created struct {
		TTL    string            `json:"ttl"`
		Max    string            `json:"explicit_max_ttl"`
		Meta   map[string]string `json:"meta"`
		Renew  *bool             `json:"renewable"`
		NoDflt bool              `json:"no_default_policy"`
	}
	for _, line := range f.seen {
		if rest, ok := strings.CutPrefix(line, "PUT auth/token/create "); ok {
			if err := json.Unmarshal([]byte(rest), &created); err != nil {
				t.Fatal(err)
			}
		}
	}
	if created.TTL != "9m59s" || created.Max != created.TTL || created.Renew == nil || *created.Renew || !created.NoDflt ||
		!strings.HasPrefix(created.Meta["daypass_grant"], "gr_") || !strings.HasPrefix(created.Meta["daypass_lease"], "le_") {
		t.Errorf("the lease's token was asked for as %+v", created)
	}
}

func TestAnswerIsBounded(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET db/creds/r", answer(`{"lease_id":"x","data":{"token":"`+strings.Repeat("a", 5<<20)+`"}}`))
	_, _, err := newIssuer(t, f.config()).Issue(t.Context(), source("db/creds/r", "database", nil))
	if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("an answer of 5 MiB: %v", err)
	}
}

func TestBadConfigurations(t *testing.T) {
	good := func() vault.Config {
		return vault.Config{Address: "https://vault.example.com:8200", TokenFile: &vault.TokenFile{Path: "x"}}
	}
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*vault.Config){
		"no address":        func(c *vault.Config) { c.Address = "" },
		"no scheme":         func(c *vault.Config) { c.Address = "vault:8200" },
		"another scheme":    func(c *vault.Config) { c.Address = "ftp://vault.example.com" },
		"http to elsewhere": func(c *vault.Config) { c.Address = "http://vault.example.com:8200" },
		"a user in it":      func(c *vault.Config) { c.Address = "https://a:b@vault.example.com:8200" },
		"no sign-in":        func(c *vault.Config) { c.TokenFile = nil },
		"two sign-ins":      func(c *vault.Config) { c.AppRole = &vault.AppRole{RoleID: "r", SecretID: cred.SecretString("s")} },
		"half a jwt":        func(c *vault.Config) { c.TokenFile, c.JWT = nil, &vault.JWT{Role: "r"} },
		"half kubernetes":   func(c *vault.Config) { c.TokenFile, c.Kubernetes = nil, &vault.Kubernetes{Path: "x"} },
		"jwt and k8s":       func(c *vault.Config) { c.Kubernetes = &vault.Kubernetes{Role: "r"} },
		"half an approle":   func(c *vault.Config) { c.TokenFile, c.AppRole = nil, &vault.AppRole{RoleID: "r"} },
		"no token path":     func(c *vault.Config) { c.TokenFile = &vault.TokenFile{} },
		"audit device":      func(c *vault.Config) { c.AuditDevice = "../x" },
		"no CA file":        func(c *vault.Config) { c.CAFile = notPEM + ".no" },
		"CA file not a PEM": func(c *vault.Config) { c.CAFile = notPEM },
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := vault.New(cfg); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v, want kind invalid", name, err)
		}
	}
	iss, err := vault.New(good())
	if err != nil {
		t.Fatal(err)
	}
	_ = iss.Close()
	if _, _, err := iss.Issue(t.Context(), source("db/creds/r", "database", nil)); !errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("Issue after Close: %v", err)
	}
}

// The caller leaves while Vault is at work: the request goes on, what it brings is revoked, and a
// Revoke by the reservation's handle waits for that.
func TestCallerLeavesAndTheRequestGoesOn(t *testing.T) {
	f := newFake(t, false)
	arrived, release, cut := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
	f.handle("GET db/creds/r", func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-r.Context().Done():
			cut <- true
		case <-release:
			cut <- false
		}
		answer(`{"lease_id":"db/creds/r/late","lease_duration":60,"data":{"username":"u","password":"p"}}`)(w, r)
	})
	iss := newIssuer(t, f.config())
	s := source("db/creds/r", "database", nil)
	var err error
	if s.Handle, err = iss.Reserve(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-arrived; leave() }()
	if _, _, err := iss.Issue(ctx, s); cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("Issue whose caller left: %v", err)
	}
	early, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := iss.Revoke(early, cred.Lease{Handle: s.Handle}); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("Revoke while Vault is at work: %v", err)
	}
	if n := f.count("PUT auth/token/revoke-accessor"); n != 0 {
		t.Error("the lease's token was revoked while Vault mints with it")
	}
	close(release)
	if err := iss.Revoke(t.Context(), cred.Lease{Handle: s.Handle}); err != nil {
		t.Error(err)
	}
	if <-cut {
		t.Error("the request that mints was cut off when the caller left")
	}
	if n := f.count(`PUT sys/leases/revoke {"lease_id":"db/creds/r/late","sync":true}`); n != 1 {
		t.Errorf("what was made was revoked %d times, want once", n)
	}
}

// Without a namespace none is sent, whatever the environment says.
func TestNoNamespace(t *testing.T) {
	t.Setenv("VAULT_NAMESPACE", "elsewhere")
	f := newFake(t, false)
	if _, err := newIssuer(t, f.config()).Reserve(t.Context(), source("db/creds/r", "database", nil)); err != nil {
		t.Fatal(err)
	}
	for n, h := range f.heads {
		if ns, sent := h["X-Vault-Namespace"]; sent {
			t.Errorf("%s: namespace %q", f.seen[n], ns)
		}
	}
}

// Close waits for a request that mints, since hanging up would leave what it makes behind.
func TestCloseWaitsForMinting(t *testing.T) {
	f := newFake(t, false)
	arrived, release := make(chan struct{}), make(chan struct{})
	f.handle("GET db/creds/r", func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		answer(`{"lease_id":"db/creds/r/1","lease_duration":60,"data":{"username":"u","password":"p"}}`)(w, r)
	})
	iss := newIssuer(t, f.config())
	issued := make(chan error, 1)
	go func() {
		_, _, err := iss.Issue(t.Context(), source("db/creds/r", "database", nil))
		issued <- err
	}()
	<-arrived
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	_ = iss.Close()
	select {
	case <-release:
	default:
		t.Error("Close returned while a credential was being made")
	}
	if err := <-issued; err != nil {
		t.Errorf("Issue during Close: %v", err)
	}
}
