package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// forge is a fake of the parts of both APIs that are asked: paths, statuses, headers and shapes are
// theirs.
type forge struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex
	now    time.Time
	things map[string]string                // by path: the body of its 200
	fault  func(w http.ResponseWriter) bool // answers in place of what is there, where it returns true
	calls  []string
	full   int // answers with a body
}

const forgeToken = "forge-token"

func newForge(t *testing.T) *forge {
	f := &forge{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), things: map[string]string{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *forge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, r.URL.Path)
	if f.fault != nil && f.fault(w) {
		return
	}
	if r.Method != http.MethodGet || r.URL.RawQuery != "" {
		f.t.Errorf("%s %s", r.Method, r.URL)
	}
	if r.Header.Get("Authorization") != "Bearer "+forgeToken {
		http.Error(w, `{"message":"401 Unauthorized"}`, http.StatusUnauthorized)
		return
	}
	body, ok := f.things[r.URL.Path]
	if !ok {
		http.Error(w, `{"message":"404 Not Found"}`, http.StatusNotFound)
		return
	}
	sum := sha256.Sum256([]byte(body))
	etag := `W/"` + hex.EncodeToString(sum[:8]) + `"`
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	f.full++
	_, _ = fmt.Fprint(w, body)
}

func (f *forge) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *forge) later(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *forge) set(path, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.things[path] = body
}

func (f *forge) breaks(fault func(w http.ResponseWriter) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// asked returns the paths that were asked for since the last call.
func (f *forge) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// watcher asks the forge as both providers.
func (f *forge) watcher() *Watcher {
	f.t.Helper()
	token := func(_ context.Context, place string) (cred.Secret, error) {
		if !regexp.MustCompile(`^(octo/app|[0-9]+)$`).MatchString(place) {
			f.t.Errorf("a token for %q", place)
		}
		return cred.SecretString(forgeToken), nil
	}
	w, err := New([]Config{
		{Provider: "actions", Kind: "github", API: f.URL, AllowPlain: true, Token: token},
		{Provider: "gitlab-ci", Kind: "gitlab", API: f.URL + "/api/v4", AllowPlain: true, Token: token},
	}, f.clock)
	if err != nil {
		f.t.Fatal(err)
	}
	return w
}

func actionsJob(change map[string]any) cred.Principal {
	return principal("actions", map[string]any{
		"repository": "octo/app", "run_id": "29679449", "run_attempt": "2", "check_run_id": "399444496",
	}, change)
}

func gitlabJob(change map[string]any) cred.Principal {
	return principal("gitlab-ci", map[string]any{"project_id": "22", "job_id": "1302", "pipeline_id": "574"}, change)
}

func principal(provider string, claims, change map[string]any) cred.Principal {
	for name, value := range change {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	return cred.Principal{Provider: provider, Subject: "job", Kind: cred.KindWorkload, Claims: claims}
}
