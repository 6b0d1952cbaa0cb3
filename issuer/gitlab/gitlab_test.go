package gitlab

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func (f *fake) config(url string) Config {
	return Config{BaseURL: url + "/api/v4", AllowPlain: true, Timeout: 5 * time.Second, Root: func(context.Context) (cred.Secret, error) {
		return cred.SecretString(f.root), nil
	}}
}

func (f *fake) open(t testing.TB, url string) *Issuer {
	t.Helper()
	i, err := New(f.config(url))
	if err != nil {
		t.Fatal(err)
	}
	i.place = "000000000000" // a Front is the same GitLab
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func spec(notAfter time.Time, params ...string) issuer.Spec {
	s := issuer.Spec{
		ID: cred.NewLeaseID(time.Now()), NotAfter: notAfter,
		Target: cred.Target{Name: "api", Credential: cred.CredentialSource{Issuer: "gitlab", Params: map[string]string{
			"project": fakeProject, "scopes": "api,write_repository", "access_level": "developer",
		}}},
		Params: map[string]string{},
	}
	for n := 0; n < len(params); n += 2 {
		s.Params[params[n]] = params[n+1]
	}
	return s
}

// works spends a credential as its holder does.
func (f *fake) works(ctx context.Context, c cred.Credential) error {
	req, err := http.NewRequestWithContext(ctx, "GET", f.url+"/api/v4/personal_access_tokens/self", nil)
	if err != nil {
		return err
	}
	req.Header.Set("PRIVATE-TOKEN", c.Fields["token"].RevealString())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 200 {
		return errors.New(resp.Status)
	}
	return nil
}

func TestIssuerContract(t *testing.T) {
	for _, ancient := range []bool{false, true} {
		f := newFake(t)
		f.ancient = ancient
		issuertest.Test(t, issuertest.Harness{
			New:    func(t *testing.T, url string) issuer.Issuer { return f.open(t, url) },
			Source: f.url, Works: f.works,
			Spec:          func(notAfter time.Time) issuer.Spec { return spec(notAfter) },
			Alive:         func(context.Context) (int, error) { return f.living(), nil },
			UnknownHandle: (&Issuer{place: "000000000000"}).handle(handle{project: fakeProject, name: "daypass-none", id: 99}),
		})
	}
}

func TestIssueSaysTheTrueEnd(t *testing.T) {
	f := newFake(t)
	i := f.open(t, f.url)
	now := time.Date(2026, 3, 4, 22, 0, 0, 0, time.UTC)
	f.now, i.now = func() time.Time { return now }, func() time.Time { return now }
	for _, c := range []struct {
		at, notAfter, end string
		note              bool
	}{
		{"2026-03-04T22:00:00Z", "2026-03-04T23:00:00Z", "2026-03-05", true},
		{"2026-03-04T22:00:00Z", "2026-03-05T00:00:00Z", "2026-03-05", false},
		{"2026-03-04T22:00:00Z", "2026-03-05T00:00:01Z", "2026-03-06", true},
		{"2026-03-04T22:00:00Z", "2026-03-05T01:30:00+02:00", "2026-03-05", true},
		{"2026-03-04T23:58:00Z", "2026-03-04T23:59:00Z", "2026-03-06", true},
	} {
		now = at(t, c.at)
		credential, lease, err := i.Issue(t.Context(), spec(at(t, c.notAfter)))
		if err != nil {
			t.Fatal(err)
		}
		want := at(t, c.end+"T00:00:00Z")
		if !lease.NotAfter.Equal(want) || !credential.NotAfter.Equal(want) || (lease.Note != "") != c.note {
			t.Errorf("%+v: the lease ends at %v with the note %q", c, lease.NotAfter, lease.Note)
		}
		if got := f.bySecret(credential.Fields["token"].RevealString()).expires; got != c.end {
			t.Errorf("%+v: GitLab ends it on %s", c, got)
		}
	}
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestIssueBounds(t *testing.T) {
	f := newFake(t)
	i := f.open(t, f.url)
	later := time.Now().Add(time.Hour)
	for _, c := range []struct {
		params []string
		kind   cred.Kind // Internal: it is issued
		scopes string
		level  int
	}{
		{nil, 0, "api write_repository", 30},
		{[]string{"scopes", "write_repository"}, 0, "write_repository", 30},
		{[]string{"scopes", "read_repository, read_api"}, 0, "read_api read_repository", 30},
		{[]string{"access_level", "guest"}, 0, "api write_repository", 10},
		{[]string{"access_level", "30"}, 0, "api write_repository", 30},
		{[]string{"access_level", "maintainer"}, cred.Denied, "", 0},
		{[]string{"access_level", "31"}, cred.Invalid, "", 0},
		{[]string{"access_level", ""}, cred.Invalid, "", 0},
		{[]string{"scopes", "create_runner"}, cred.Denied, "", 0},
		{[]string{"scopes", "api,create_runner"}, cred.Denied, "", 0},
		{[]string{"scopes", ""}, cred.Invalid, "", 0},
		{[]string{"scopes", "api,"}, cred.Invalid, "", 0},
		{[]string{"scopes", "self_rotate"}, cred.Invalid, "", 0},
	} {
		credential, _, err := i.Issue(t.Context(), spec(later, c.params...))
		if c.kind != 0 {
			if cred.KindOf(err) != c.kind {
				t.Errorf("%v: %v, want kind %v", c.params, err, c.kind)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", c.params, err)
			continue
		}
		made := f.bySecret(credential.Fields["token"].RevealString())
		if got := strings.Join(made.scopes, " "); got != c.scopes || made.level != c.level {
			t.Errorf("%v: made with %q and %d", c.params, got, made.level)
		}
	}
}

func TestIssueUserPassword(t *testing.T) {
	f := newFake(t)
	s := spec(time.Now().Add(time.Hour))
	s.Target.Credential.Type = cred.UserPassword
	c, _, err := f.open(t, f.url).Issue(t.Context(), s)
	if err != nil || c.Type != cred.UserPassword || c.Fields["username"].RevealString() != gitUser || f.bySecret(c.Fields["password"].RevealString()) == nil {
		t.Errorf("issued %v, %v", c, err)
	}
}

func TestBadTargets(t *testing.T) {
	for name, change := range map[string]func(*cred.CredentialSource){
		"project": func(s *cred.CredentialSource) { s.Params["project"] = "../admin" },
		"number":  func(s *cred.CredentialSource) { s.Params["project"] = "007" },
		"nothing": func(s *cred.CredentialSource) { s.Params["project"] = "" },
		"scopes":  func(s *cred.CredentialSource) { s.Params["scopes"] = "" },
		"level":   func(s *cred.CredentialSource) { s.Params["access_level"] = "admin" },
		"other":   func(s *cred.CredentialSource) { s.Params["group"] = "1" },
		"path":    func(s *cred.CredentialSource) { s.Path = "x" },
		"type":    func(s *cred.CredentialSource) { s.Type = cred.AWS },
		"rotates": func(s *cred.CredentialSource) { s.Params["scopes"] = "api,self_rotate" },
	} {
		s := spec(time.Now().Add(time.Hour)).Target.Credential
		change(&s)
		if err := CheckSource(s); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := spec(time.Now().Add(time.Hour)).Target.Credential
	s.Params["project"] = "octo/{name}"
	if err := CheckSource(s); err != nil {
		t.Errorf("a placeholder: %v", err)
	}
}

// GitLab makes another token than was asked, or says so in another way: nobody gets it.
func TestIssueComparesTheAnswer(t *testing.T) {
	for name, alter := range map[string]func(map[string]any){
		"scopes":  func(b map[string]any) { b["scopes"] = []string{"api", "write_repository", "sudo"} },
		"level":   func(b map[string]any) { b["access_level"] = 50 },
		"end":     func(b map[string]any) { b["expires_at"] = "2036-01-01" },
		"no end":  func(b map[string]any) { b["expires_at"] = nil },
		"name":    func(b map[string]any) { b["name"] = "other" },
		"token":   func(b map[string]any) { b["token"] = "a b" },
		"nothing": func(b map[string]any) { delete(b, "token") },
		"types":   func(b map[string]any) { b["id"] = "one" },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.alter = alter
			_, _, err := f.open(t, f.url).Issue(t.Context(), spec(time.Now().Add(time.Hour)))
			if cred.KindOf(err) != cred.Invalid || f.living() != 0 {
				t.Errorf("%v, and %d tokens live", err, f.living())
			}
		})
	}
	f := newFake(t)
	f.status = 200
	if _, _, err := f.open(t, f.url).Issue(t.Context(), spec(time.Now().Add(time.Hour))); cred.KindOf(err) != cred.Invalid || f.living() != 0 {
		t.Errorf("status 200: %v, and %d tokens live", err, f.living())
	}
}

func TestRateLimit(t *testing.T) {
	f := newFake(t)
	i := f.open(t, f.url)
	f.limit, f.retryAfter = 1, "1"
	if _, _, err := i.Issue(t.Context(), spec(time.Now().Add(time.Hour))); err != nil {
		t.Errorf("limited for a second: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	f.set(func() { f.limit, f.retryAfter = 1, "40" })
	_, _, err := i.Issue(ctx, spec(time.Now().Add(time.Hour)))
	if wait, _ := cred.RetryAfter(err); cred.KindOf(err) != cred.Unavailable || !errors.Is(err, issuer.ErrNotIssued) || wait != 40*time.Second || ctx.Err() != nil {
		t.Errorf("limited for longer than we have: %v, %v", err, wait)
	}
}

// A holder with the scope api rotates its token to outlive the lease: the name stays.
func TestRevokeFindsWhatWasRotated(t *testing.T) {
	f := newFake(t)
	i := f.open(t, f.url)
	c, l, err := i.Issue(t.Context(), spec(time.Now().Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", f.url+"/api/v4/projects/7/access_tokens/self/rotate", strings.NewReader(`{"expires_at":"2036-01-01"}`))
	req.Header.Set("PRIVATE-TOKEN", c.Fields["token"].RevealString())
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 || f.living() != 1 {
		t.Fatalf("rotate: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := i.Revoke(t.Context(), l); err != nil || f.living() != 0 {
		t.Errorf("Revoke: %v, and %d tokens live", err, f.living())
	}
}

func TestRevokeReadsAllPages(t *testing.T) {
	f := newFake(t)
	i := f.open(t, f.url)
	s := spec(time.Now().Add(time.Hour))
	reserved, err := i.Reserve(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.Issue(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	f.set(func() {
		for range 7 {
			f.add("somebody's", []string{"api"}, 40, true)
		}
		f.ancient, f.perPage = true, 2
	})
	if err := i.Revoke(t.Context(), cred.Lease{Handle: reserved}); err != nil || f.living() != 0 {
		t.Errorf("Revoke: %v, and %d tokens live", err, f.living())
	}
	if n := f.count("DELETE "); n != 1 {
		t.Errorf("%d tokens were ended, want ours alone", n)
	}
}

func TestRevokeRefuses(t *testing.T) {
	f := newFake(t)
	i := f.open(t, f.url)
	_, l, err := i.Issue(t.Context(), spec(time.Now().Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	other := &Issuer{place: "ffffffffffff"}
	for _, text := range []string{"", "x", "gitlab.v1.a.b.c", other.handle(handle{project: fakeProject, name: "daypass-x", id: 1}), i.handle(handle{project: fakeProject, name: "root"}), i.handle(handle{project: "../x", name: "daypass-x"})} {
		if err := i.Revoke(t.Context(), cred.Lease{Handle: text}); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
	f.set(func() { f.hidden = true }) // GitLab says 404 for what is there
	if err := i.Revoke(t.Context(), l); cred.KindOf(err) != cred.Invalid || f.living() != 1 {
		t.Errorf("a project that is not shown: %v, and %d tokens live", err, f.living())
	}
	f.set(func() { f.hidden = false })
	f.set(func() { f.tokens[0].revoked = true }) // the root token
	if err := i.Revoke(t.Context(), l); cred.KindOf(err) != cred.Unavailable || f.living() != 1 {
		t.Errorf("a root token that has ended: %v, and %d tokens live", err, f.living())
	}
}

func TestCheck(t *testing.T) {
	f := newFake(t)
	i := f.open(t, f.url)
	if err := i.Check(t.Context()); err != nil {
		t.Error(err)
	}
	f.set(func() { f.tokens[0].scopes = []string{"read_api"} })
	if err := i.Check(t.Context()); cred.KindOf(err) != cred.Invalid {
		t.Errorf("no scope api: %v", err)
	}
	f.set(func() { f.tokens[0].revoked = true })
	if err := i.Check(t.Context()); cred.KindOf(err) != cred.Unavailable || cred.PublicText(err) != publicRoot {
		t.Errorf("revoked: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	f := newFake(t)
	for name, change := range map[string]func(*Config){
		"plain":    func(c *Config) { c.AllowPlain = false },
		"far":      func(c *Config) { c.BaseURL = "http://gitlab.example.com/api/v4" },
		"query":    func(c *Config) { c.BaseURL = "https://gitlab.example.com/api/v4?x" },
		"user":     func(c *Config) { c.BaseURL = "https://a:b@gitlab.example.com/api/v4" },
		"no root":  func(c *Config) { c.Root = nil },
		"no CAs":   func(c *Config) { c.CAFile = "gitlab_test.go" },
		"no file":  func(c *Config) { c.CAFile = "none" },
		"bad word": func(c *Config) { c.BaseURL = "ftp://gitlab.example.com" },
	} {
		c := f.config(f.url)
		change(&c)
		if _, err := New(c); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzHandle(f *testing.F) {
	i := &Issuer{place: "0123456789ab"}
	f.Add(i.handle(handle{project: "a/b", name: "daypass-x", id: 5}))
	f.Add("gitlab.v1....")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHandle(text, i.place)
		if err != nil {
			return
		}
		again, err := parseHandle(i.handle(h), i.place)
		if diff := cmp.Diff(h, again, cmp.AllowUnexported(handle{})); err != nil || diff != "" {
			t.Errorf("%q: %v %s", text, err, diff)
		}
		if strings.ContainsAny(h.project, "?#%\\ ") || strings.Contains(h.project, "..") && strings.HasPrefix(h.project, ".") {
			t.Errorf("%q names the project %q", text, h.project)
		}
	})
}

func FuzzReadToken(f *testing.F) {
	f.Add([]byte(`{"id":1,"name":"daypass-x","scopes":["api"],"access_level":30,"expires_at":"2026-01-02","token":"abc"}`))
	ask := tokenRequest{Name: "daypass-x", Scopes: []string{"api"}, AccessLevel: 30, ExpiresAt: "2026-01-02"}
	f.Fuzz(func(t *testing.T, body []byte) {
		made, err := readToken(tokenapi.Answer{Body: body}, ask)
		if err == nil && (made.ID <= 0 || made.Name != ask.Name || spendable(made.Token).IsZero()) {
			t.Errorf("took %q", body)
		}
		_ = message(body)
	})
}
