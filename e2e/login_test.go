package e2e_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/internal/userstate"
)

// newLoginCluster is a broker whose people sign in at a provider that is not ours.
func newLoginCluster(t *testing.T) (*cluster, *peers.OIDCServer) {
	t.Helper()
	idp := peers.OIDC(t)
	c := newCluster(t)
	c.configure("")
	b, err := os.ReadFile(c.path("daypass.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	staff := "identity_providers:\n  - { name: staff, issuer: \"" + idp.URL + "\", audiences: [" + idp.ClientID + "], allow_plain: true, login: { client_id: " + idp.ClientID + " } }\n"
	text := strings.Replace(string(b), "identity_providers:\n", staff, 1)
	if err := os.WriteFile(c.path("daypass.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.startBroker()
	return c, idp
}

// signsIn runs 'daypass login', and does what it says as soon as it says it.
func (p *person) signsIn(said *regexp.Regexp, do func(match []string), args ...string) ran {
	p.t.Helper()
	var stdout, stderr lockedBuffer
	cmd := p.command(p.t.Context(), "daypass", append([]string{"login"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if match := said.FindStringSubmatch(stderr.String()); match != nil {
			do(match)
			break
		}
		select {
		case <-ended:
			p.t.Fatalf("the sign-in ended by itself:\n%s", stderr.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		p.t.Fatalf("the sign-in does not end:\n%s", stderr.String())
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// webUser is somebody in front of a browser, which keeps cookies and follows redirects.
type webUser struct {
	t      *testing.T
	client *http.Client
}

func newWebUser(t *testing.T) webUser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return webUser{t, &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// page returns what a browser shows after a request.
func (u webUser) page(resp *http.Response, err error) string {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		u.t.Fatalf("%s: %s (%v)\n%s", resp.Request.URL, resp.Status, err, b)
	}
	return string(b)
}

var (
	pageSaid  = regexp.MustCompile(`(?m)^  (http\S+/auth\S+)$`)
	codeSaid  = regexp.MustCompile(`(?ms)^  (http\S+)$.*^  ([A-Z]+-[A-Z]+)$`)
	authInput = regexp.MustCompile(`name="id" value="([^"]+)"`)
)

// TestLoginInABrowser: a sign-in through another's provider counts at the broker, is refreshed, and ends
// with logout.
func TestLoginInABrowser(t *testing.T) {
	c, idp := newLoginCluster(t)
	p, u := c.newPerson("BROWSER=none-such-browser"), newWebUser(t)
	r := p.signsIn(pageSaid, func(match []string) {
		form := u.page(u.client.Get(match[1]))
		id := authInput.FindStringSubmatch(form)
		if id == nil {
			t.Fatalf("no form in\n%s", form)
		}
		done := u.page(u.client.PostForm(idp.URL+"/login/username", url.Values{"id": {id[1]}, "username": {idp.User}, "password": {idp.Password}}))
		if !strings.Contains(done, "Signed in") {
			t.Errorf("the browser ends on\n%s", done)
		}
	})
	if r.code != 0 || !strings.Contains(r.stdout, "signed in as") {
		t.Fatalf("login ended with %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	before := p.runs("daypass", "whoami")
	if !strings.Contains(before, "staff") {
		t.Errorf("whoami says\n%s", before)
	}
	refreshes(t, c, p)
	if after := p.runs("daypass", "whoami"); after != before {
		t.Errorf("after a refresh whoami says\n%s", after)
	}
	if out := p.runs("daypass", "logout"); !strings.HasPrefix(out, "signed out, here and at "+idp.URL) {
		t.Errorf("logout says %s", out)
	}
	if r := p.tries("daypass", "whoami"); r.code == 0 {
		t.Errorf("signed out, and whoami says\n%s", r.stdout)
	}
}

// refreshes has the sign-in be refreshed as it would be in an hour, twice, and shows the new ID token to
// the broker. The provider takes each refresh token once.
func refreshes(t *testing.T, c *cluster, p *person) {
	t.Helper()
	state, err := userstate.Open(filepath.Join(p.dir, "daypass"), userstate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := login.Keeper{State: state, Broker: c.url, Client: login.NewClient(nil), Now: func() time.Time { return time.Now().Add(50 * time.Minute) }}
	seen := map[string]bool{}
	for range 2 {
		kept, err := state.Secret(userstate.Name("login", c.url))
		if err != nil {
			t.Fatal(err)
		}
		tok, err := k.IDToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		client, err := sdk.Dial(c.url, sdk.StaticToken(tok), c.tls())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.WhoAmI(t.Context()); err != nil {
			t.Errorf("the refreshed ID token: %v", err)
		}
		seen[kept.RevealString()], seen[tok.RevealString()] = true, true
	}
	if len(seen) != 4 {
		t.Errorf("two refreshes brought the same token again")
	}
}

func TestLoginOnAnotherDevice(t *testing.T) {
	c, idp := newLoginCluster(t)
	p, u := c.newPerson(), newWebUser(t)
	r := p.signsIn(codeSaid, func(match []string) {
		u.page(u.client.Get(match[1] + "?user_code=" + match[2]))
		u.page(u.client.PostForm(idp.URL+"/device/login", url.Values{"user_code": {match[2]}, "username": {idp.User}, "password": {idp.Password}}))
		u.page(u.client.PostForm(idp.URL+"/device/confirm", url.Values{"action": {"allowed"}}))
	})
	if r.code != 0 || !strings.Contains(r.stderr, "there is no display here") {
		t.Fatalf("login ended with %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if who := p.runs("daypass", "whoami"); !strings.Contains(who, "staff") {
		t.Errorf("whoami says\n%s", who)
	}
	if r := p.signsIn(codeSaid, func(match []string) {
		u.page(u.client.PostForm(idp.URL+"/device/login", url.Values{"user_code": {match[2]}, "username": {idp.User}, "password": {idp.Password}}))
		u.page(u.client.PostForm(idp.URL+"/device/confirm", url.Values{"action": {"denied"}}))
	}, "--device"); r.code != 3 || !strings.Contains(r.stderr, "was refused") {
		t.Errorf("a refused sign-in ended with %d\n%s", r.code, r.stderr)
	}
}
