package login_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/clients/login/logintest"
	"github.com/daypass-io/daypass/cred"
)

// browser is the part of a browser that matters: it follows redirects.
type browser struct {
	t    *testing.T
	page string // that it ended on
	err  error
	seen *http.Response
	done chan struct{}
}

func newBrowser(t *testing.T) *browser { return &browser{t: t, done: make(chan struct{})} }

func (b *browser) open(_ context.Context, address string) error {
	go func() {
		defer close(b.done)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		resp, err := client.Get(address)
		if err != nil {
			b.err = err
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		b.page, b.err, b.seen = string(body), err, resp
	}()
	return nil
}

// result waits for the browser and returns the page that it shows.
func (b *browser) result() string {
	b.t.Helper()
	<-b.done
	if b.err != nil {
		b.t.Errorf("the browser: %v", b.err)
	}
	return b.page
}

func newProvider(t *testing.T) *logintest.Provider {
	t.Helper()
	p := logintest.New()
	t.Cleanup(p.Close)
	return p
}

func method(p *logintest.Provider) login.Method {
	return login.Method{Provider: "okta", Issuer: p.URL, ClientID: logintest.ClientID, Scopes: []string{"openid", "offline_access"}}
}

func flow(p *logintest.Provider, b *browser) login.Flow {
	return login.Flow{Method: method(p), Client: login.NewClient(nil), Out: io.Discard, Open: b.open}
}

func TestBrowserSignsIn(t *testing.T) {
	p, b := newProvider(t), newBrowser(t)
	var said bytes.Buffer
	f := flow(p, b)
	f.Out = &said
	s, err := f.Browser(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page := b.result()
	if s.Subject != "ann" || s.Name != "Ann Example" || s.IDToken.IsZero() || s.Refresh.IsZero() || s.AuthTime.IsZero() || s.Method.Provider != "okta" {
		t.Errorf("session %+v", s)
	}
	if left := time.Until(s.ExpiresAt); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the ID token ends in %v, want an hour", left)
	}
	if !strings.Contains(page, "Signed in") || !strings.Contains(page, "close this window") {
		t.Errorf("the page says %s", page)
	}
	h := b.seen.Header
	if h.Get("Cache-Control") != "no-store" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("the page's header: %v", h)
	}
	if !strings.Contains(said.String(), p.URL+"/authorize?") {
		t.Errorf("the person was told %q", said.String())
	}
	if _, err := net.DialTimeout("tcp", b.seen.Request.URL.Host, time.Second); err == nil {
		t.Error("the redirect is still served")
	}
}

// TestBrowserRefuses: what is wrong with an answer or a token ends the sign-in, each for its own reason.
func TestBrowserRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*logintest.Behaviour)
		reason string
		text   string
		page   string
	}{
		"denied":             {func(b *logintest.Behaviour) { b.Deny = true }, "LOGIN_DENIED", "was refused", "Not signed in"},
		"other state":        {answer("state", "a-state-that-is-not-ours"), "LOGIN_STATE", "another request", ""},
		"no state":           {answer("state", nil), "LOGIN_STATE", "another request", ""},
		"state twice":        {answerTwice("state"), "LOGIN_ANSWER", "state twice", ""},
		"code twice":         {answerTwice("code"), "LOGIN_ANSWER", "code twice", ""},
		"no code":            {answer("code", nil), "LOGIN_ANSWER", "without a code", "Not signed in"},
		"other code":         {answer("code", "guessed"), "ISSUER_REFUSED", "invalid_grant", ""},
		"other issuer":       {answer("iss", "https://other.example.com"), "LOGIN_ISSUER", "not from", ""},
		"issuer not said":    {func(b *logintest.Behaviour) { b.SaysIssuer = true; answer("iss", nil)(b) }, "LOGIN_ISSUER", "not from", ""},
		"error with words":   {answer("error", "server_error"), "ISSUER_REFUSED", "server_error", "Not signed in"},
		"other nonce":        {claim("nonce", "another"), "ID_TOKEN_REFUSED", "nonce", ""},
		"no nonce":           {claim("nonce", nil), "ID_TOKEN_REFUSED", "nonce", ""},
		"other audience":     {claim("aud", "other"), "ID_TOKEN_REFUSED", "audience", ""},
		"two audiences":      {claim("aud", []string{logintest.ClientID, "other"}), "ID_TOKEN_REFUSED", "another client", ""},
		"other party":        {claim("azp", "other"), "ID_TOKEN_REFUSED", "another client", ""},
		"other token issuer": {claim("iss", "https://other.example.com"), "ID_TOKEN_REFUSED", "issued by a different", ""},
		"nobody":             {claim("sub", nil), "ID_TOKEN_REFUSED", "nobody", ""},
		"expired":            {claim("exp", time.Now().Add(-time.Second).Unix()), "ID_TOKEN_REFUSED", "expired", ""},
		"claim in capitals":  {claim("SUB", "eve"), "ID_TOKEN_REFUSED", "SUB", ""},
		"token endpoint":     {fail("/token", http.StatusInternalServerError), "ISSUER_ANSWER", "HTTP status 500", ""},
		"answer is lost":     {fail("/token", -1), "ISSUER_SILENT", "can't be reached", ""},
		"no keys":            {fail("/keys", http.StatusInternalServerError), "ID_TOKEN_REFUSED", "not accepted", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, b := newProvider(t), newBrowser(t)
			p.Set(c.change)
			s, err := flow(p, b).Browser(t.Context())
			page := b.result()
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Reason != c.reason || !strings.Contains(e.Public, c.text) {
				t.Errorf("got %v, want reason %s with %q", err, c.reason, c.text)
			}
			if !s.IDToken.IsZero() && err == nil {
				t.Error("there is a session all the same")
			}
			if !strings.Contains(page, c.page) {
				t.Errorf("the page says %s", page)
			}
		})
	}
}

