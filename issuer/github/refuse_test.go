package github

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// TestAnswerThatDiffers: a token that is not exactly what was asked is revoked, and nobody gets it.
func TestAnswerThatDiffers(t *testing.T) {
	permission := func(name, level string) func(*fake) {
		return func(f *fake) {
			f.alter = func(body map[string]any) { body["permissions"].(map[string]string)[name] = level }
		}
	}
	field := func(name string, value any) func(*fake) {
		return func(f *fake) { f.alter = func(body map[string]any) { body[name] = value } }
	}
	repository := func(full string) func(*fake) {
		return field("repositories", []any{map[string]any{"full_name": "Octo-Org/api"}, map[string]any{"full_name": full}})
	}
	for name, tamper := range map[string]func(*fake){
		"a permission more":     permission("actions", "read"),
		"a higher level":        permission("issues", "write"),
		"a lower level":         permission("contents", "read"),
		"an unknown level":      permission("contents", "owner"),
		"metadata, but write":   permission("metadata", "write"),
		"no permissions":        field("permissions", map[string]string{}),
		"another repository":    repository("Octo-Org/docs"),
		"another owner's":       repository("evil/web"),
		"one repository less":   field("repositories", []any{map[string]any{"full_name": "Octo-Org/api"}}),
		"no repositories":       field("repositories", []any{}),
		"repositories left out": func(f *fake) { f.alter = func(body map[string]any) { delete(body, "repositories") } },
		"all repositories":      field("repository_selection", "all"),
		"a life of two hours":   field("expires_at", time.Now().Add(2*time.Hour).Format(time.RFC3339)),
		"an end that has been":  field("expires_at", time.Now().Add(-time.Minute).Format(time.RFC3339)),
		"no end":                func(f *fake) { f.alter = func(body map[string]any) { delete(body, "expires_at") } },
		"an unreadable end":     field("expires_at", "soon"),
		"unreadable lists":      field("permissions", []string{"contents"}),
		"200":                   func(f *fake) { f.status = 200 },
		"202":                   func(f *fake) { f.status = 202 },
	} {
		t.Run(name, func(t *testing.T) {
			f, i := world(t)
			tamper(f)
			_, _, err := issue(t, i, nil)
			wantRefusal(t, f, err, cred.Invalid, "SOURCE_GAVE_OTHER")
			if f.made != 1 || f.count("DELETE") != 1 {
				t.Errorf("%d tokens were made and %d revoked, want one of each", f.made, f.count("DELETE"))
			}
		})
	}
}

// TestRenamedRepository: GitHub finds a repository by the name that it had, but the rule does not.
func TestRenamedRepository(t *testing.T) {
	f, i := world(t)
	src := source("octo-org")
	src.Params["repositories"] = "old-name"
	_, _, err := i.Issue(t.Context(), specOf(src, nil))
	wantRefusal(t, f, err, cred.Invalid, "SOURCE_GAVE_OTHER")
}

// TestDifferingTokenStays: where such a token can't be revoked, the error says that one may exist,
// and no second one is made, whatever the answer to the revocation looks like.
func TestDifferingTokenStays(t *testing.T) {
	for _, status := range []int{404, 403, 500} {
		f, i := world(t)
		f.alter = func(body map[string]any) { body["repository_selection"] = "all" }
		f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "DELETE" {
				problemAnswer(w, status, "no")
			}
			return r.Method == "DELETE"
		}
		_, _, err := issue(t, i, nil)
		if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) || f.alive() != 1 || f.made != 1 {
			t.Errorf("%d: %v, %d tokens made, %d live", status, err, f.made, f.alive())
		}
		wantNoSecret(t, err)
	}
}

