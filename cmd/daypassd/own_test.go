package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
)

// forge is as much of GitHub as the watcher of jobs sees: an app that is installed at octo, its tokens,
// and jobs that nobody may read without one.
type forge struct {
	*httptest.Server

	mu    sync.Mutex // owns what follows
	made  int
	live  map[string]bool // tokens
	asked int             // how often a job was asked for with a token that lives
	ended bool            // the jobs are over
}

func newForge(t *testing.T) *forge {
	f := &forge{live: map[string]bool{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	mux.HandleFunc("GET /app", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"id": 1, "slug": "daypass"})
	})
	mux.HandleFunc("GET /orgs/octo/installation", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"id": 7, "account": map[string]any{"id": 9, "login": "octo"}})
	})
	mux.HandleFunc("POST /app/installations/7/access_tokens", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.made++
		token := fmt.Sprintf("ghs_token%d", f.made)
		f.live[token] = true
		answer(w, 201, map[string]any{
			"token": token, "expires_at": time.Now().Add(time.Hour).UTC().Truncate(time.Second), "repository_selection": "selected",
			"repositories": []any{map[string]any{"full_name": "octo/api"}}, "permissions": map[string]string{"actions": "read", "metadata": "read"},
		})
	})
	mux.HandleFunc("DELETE /installation/token", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.live, bearer(r))
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /repos/octo/api/actions/jobs/11", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.live[bearer(r)] {
			answer(w, 401, map[string]any{"message": "Bad credentials"})
			return
		}
		f.asked++
		status := map[string]any{"run_id": 5, "status": "in_progress"}
		if f.ended {
			status = map[string]any{"run_id": 5, "status": "completed", "conclusion": "success"}
		}
		answer(w, 200, status)
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func bearer(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

// tokens returns how many were made and how many live.
func (f *forge) tokens() (made, live int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made, len(f.live)
}

// openTest makes a broker that watches the jobs of a forge.
func openTest(t *testing.T, f *forge) *running {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "etc")
	_, err := initialize(dir, initOptions{URL: "https://daypass.example.com", Listen: "127.0.0.1:0", Proxy: "edge-1", ProxyListen: "127.0.0.1:0"})
	must(t, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	must(t, os.WriteFile(filepath.Join(dir, "keys", "app.pem"), block, 0o600))
	config := fmt.Sprintf(`
server: { url: "https://daypass.example.com", tls: { certificate: pki/server.pem, private_key: pki/server.key, client_ca: pki/ca.pem } }
issuing: { jobs: 1s }
identity_providers:
  - { name: github-actions, preset: github-actions, audiences: ["https://daypass.example.com"], jobs: { issuer: github, api: %[1]q, allow_plain: true } }
issuers:
  - { name: github, github_app: { app: "123456", url: %[1]q, allow_plain: true, private_key: { file: keys/app.pem } } }
targets:
  - { name: api, credential: { issuer: github, params: { owner: octo, repositories: api, permissions: "contents:read" } } }
rules:
  - { name: ci, who: principal.provider == "github-actions", may: [{ target: api }], ttl: 15m }
`, f.URL)
	path := filepath.Join(dir, "daypass.yaml")
	must(t, os.WriteFile(path, []byte(config), 0o600))
	s, err := loadSettings(path)
	must(t, err)
	r, err := open(t.Context(), s, slog.New(slog.NewTextHandler(io.Discard, nil)))
	must(t, err)
	t.Cleanup(r.close)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// own returns the entries about what the broker minted for itself.
func (r *running) own(t *testing.T) (all []audit.Event) {
	t.Helper()
	checkpoint, err := r.log.Checkpoint(context.Background())
	must(t, err)
	for e, err := range r.log.Entries(context.Background(), 0, checkpoint.Size) {
		must(t, err)
		_, event, err := audit.Parse(e.Canonical)
		must(t, err)
		if strings.HasPrefix(string(event.Kind), "own.") {
			all = append(all, event)
		}
	}
	return all
}

// wantOwn wants these kinds of entry, all for one purpose, and returns the entries.
func (r *running) wantOwn(t *testing.T, purpose string, want ...audit.Kind) []audit.Event {
	t.Helper()
	all := r.own(t)
	var kinds []audit.Kind
	for _, e := range all {
		kinds = append(kinds, e.Kind)
		if e.Detail["purpose"] != purpose {
			t.Errorf("%s has the purpose %q, want %q", e.Kind, e.Detail["purpose"], purpose)
		}
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Fatalf("the entries differ: %s", diff)
	}
	return all
}

const watchesAPI = "job watcher of octo/api"

// TestJobTokensAreOnRecord holds that each token which the watcher of jobs has made for itself has its
// entries, that there is one token for many questions, and that the one which it replaces ends.
func TestJobTokensAreOnRecord(t *testing.T) {
	f := newForge(t)
	r := openTest(t, f)
	tokens := &appTokens{issuer: "github", own: r.broker, held: map[string]*appToken{}}
	var got []cred.Secret
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		wg.Go(func() {
			token, err := tokens.token(t.Context(), "octo/api")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, token)
		})
	}
	wg.Wait()
	if made, _ := f.tokens(); made != 1 || slices.ContainsFunc(got, func(s cred.Secret) bool { return s.RevealString() != "ghs_token1" }) {
		t.Fatalf("%d tokens were made for one repository", made)
	}
	first := r.wantOwn(t, watchesAPI, audit.OwnIntent, audit.OwnIssued)
	if l := first[1].Lease; l.Issuer != "github" || !l.Revocable || l.SecretFingerprint == "" || l.Note != "" ||
		time.Until(l.NotAfter) < 58*time.Minute || first[0].Lease.NotAfter.Before(l.NotAfter) {
		t.Errorf("recorded %+v, and before it %+v", l, first[0].Lease)
	}
	tokens.held["octo/api"].until = time.Time{}
	token, err := tokens.token(t.Context(), "octo/api")
	must(t, err)
	if made, live := f.tokens(); made != 2 || live != 1 || token.RevealString() != "ghs_token2" {
		t.Errorf("%d tokens were made, %d live", made, live)
	}
	all := r.wantOwn(t, watchesAPI, audit.OwnIntent, audit.OwnIssued, audit.OwnIntent, audit.OwnIssued, audit.OwnRevoking, audit.OwnRevoked)
	if all[4].Lease.ID != first[0].Lease.ID {
		t.Errorf("%s was ended, want %s", all[4].Lease.ID, first[0].Lease.ID)
	}
	if _, err := tokens.token(t.Context(), "elsewhere/app"); err == nil {
		t.Fatal("the app is not installed there")
	}
	all = r.own(t)
	if last := all[len(all)-1]; last.Kind != audit.OwnFailed || last.Detail["purpose"] != "job watcher of elsewhere/app" || last.Error == nil {
		t.Errorf("the log ends with %+v", last)
	}
}