func answer(name string, value any) func(*logintest.Behaviour) {
	return func(b *logintest.Behaviour) { b.Answer = func(a map[string]any) { change(a, name, value) } }
}

func answerTwice(name string) func(*logintest.Behaviour) {
	return func(b *logintest.Behaviour) {
		b.Answer = func(a map[string]any) { a[name] = []string{a[name].(string), "x"} }
	}
}

func claim(name string, value any) func(*logintest.Behaviour) {
	return func(b *logintest.Behaviour) { b.Claims = func(c map[string]any) { change(c, name, value) } }
}

func change(m map[string]any, name string, value any) {
	if value == nil {
		delete(m, name)
		return
	}
	m[name] = value
}

func fail(path string, status int) func(*logintest.Behaviour) {
	return func(b *logintest.Behaviour) { b.Fail = map[string]int{path: status} }
}

func TestSaidIssuerIsTaken(t *testing.T) {
	p, b := newProvider(t), newBrowser(t)
	p.Set(func(b *logintest.Behaviour) { b.SaysIssuer = true })
	if _, err := flow(p, b).Browser(t.Context()); err != nil {
		t.Error(err)
	}
	b.result()
}

// TestFresh: who is known to the issuer must sign in again, and the token must say so.
func TestFresh(t *testing.T) {
	p, b := newProvider(t), newBrowser(t)
	earlier := time.Now().Add(-2 * time.Hour)
	p.SignInEarlier(earlier)
	s, err := flow(p, b).Browser(t.Context())
	if b.result(); err != nil || s.AuthTime.Unix() != earlier.Unix() {
		t.Fatalf("the person was not known: %v (%v)", s.AuthTime, err)
	}
	for name, c := range map[string]struct {
		change func(*logintest.Behaviour)
		text   string
	}{
		"asked again":     {func(b *logintest.Behaviour) { b.Claims = nil }, ""},
		"not asked again": {claim("auth_time", earlier.Unix()), "not asked to sign in again"},
		"not said":        {claim("auth_time", nil), "auth_time"},
	} {
		b := newBrowser(t)
		p.Set(c.change)
		f := flow(p, b)
		f.Fresh = true
		s, err := f.Browser(t.Context())
		b.result()
		if c.text == "" && (err != nil || time.Since(s.AuthTime) > time.Minute) || c.text != "" && !strings.Contains(cred.PublicText(err), c.text) {
			t.Errorf("%s: signed in at %v, %v", name, s.AuthTime, err)
		}
	}
}

// TestTheRedirectTakesOneRequest and no other path, method or host.
func TestTheRedirectTakesOneRequest(t *testing.T) {
	p := newProvider(t)
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       10 * time.Second,
	}
	status := func(method, address, host string) int {
		req, err := http.NewRequest(method, address, nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		if host != "" {
			req.Host = host
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	f := flow(p, newBrowser(t))
	f.Open = func(_ context.Context, address string) error {
		resp, err := client.Get(address)
		if err != nil {
			return err
		}
		resp.Body.Close()
		back := resp.Header.Get("Location")
		u, err := url.Parse(back)
		if err != nil || u.Hostname() != "127.0.0.1" {
			t.Errorf("the redirect goes to %s", back)
			return err
		}
		base := "http://" + u.Host
		for _, not := range []struct{ method, address, host string }{
			{"GET", base + "/", ""},
			{"GET", base + "/favicon.ico", ""},
			{"GET", base + "/callback/?" + u.RawQuery, ""},
			{"GET", base + "/%63allback?" + u.RawQuery, ""},
			{"GET", base + "//callback?" + u.RawQuery, ""},
			{"POST", back, ""},
			{"HEAD", back, ""},
			{"OPTIONS", back, ""},
			{"GET", back, "attacker.example.com:" + u.Port()},
			{"GET", back, "localhost:" + u.Port()},
		} {
			if got := status(not.method, not.address, not.host); got != http.StatusNotFound {
				t.Errorf("%s %s (host %q): status %d, want 404", not.method, not.address, not.host, got)
			}
		}
		return errors.Join(open(client, back), nil)
	}
	if _, err := f.Browser(t.Context()); err != nil {
		t.Errorf("what is not for the redirect spoiled the sign-in: %v", err)
	}
}

func open(client *http.Client, address string) error {
	resp, err := client.Get(address)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

func TestGivenUp(t *testing.T) {
	p := newProvider(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := flow(p, newBrowser(t))
	f.Open = func(context.Context, string) error { cancel(); return nil }
	_, err := f.Browser(ctx)
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != "LOGIN_ENDED" || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAPortThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f := flow(newProvider(t), newBrowser(t))
	f.Port = taken.Addr().(*net.TCPAddr).Port
	if _, err := f.Browser(t.Context()); !strings.Contains(cred.PublicText(err), "--port") {
		t.Errorf("got %v", err)
	}
}
