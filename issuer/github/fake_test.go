package github

import (
	"crypto/rsa"
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

	"github.com/golang-jwt/jwt/v5"
)

const fakeApp = "123456"

// fake is as much of GitHub as a GitHub App sees, with GitHub's own statuses, wordings and traps: a
// list that is missing or empty means everything, names are the same in either case, a renamed
// repository is found by its old name, and a JWT is measured by GitHub's clock.
type fake struct {
	url string

	mu        sync.Mutex // owns what follows
	key       *rsa.PublicKey
	second    *rsa.PublicKey // of an app that has two keys
	skew      time.Duration  // GitHub's clock against ours
	stateless bool           // the token format of 2026
	owners    map[string]*fakeOwner
	tokens    map[string]*fakeToken
	requests  []string
	made      int

	status    int                                               // of a token's answer, where it is not 201
	alter     func(map[string]any)                              // changes a token's answer
	intercept func(w http.ResponseWriter, r *http.Request) bool // answers in GitHub's place, called unlocked
	held      func()                                            // called unlocked between the making of a token and the answer
}

type fakeOwner struct {
	kind         string // orgs or users
	login        string
	installation int64
	account      int64
	repositories map[string]string // the name today, by any name in lower case
	permissions  map[string]string
	suspended    bool
}

type fakeToken struct {
	repositories []string
	permissions  map[string]string
	ends         time.Time
}