// TestTokenThatCantBeSpent: what can't stand in a header can't be given out, nor revoked.
func TestTokenThatCantBeSpent(t *testing.T) {
	for _, token := range []any{"", "a b", "a\r\nHost: evil", "é", strings.Repeat("x", maxToken+1), nil, 7} {
		f, i := world(t)
		f.alter = func(body map[string]any) { body["token"] = token }
		_, _, err := issue(t, i, nil)
		if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
			t.Errorf("%.20q: %v, want an Unavailable that leaves it open", token, err)
		}
	}
}

// TestSourceRefuses: what GitHub refuses made nothing, and says so.
func TestSourceRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fake)
		params map[string]string
		kind   cred.Kind
		reason string
	}{
		"a repository that the installation lacks": {func(f *fake) { delete(f.owners["octo-org"].repositories, "web") }, nil, cred.Invalid, "SOURCE_REFUSED"},
		"a permission that the installation lacks": {func(f *fake) { delete(f.owners["octo-org"].permissions, "issues") }, nil, cred.Invalid, "SOURCE_REFUSED"},
		"not installed":                   {func(f *fake) { delete(f.owners, "octo-org") }, nil, cred.Invalid, "NO_INSTALLATION"},
		"suspended":                       {func(f *fake) { f.owners["octo-org"].suspended = true }, nil, cred.Invalid, "NO_INSTALLATION"},
		"another account answers":         {func(f *fake) { f.owners["octo-org"].login = "somebody-else" }, nil, cred.Invalid, "NO_INSTALLATION"},
		"a key that GitHub does not know": {func(f *fake) { f.key = &newKey(2048).PublicKey }, nil, cred.Unavailable, ""},
		"500 at the look-up":              {answering("GET", 500), nil, cred.Unavailable, ""},
		"a redirect at the look-up":       {answering("GET", 301), nil, cred.Unavailable, ""},
		"a redirect at the making":        {answering("POST", 307), nil, cred.Invalid, "SOURCE_REFUSED"},
		"a look-up that is no JSON":       {answering("GET", 200), nil, cred.Unavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, i := world(t)
			c.change(f)
			_, _, err := issue(t, i, c.params)
			wantRefusal(t, f, err, c.kind, c.reason)
			if n := f.count("GET /elsewhere"); n != 0 || f.made != 0 {
				t.Errorf("%d redirects followed, %d tokens made", n, f.made)
			}
		})
	}
}

// answering has the fake answer every request of a method with one status.
func answering(method string, status int) func(*fake) {
	intercept := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method {
			return false
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		return true
	}
	return func(f *fake) { f.set(func() { f.intercept = intercept }) }
}

// Test500 at the making leaves open whether a token was made, and is not repeated.
func Test500(t *testing.T) {
	f, i := world(t)
	answering("POST", 502)(f)
	_, _, err := issue(t, i, nil)
	if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) || f.count("POST") != 1 {
		t.Errorf("%v after %d requests", err, f.count("POST"))
	}
}

