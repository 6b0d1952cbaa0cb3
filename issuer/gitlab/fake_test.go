package gitlab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const fakeProject = "octo/api" // is number 7 too

// fake is as much of GitLab as its token API shows, with its statuses and traps: an end is a date, a
// project that one may not see is not there, lists come in pages, a rotated token keeps its name and
// gets another number, and who uses a rotated token ends the whole family.
type fake struct {
	url  string
	root string // the token that makes the others

	mu      sync.Mutex // owns what follows
	tokens  []*fakeToken
	now     func() time.Time
	ancient bool                 // ignores the filters of lists
	hidden  bool                 // the project
	perPage int                  // overrules the request; zero: not
	alter   func(map[string]any) // changes the answer of what makes a token
	status  int                  // of the next answer of what makes a token; zero: as it is
	limit   int                  // how many of the next requests are limited

	retryAfter string // what is said to those, in seconds
	requests   []string
}

type fakeToken struct {
	id      int64
	secret  string
	name    string
	scopes  []string
	level   int
	expires string
	revoked bool
	family  int64
	project bool
}

func newFake(t testing.TB) *fake {
	f := &fake{now: time.Now}
	f.root = f.add("root", []string{"api"}, 50, false).secret
	for n := range 3 {
		f.add(fmt.Sprintf("somebody's %d", n), []string{"read_api"}, 20, true)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v4/projects/{id}/access_tokens", f.create)
	mux.HandleFunc("GET /api/v4/projects/{id}/access_tokens", f.list)
	mux.HandleFunc("GET /api/v4/projects/{id}/access_tokens/{token}", f.get)
	mux.HandleFunc("DELETE /api/v4/projects/{id}/access_tokens/{token}", f.end)
	mux.HandleFunc("POST /api/v4/projects/{id}/access_tokens/self/rotate", f.rotate)
	mux.HandleFunc("POST /api/v4/personal_access_tokens/self/rotate", f.rotate)
	mux.HandleFunc("GET /api/v4/personal_access_tokens/self", f.self)
	mux.HandleFunc("DELETE /api/v4/personal_access_tokens/self", f.self)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		if f.limit > 0 {
			f.limit--
			w.Header().Set("Retry-After", f.retryAfter)
			w.WriteHeader(429)
			_, _ = w.Write([]byte("Retry later\n"))
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// add makes a token as if somebody had, and returns it.
func (f *fake) add(name string, scopes []string, level int, project bool) *fakeToken {
	id := int64(len(f.tokens) + 1)
	tok := &fakeToken{
		id: id, secret: fmt.Sprintf("%s-%s%020d", "glpat", "x", id), name: name, scopes: scopes, level: level,
		expires: f.now().UTC().AddDate(0, 1, 0).Format(dateForm), family: id, project: project,
	}
	f.tokens = append(f.tokens, tok)
	return tok
}

func (f *fake) alive(tok *fakeToken) bool {
	end, err := time.Parse(dateForm, tok.expires)
	return !tok.revoked && (err != nil || f.now().Before(end))
}

// caller returns the token that a request comes with, nil after an answer of 401.
func (f *fake) caller(w http.ResponseWriter, r *http.Request) *fakeToken {
	secret := r.Header.Get("PRIVATE-TOKEN")
	for _, tok := range f.tokens {
		if tok.secret != secret {
			continue
		}
		if f.alive(tok) {
			return tok
		}
		for _, other := range f.tokens { // reuse detection
			if other.family == tok.family {
				other.revoked = true
			}
		}
	}
	reply(w, 401, map[string]any{"error": "invalid_token", "error_description": "Token was revoked. You have to re-authorize from the user."})
	return nil
}

// owner is a caller who may manage the project's tokens.
func (f *fake) owner(w http.ResponseWriter, r *http.Request) bool {
	tok := f.caller(w, r)
	switch id := r.PathValue("id"); {
	case tok == nil:
	case f.hidden, id != fakeProject && id != "7":
		reply(w, 404, map[string]any{"message": "404 Project Not Found"})
	case tok.level < 40 || !slices.Contains(tok.scopes, "api"):
		reply(w, 403, map[string]any{"error": "insufficient_scope"})
	default:
		return true
	}
	return false
}

func (f *fake) create(w http.ResponseWriter, r *http.Request) {
	if !f.owner(w, r) {
		return
	}
	var ask tokenRequest
	if json.NewDecoder(r.Body).Decode(&ask) != nil || ask.Name == "" || len(ask.Scopes) == 0 {
		reply(w, 400, map[string]any{"error": "name is missing, scopes is missing"})
		return
	}
	day, err := time.Parse(dateForm, ask.ExpiresAt)
	if err != nil || !day.After(f.now()) || day.After(f.now().AddDate(1, 0, 0)) {
		reply(w, 400, map[string]any{"message": "400 Bad request - Expiration date must be in the future"})
		return
	}
	tok := f.add(ask.Name, ask.Scopes, ask.AccessLevel, true)
	tok.expires = ask.ExpiresAt
	f.answerMade(w, 201, tok)
}

func (f *fake) answerMade(w http.ResponseWriter, status int, tok *fakeToken) {
	body := f.shown(tok)
	body["token"] = tok.secret
	if f.alter != nil {
		f.alter(body)
	}
	if f.status != 0 {
		status, f.status = f.status, 0
	}
	reply(w, status, body)
}

func (f *fake) shown(tok *fakeToken) map[string]any {
	return map[string]any{
		"id": tok.id, "name": tok.name, "scopes": tok.scopes, "access_level": tok.level, "expires_at": tok.expires,
		"active": f.alive(tok), "revoked": tok.revoked, "user_id": 1000 + tok.id, "created_at": "2026-11-22T01:02:03.000Z", "last_used_at": nil, "description": "",
	}
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	if !f.owner(w, r) {
		return
	}
	all := []map[string]any{}
	q := r.URL.Query()
	for _, tok := range slices.Backward(f.tokens) {
		match := f.ancient || strings.Contains(tok.name, q.Get("search")) && (q.Get("state") != "active" || f.alive(tok))
		if tok.project && match {
			all = append(all, f.shown(tok))
		}
	}
	page, _ := strconv.Atoi(q.Get("page"))
	per, _ := strconv.Atoi(q.Get("per_page"))
	if f.perPage > 0 {
		per = f.perPage
	}
	from := min((max(page, 1)-1)*per, len(all))
	to := min(from+per, len(all))
	w.Header().Set("X-Next-Page", "")
	if to < len(all) {
		w.Header().Set("X-Next-Page", strconv.Itoa(max(page, 1)+1))
	}
	reply(w, 200, all[from:to])
}

func (f *fake) find(r *http.Request) *fakeToken {
	id, _ := strconv.ParseInt(r.PathValue("token"), 10, 64)
	for _, tok := range f.tokens {
		if tok.id == id && tok.project {
			return tok
		}
	}
	return nil
}

func (f *fake) get(w http.ResponseWriter, r *http.Request) {
	if !f.owner(w, r) {
		return
	}
	tok := f.find(r)
	if tok == nil {
		reply(w, 404, map[string]any{"message": "404 Could not find project access token"})
		return
	}
	reply(w, 200, f.shown(tok))
}

func (f *fake) end(w http.ResponseWriter, r *http.Request) {
	if !f.owner(w, r) {
		return
	}
	tok := f.find(r)
	if tok == nil || tok.revoked {
		reply(w, 404, map[string]any{"message": "404 Could not find project access token"})
		return
	}
	tok.revoked = true
	w.WriteHeader(204)
}

func (f *fake) rotate(w http.ResponseWriter, r *http.Request) {
	tok := f.caller(w, r)
	var ask rotationRequest
	switch {
	case tok == nil:
		return
	case tok.project != strings.Contains(r.URL.Path, "/projects/"):
		reply(w, 405, map[string]any{"message": "405 Method Not Allowed"})
		return
	case !slices.Contains(tok.scopes, "api") && !slices.Contains(tok.scopes, "self_rotate"):
		reply(w, 403, map[string]any{"error": "insufficient_scope"})
		return
	case json.NewDecoder(r.Body).Decode(&ask) != nil:
		reply(w, 400, map[string]any{"message": "400 Bad request"})
		return
	}
	tok.revoked = true
	next := f.add(tok.name, tok.scopes, tok.level, tok.project)
	next.family, next.expires = tok.family, ask.ExpiresAt
	f.answerMade(w, 200, next)
}

func (f *fake) self(w http.ResponseWriter, r *http.Request) {
	tok := f.caller(w, r)
	switch {
	case tok == nil:
	case r.Method == http.MethodDelete:
		tok.revoked = true
		w.WriteHeader(204)
	default:
		shown := f.shown(tok)
		delete(shown, "access_level")
		reply(w, 200, shown)
	}
}

// living counts the project's tokens that work, those of somebody else left out.
func (f *fake) living() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, tok := range f.tokens {
		if tok.project && f.alive(tok) && !strings.HasPrefix(tok.name, "somebody's") {
			n++
		}
	}
	return n
}

// bySecret returns a token.
func (f *fake) bySecret(secret string) *fakeToken {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, tok := range f.tokens {
		if tok.secret == secret {
			return tok
		}
	}
	return nil
}

// set changes the fake.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