// TestWatchedJobs holds that the broker which watches jobs has its tokens from itself, and ends them when
// it stops.
func TestWatchedJobs(t *testing.T) {
	f := newForge(t)
	r := openTest(t, f)
	job := cred.Principal{
		Provider: "github-actions", Issuer: "https://token.actions.githubusercontent.com", Subject: "repo:octo/api:ref:refs/heads/main", Kind: cred.KindWorkload,
		Claims: map[string]any{"repository": "octo/api", "run_id": "5", "run_attempt": "1", "check_run_id": "11"},
	}
	g, err := r.broker.Exchange(t.Context(), broker.Caller{Principal: job}, cred.Request{Target: "api"})
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.broker.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); g.State() != cred.GrantRevoked; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the grant is %s", g.State())
		}
		f.mu.Lock()
		f.ended = f.asked > 0
		f.mu.Unlock()
		if g, _, err = r.broker.GetGrant(t.Context(), job, g.ID); err != nil {
			t.Fatal(err)
		}
	}
	r.wantOwn(t, watchesAPI, audit.OwnIntent, audit.OwnIssued)
	stop()
	must(t, <-done)
	r.wantOwn(t, watchesAPI, audit.OwnIntent, audit.OwnIssued, audit.OwnRevoking, audit.OwnRevoked)
	if made, live := f.tokens(); made != 1 || live != 0 {
		t.Errorf("%d tokens were made, %d live", made, live)
	}
}