// TestInstallationIsRemembered: one look-up serves many tokens, until GitHub does not know it.
func TestInstallationIsRemembered(t *testing.T) {
	f, i := world(t)
	for range 3 {
		if _, _, err := issue(t, i, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.count("GET"); n != 1 {
		t.Errorf("%d look-ups for three tokens", n)
	}
	f.set(func() { f.owners["octo-org"].installation = 777 }) // the app was installed anew
	if _, _, err := issue(t, i, nil); err != nil {
		t.Errorf("the app was installed anew: %v", err)
	}
	f.set(func() { f.owners["octo-org"].suspended = true })
	for _, reason := range []string{"SOURCE_REFUSED", "NO_INSTALLATION"} { // the second one has looked it up
		if _, _, err := issue(t, i, nil); cred.KindOf(err) != cred.Invalid || !strings.Contains(err.Error(), "suspended") {
			t.Errorf("suspended: %v, want %s", err, reason)
		}
	}
	f.set(func() { f.owners["octo-org"].suspended = false })
	if _, _, err := issue(t, i, nil); err != nil {
		t.Errorf("no longer suspended: %v", err)
	}
}

// TestPinnedOwner: an account that took over a name is not the owner.
func TestPinnedOwner(t *testing.T) {
	f, i := world(t)
	src := source("octo-org")
	src.Params["owner_id"] = "9000"
	if _, lease, err := i.Issue(t.Context(), specOf(src, nil)); err != nil || i.Revoke(t.Context(), lease) != nil {
		t.Fatal(err)
	}
	src.Params["owner_id"] = "9001"
	_, _, err := i.Issue(t.Context(), specOf(src, nil))
	wantRefusal(t, f, err, cred.Invalid, "NO_INSTALLATION")
}

// TestLateAnswer: a token that comes after the caller has left is revoked.
func TestLateAnswer(t *testing.T) {
	f, i := world(t)
	release, waiting := make(chan struct{}), make(chan struct{})
	f.held = func() { close(waiting); <-release }
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-waiting; cancel() }()
	_, _, err := i.Issue(ctx, specOf(source("octo-org"), nil))
	if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) || f.alive() != 1 {
		t.Errorf("the caller left: %v, %d tokens live", err, f.alive())
	}
	close(release)
	_ = i.Close() // waits for the answer
	if f.made != 1 || f.alive() != 0 {
		t.Errorf("%d tokens made, %d live", f.made, f.alive())
	}
}

// TestCloseGivesUp: an answer that never comes does not hold Close for longer than Timeout.
func TestCloseGivesUp(t *testing.T) {
	f := newFake(t, "")
	cfg := config(t, f.url)
	cfg.Timeout = 200 * time.Millisecond
	i := open(t, cfg)
	release, waiting := make(chan struct{}), make(chan struct{})
	defer close(release)
	f.held = func() { close(waiting); <-release }
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-waiting; cancel() }()
	if _, _, err := i.Issue(ctx, specOf(source("octo-org"), nil)); err == nil {
		t.Error("issued without an answer")
	}
	began := time.Now()
	_ = i.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// TestRevoke holds what counts as the end of a token.
func TestRevoke(t *testing.T) {
	for status, confirmed := range map[int]bool{204: true, 401: true, 200: false, 302: false, 403: false, 404: false, 429: false, 500: false} {
		f, i := world(t)
		_, lease, err := issue(t, i, nil)
		if err != nil {
			t.Fatal(err)
		}
		answering("DELETE", status)(f)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err = i.Revoke(ctx, cred.Lease{Handle: lease.Handle})
		cancel()
		if confirmed != (err == nil) || !confirmed && cred.KindOf(err) != cred.Unavailable {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// TestForeignHandles: a handle opens with its own key and for its own GitHub alone.
func TestForeignHandles(t *testing.T) {
	f, i := world(t)
	_, lease, err := issue(t, i, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := config(t, f.url)
	other.Sealer = newSealer()
	moved := config(t, strings.Replace(f.url, "127.0.0.1", "localhost", 1))
	flipped := []byte(lease.Handle)
	flipped[len(flipped)-5] ^= 1
	for name, c := range map[string]struct {
		i      *Issuer
		handle string
	}{
		"another key":      {open(t, other), lease.Handle},
		"another GitHub":   {open(t, moved), lease.Handle},
		"changed":          {i, string(flipped)},
		"none":             {i, ""},
		"a bare token":     {i, "ghs" + "_000"},
		"another issuer's": {i, `{"v":1}`},
	} {
		before := f.count("DELETE")
		if err := c.i.Revoke(t.Context(), cred.Lease{Handle: c.handle}); cred.KindOf(err) != cred.Invalid || err == nil {
			t.Errorf("%s: %v, want kind invalid", name, err)
		} else {
			wantNoSecret(t, err)
		}
		if f.count("DELETE") != before {
			t.Errorf("%s: something was sent", name)
		}
	}
	if err := i.Revoke(t.Context(), cred.Lease{Handle: lease.Handle}); err != nil || f.alive() != 0 {
		t.Errorf("its own issuer: %v", err)
	}
}
