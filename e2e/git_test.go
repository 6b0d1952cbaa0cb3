package e2e_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/daypass-io/daypass/audit"
)

// gitServer is git's own smart HTTP server, before which stands a check of who comes.
type gitServer struct {
	url  string
	root string
	cgi  *cgi.Handler

	mu      sync.Mutex // guards all below
	may     func(user, password string) bool
	schemes []string // of the credentials that came
}

// newGitServer starts a server with one repository, repo.git, that has one commit on main.
func newGitServer(t *testing.T) *gitServer {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatalf("git: %v", err)
	}
	g := &gitServer{root: t.TempDir()}
	g.cgi = &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Dir: g.root,
		Env: []string{"GIT_PROJECT_ROOT=" + g.root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=somebody", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + g.root},
	}
	repo := filepath.Join(g.root, "repo.git")
	for _, args := range [][]string{
		{"init", "-q", "--bare", "--initial-branch=main", repo},
		{"--git-dir=" + repo, "config", "http.receivepack", "true"},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

func (g *gitServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.lets(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	r.Header.Del("Authorization")
	g.cgi.ServeHTTP(w, r)
}

func (g *gitServer) lets(r *http.Request) bool {
	scheme, _, sent := strings.Cut(r.Header.Get("Authorization"), " ")
	g.mu.Lock()
	defer g.mu.Unlock()
	if !sent {
		return false
	}
	g.schemes = append(g.schemes, scheme)
	user, password, ok := r.BasicAuth()
	return ok && g.may(user, password)
}

// exchanges counts what the broker has granted for a target.
func (c *cluster) exchanges(target string) int {
	c.t.Helper()
	n := 0
	for _, e := range c.export() {
		if e.Kind == audit.ExchangeGranted && e.Request != nil && e.Request.Target == target {
			n++
		}
	}
	return n
}

// works clones a repository, changes it, pushes, and reads the change back in another clone.
func (p *person) works(url string) {
	p.t.Helper()
	p.runs("git", "clone", "-q", url, "work")
	work := filepath.Join(p.dir, "work")
	// More than what fits into one packet, and nothing that compresses away.
	raw := make([]byte, 300_000)
	rand.Read(raw)
	content := hex.EncodeToString(raw)
	if err := os.WriteFile(filepath.Join(work, "file"), []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.runs("git", "-C", work, "checkout", "-q", "-B", "main")
	p.runs("git", "-C", work, "add", "file")
	p.runs("git", "-C", work, "commit", "-q", "-m", "change")
	p.runs("git", "-C", work, "push", "-q", "origin", "main")
	if refs := p.runs("git", "ls-remote", url); !strings.Contains(refs, "refs/heads/main") {
		p.t.Errorf("the server has\n%s", refs)
	}
	p.runs("git", "clone", "-q", url, "again")
	if got, err := os.ReadFile(filepath.Join(p.dir, "again", "file")); err != nil || string(got) != content {
		p.t.Errorf("the second clone has %d bytes (%v), want %d", len(got), err, len(content))
	}
}

// canBearer reports whether the git on this machine knows the capability authtype, which 2.46 brought.
func canBearer(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("git", "version").Output()
	var major, minor int
	if _, scanErr := fmt.Sscanf(string(out), "git version %d.%d", &major, &minor); err != nil || scanErr != nil {
		t.Fatalf("git version: %v, %v\n%s", err, scanErr, out)
	}
	return major > 2 || major == 2 && minor >= 46
}

// TestGitWithADirectCredential: git works with users that Vault makes; the server takes only those that
// can log in to PostgreSQL.
func TestGitWithADirectCredential(t *testing.T) {
	v := newVaultCluster(t)
	g := newGitServer(t)
	g.may = func(user, password string) bool { return v.pg.Login(t.Context(), user, password) == nil }
	p := v.newPerson("DAYPASS_ID_TOKEN=" + v.job())
	p.runs("daypass", "helper", "install", "git", "--host", g.url, "--target", "orders-db", "--scope", "read")
	url := g.url + "/repo.git"
	p.works(url)
	if n := v.exchanges("orders-db"); n != 1 {
		t.Errorf("%d grants for one person's work, want one that is kept", n)
	}

	// The grant is revoked: git is refused once, says so to the helper, and gets a new one.
	grant := strings.Fields(p.runs("daypass", "grants", "list", "--target", "orders-db", "--state", "active"))
	for i, word := range grant {
		if strings.HasPrefix(word, "gr_") {
			p.runs("daypass", "grants", "revoke", grant[i])
		}
	}
	if r := p.tries("git", "ls-remote", url); r.code == 0 {
		t.Error("a revoked user was let in")
	}
	p.runs("git", "ls-remote", url)
	if n := v.exchanges("orders-db"); n != 2 {
		t.Errorf("%d grants after one was revoked, want 2", n)
	}
}

// TestGitThroughTheProxy: git shows the grant token, and the proxy puts the real credential in its place.
func TestGitThroughTheProxy(t *testing.T) {
	c := newCluster(t)
	g := newGitServer(t)
	g.may = func(user, password string) bool { return user == "robot" && password == upstreamKey }
	c.configure(fmt.Sprintf(`
issuers:
  - { name: keys, static: { secrets: { git: { username: "env:GIT_ROBOT", password: "env:UPSTREAM_KEY" } } } }
targets:
  - name: code
    credential: { issuer: keys, path: git }
    http: { upstream: "%s", allow_private: true }
  - name: closed
    credential: { issuer: keys, path: git }
    http: { upstream: "%s", allow_private: true }
rules:
  - { name: jobs, who: principal.provider == "ci", may: [{ target: code, scopes: [push] }], ttl: 10m }
`, g.url, g.url))
	c.startBroker("UPSTREAM_KEY="+upstreamKey, "GIT_ROBOT=robot")
	c.startProxy()
	p := c.newPerson("DAYPASS_ID_TOKEN=" + c.job())
	place := c.proxyURL + "/code"
	p.runs("daypass", "helper", "install", "git", "--host", place, "--target", "code", "--scope", "push")
	p.works(place + "/repo.git")
	if n := c.exchanges("code"); n != 1 {
		t.Errorf("%d grants, want 1", n)
	}

	// As a bearer token, where this git can.
	p.runs("daypass", "helper", "install", "git", "--host", place, "--target", "code", "--scope", "push", "--bearer")
	p.env = append(p.env, "GIT_TRACE_CURL=1")
	want := "basic"
	if canBearer(t) {
		want = "bearer"
	}
	if r := p.tries("git", "ls-remote", place+"/repo.git"); r.code != 0 || !strings.Contains(strings.ToLower(r.stderr), "authorization: "+want) {
		t.Errorf("git ended with %d and was to send %s:\n%s", r.code, want, r.stderr)
	}
	p.env = p.env[:len(p.env)-1]
	if n := c.exchanges("code"); n != 1 {
		t.Errorf("%d grants, want 1", n)
	}

	// What the policy refuses ends there, and git asks nobody for a password.
	p.runs("daypass", "helper", "install", "git", "--host", c.proxyURL+"/closed", "--target", "closed")
	r := p.tries("git", "ls-remote", c.proxyURL+"/closed/repo.git")
	if r.code == 0 || !strings.Contains(r.stderr, "told us to quit") || !strings.Contains(r.stderr, `daypass: error: there is no target "closed"`) {
		t.Errorf("a refused target ended with %d:\n%s", r.code, r.stderr)
	}

	// Whoever is not named gets nothing.
	other := newGitServer(t)
	other.may = func(string, string) bool { return false }
	if r := p.tries("git", "ls-remote", other.url+"/repo.git"); r.code == 0 || len(other.schemes) > 0 {
		t.Errorf("another host was shown %v, and git ended with %d", other.schemes, r.code)
	}
	for _, file := range []string{".gitconfig", "work/.git/config", "again/.git/config"} {
		if b, err := os.ReadFile(filepath.Join(p.dir, file)); err != nil || strings.Contains(string(b), "eyJ") {
			t.Errorf("%s holds a token, or can't be read: %v", file, err)
		}
	}
}