// newFake starts a GitHub whose API stands below a path.
func newFake(t testing.TB, base string) *fake {
	f := &fake{key: &testKey().PublicKey, tokens: map[string]*fakeToken{}, owners: map[string]*fakeOwner{}}
	for n, kind := range []string{"orgs", "users"} {
		login := []string{"Octo-Org", "ada_corp"}[n]
		f.owners[strings.ToLower(login)] = &fakeOwner{
			kind: kind, login: login, installation: int64(100 + n), account: int64(9000 + n),
			repositories: map[string]string{"api": "api", "web": "Web", "docs": "docs", "old-name": "new-name", "new-name": "new-name"},
			permissions:  map[string]string{"metadata": "read", "contents": "write", "issues": "write", "administration": "read"},
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /app", f.app)
	mux.HandleFunc("GET /{kind}/{owner}/installation", f.findInstallation)
	mux.HandleFunc("POST /app/installations/{id}/access_tokens", f.mint)
	mux.HandleFunc("DELETE /installation/token", f.revoke)
	mux.HandleFunc("GET /installation/repositories", f.use)
	srv := httptest.NewServer(http.StripPrefix(base, f.front(mux)))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// front is what every request meets first.
func (f *fake) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		intercept := f.intercept
		w.Header().Set("Date", f.now().UTC().Format(http.TimeFormat))
		f.mu.Unlock()
		switch {
		case intercept != nil && intercept(w, r):
		case r.Header.Get("User-Agent") == "":
			problemAnswer(w, 403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header")
		case r.Header.Get("X-GitHub-Api-Version") != "2022-11-28":
			problemAnswer(w, 400, "The given X-GitHub-Api-Version is not supported")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (f *fake) now() time.Time { return time.Now().Add(f.skew) }

// isApp verifies the app's JWT as GitHub does, and answers 401 where it does not hold.
func (f *fake) isApp(w http.ResponseWriter, r *http.Request) bool {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	claims := jwt.RegisteredClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(raw, &claims, func(*jwt.Token) (any, error) { return f.key, nil })
	if err != nil && f.second != nil {
		_, err = parser.ParseWithClaims(raw, &claims, func(*jwt.Token) (any, error) { return f.second, nil })
	}
	now := f.now()
	switch {
	case !ok || err != nil:
		problemAnswer(w, 401, "A JSON web token could not be decoded")
	case claims.Issuer != fakeApp:
		problemAnswer(w, 401, "'Issuer' claim ('iss') must be an Integer")
	case claims.IssuedAt == nil || claims.IssuedAt.After(now):
		problemAnswer(w, 401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
	case claims.ExpiresAt == nil || !claims.ExpiresAt.After(now):
		problemAnswer(w, 401, "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires")
	case claims.ExpiresAt.After(now.Add(10 * time.Minute)):
		problemAnswer(w, 401, "'Expiration time' claim ('exp') is too far in the future")
	default:
		return true
	}
	return false
}

func (f *fake) app(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isApp(w, r) {
		jsonAnswer(w, 200, map[string]any{
			"id": 123456, "slug": "daypass", "name": "daypass", "owner": map[string]any{"login": "octo-org", "type": "Organization"},
			"html_url": "https://github.com/apps/daypass",
		})
	}
}

func (f *fake) findInstallation(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isApp(w, r) {
		return
	}
	o := f.owners[strings.ToLower(r.PathValue("owner"))]
	if o == nil || o.kind != r.PathValue("kind") {
		problemAnswer(w, 404, "Not Found")
		return
	}
	var suspended any
	if o.suspended {
		suspended = "2026-01-02T03:04:05Z"
	}
	jsonAnswer(w, 200, map[string]any{
		"id": o.installation, "account": map[string]any{"login": o.login, "id": o.account, "type": "Organization"}, "app_id": 123456,
		"permissions": o.permissions, "repository_selection": "all", "suspended_at": suspended, "suspended_by": nil,
	})
}

func (f *fake) mint(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	body, status := f.mintLocked(w, r)
	held := f.held
	f.mu.Unlock()
	if body == nil {
		return
	}
	if held != nil {
		held()
	}
	jsonAnswer(w, status, body)
}

// mintLocked makes a token and returns what to answer, or answers with a refusal itself.
func (f *fake) mintLocked(w http.ResponseWriter, r *http.Request) (map[string]any, int) {
	if !f.isApp(w, r) {
		return nil, 0
	}
	o := f.byInstallation(r.PathValue("id"))
	var ask struct {
		Repositories []string          `json:"repositories"`
		Permissions  map[string]string `json:"permissions"`
	}
	switch {
	case o == nil:
		problemAnswer(w, 404, "Not Found")
		return nil, 0
	case o.suspended:
		problemAnswer(w, 403, "This installation has been suspended")
		return nil, 0
	case json.NewDecoder(r.Body).Decode(&ask) != nil:
		problemAnswer(w, 400, "Problems parsing JSON")
		return nil, 0
	case len(ask.Repositories) > 500:
		problemAnswer(w, 422, "Too many repositories, the maximum is 500")
		return nil, 0
	}
	tok, message := o.token(ask.Repositories, ask.Permissions)
	if message != "" {
		problemAnswer(w, 422, message)
		return nil, 0
	}
	f.made++
	tok.ends = f.now().Add(time.Hour)
	name := f.tokenName(r)
	f.tokens[name] = tok
	return f.tokenAnswer(o, name, tok, len(ask.Repositories) > 0)
}

// token applies GitHub's rules, its defaults included: what is left out is everything.
func (o *fakeOwner) token(repositories []string, permissions map[string]string) (tok *fakeToken, message string) {
	tok = &fakeToken{permissions: map[string]string{"metadata": "read"}}
	if len(repositories) == 0 {
		for _, name := range o.repositories {
			repositories = append(repositories, name)
		}
	}
	for _, name := range repositories {
		today, ok := o.repositories[strings.ToLower(name)]
		if !ok {
			return nil, "There is at least one repository that does not exist or is not accessible to the parent installation."
		}
		if !slices.Contains(tok.repositories, today) {
			tok.repositories = append(tok.repositories, today)
		}
	}
	if len(permissions) == 0 {
		permissions = o.permissions
	}
	for name, level := range permissions {
		if levels[level] == 0 || levels[level] > levels[o.permissions[name]] {
			return nil, "The permissions requested are not granted to this installation."
		}
		tok.permissions[name] = level
	}
	return tok, ""
}

func (f *fake) byInstallation(id string) *fakeOwner {
	for _, o := range f.owners {
		if strconv.FormatInt(o.installation, 10) == id {
			return o
		}
	}
	return nil
}

// tokenName makes a token of either format; the request's header overrules the rollout.
func (f *fake) tokenName(r *http.Request) string {
	stateless := f.stateless
	switch r.Header.Get("X-GitHub-Stateless-S2S-Token") {
	case "enabled":
		stateless = true
	case "disabled":
		stateless = false
	}
	if !stateless {
		return fmt.Sprintf("%s_%036d", "ghs", f.made)
	}
	part := strings.Repeat("Ab-9_xY", 34)
	return fmt.Sprintf("%s_%s_%s.%s.%d", "ghs", fakeApp, part, part[:234], 10000000000+f.made)
}

func (f *fake) tokenAnswer(o *fakeOwner, name string, tok *fakeToken, selected bool) (map[string]any, int) {
	body := map[string]any{
		"token": name, "expires_at": tok.ends.UTC().Format("2006-01-02T15:04:05Z"), "permissions": tok.permissions, "repository_selection": "all",
	}
	if selected {
		repositories := []any{}
		for n, name := range tok.repositories {
			repositories = append(repositories, map[string]any{"id": n, "name": name, "full_name": o.login + "/" + name, "owner": map[string]any{"login": o.login}})
		}
		body["repository_selection"], body["repositories"] = "selected", repositories
	}
	if f.alter != nil {
		f.alter(body)
	}
	if f.status != 0 {
		return body, f.status
	}
	return body, 201
}

// holder returns the token that a request comes with, nil after an answer of 401.
func (f *fake) holder(w http.ResponseWriter, r *http.Request) (string, *fakeToken) {
	name, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	tok := f.tokens[name]
	if tok == nil || !f.now().Before(tok.ends) {
		problemAnswer(w, 401, "Bad credentials")
		return name, nil
	}
	return name, tok
}

func (f *fake) revoke(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name, tok := f.holder(w, r); tok != nil {
		delete(f.tokens, name)
		w.WriteHeader(204)
	}
}

func (f *fake) use(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, tok := f.holder(w, r); tok != nil {
		jsonAnswer(w, 200, map[string]any{"total_count": len(tok.repositories), "permissions": tok.permissions})
	}
}

// alive counts the tokens that work.
func (f *fake) alive() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tokens)
}

// set changes the fake.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// count returns how many requests began so.
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

func problemAnswer(w http.ResponseWriter, status int, message string) {
	jsonAnswer(w, status, map[string]any{"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)})
}

func jsonAnswer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