// sessions is an issuer of AWS sessions, which nobody can end.
type sessions struct {
	issuer.Issuer
	before func() // the session is made
	fails  bool
	life   time.Duration // zero: as long as is asked for
	from   cred.CredentialSource
}

func (s *sessions) Issue(_ context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	s.from = spec.Target.Credential
	s.before()
	if s.fails {
		return cred.Credential{}, cred.Lease{}, issuer.NotIssued("test", "", "the source is not there", errors.New("no route"))
	}
	if s.life > 0 {
		spec.NotAfter = time.Now().Add(s.life)
	}
	c := cred.Credential{Type: cred.AWS, NotAfter: spec.NotAfter, Fields: map[string]cred.Secret{
		"access_key_id": cred.SecretString("ASIAKEEPERKEEPERKEEP"), "secret_access_key": cred.SecretString("keeper"), "session_token": cred.SecretString("session"),
	}}
	return c, cred.Lease{NotAfter: spec.NotAfter, Note: "nobody can end it"}, nil
}

// keeper opens what looks after the access keys of aws-root, with credentials of an issuer.
func (r *running) keeper(t *testing.T, from *sessions) issuer.KeyLister {
	t.Helper()
	iam := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<ListAccessKeysResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ListAccessKeysResult>
			<AccessKeyMetadata/><IsTruncated>false</IsTruncated></ListAccessKeysResult></ListAccessKeysResponse>`)
	}))
	t.Cleanup(iam.Close)
	r.issuers["vault"] = from
	text := fmt.Sprintf("path: aws/sts/key-keeper\nparams: { method: write }\nendpoint: %s/\nallow_plain: true\nuser: vault-root\n", iam.URL)
	root, problems := strictyaml.Parse("x", []byte(text))
	var v keysSection
	if problems = problems.Merge(root.Decode(&v)); len(problems) > 0 {
		t.Fatal(problems)
	}
	keys, err := v.open(&settings{}, workshop{own: r.broker, root: "aws-root"}, "vault")
	must(t, err)
	return keys
}

// TestKeyCredentialsAreOnRecord holds that what looks after access keys has its entries, once for many
// requests, and that it is minted as a target's is: with params, without which a path of aws/sts mints
// nothing.
func TestKeyCredentialsAreOnRecord(t *testing.T) {
	r := openTest(t, newForge(t))
	from := &sessions{fails: true}
	keys := r.keeper(t, from)
	const purpose = "access keys of aws-root"

	from.before = func() { r.wantOwn(t, purpose, audit.OwnIntent) }
	if _, err := keys.List(t.Context()); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("List: %v", err)
	}
	r.wantOwn(t, purpose, audit.OwnIntent, audit.OwnFailed)
	want := cred.CredentialSource{Issuer: "vault", Path: "aws/sts/key-keeper", Params: map[string]string{"method": "write"}}
	if diff := cmp.Diff(want, from.from); diff != "" {
		t.Error(diff)
	}

	from.fails, from.before = false, func() { r.wantOwn(t, purpose, audit.OwnIntent, audit.OwnFailed, audit.OwnIntent) }
	for range 3 {
		if _, err := keys.List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all := r.wantOwn(t, purpose, audit.OwnIntent, audit.OwnFailed, audit.OwnIntent, audit.OwnIssued)
	l := all[3].Lease
	if left := time.Until(l.NotAfter); l.Revocable || l.Note != "nobody can end it" || left > keyCredentialLife || left < keyCredentialLife-time.Minute {
		t.Errorf("recorded %+v", l)
	}
}

// TestKeyCredentialsAreReplacedInTime holds that none is used up to its own end, which may come earlier than
// was asked for.
func TestKeyCredentialsAreReplacedInTime(t *testing.T) {
	for life, minted := range map[time.Duration]int{0: 1, time.Hour: 1, 14 * time.Minute: 1, time.Nanosecond: 3} {
		r := openTest(t, newForge(t))
		keys := r.keeper(t, &sessions{before: func() {}, life: life})
		for range 3 {
			if _, err := keys.List(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		issued := 0
		for _, e := range r.own(t) {
			if e.Kind == audit.OwnIssued {
				issued++
			}
		}
		if issued != minted {
			t.Errorf("where one lives for %v, %d were minted for 3 requests, want %d", life, issued, minted)
		}
	}
}
