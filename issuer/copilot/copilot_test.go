package copilot_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/copilot"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gitHub is the endpoint of session tokens. It serves over HTTP or, in a bubble, as a transport.
type gitHub struct {
	mu     sync.Mutex // owns what follows
	seat   string
	live   map[string]bool
	edit   func(map[string]any)
	answer func(http.ResponseWriter)
	seen   []http.Header
	skew   time.Duration // how far its clock is ahead of ours
}

func newGitHub() *gitHub { return &gitHub{seat: "gho_" + rand.Text(), live: map[string]bool{}} }

func (g *gitHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = append(g.seen, r.Header.Clone())
	now := time.Now().Add(g.skew)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	switch {
	case g.answer != nil:
		g.answer(w)
		return
	case r.Method != http.MethodGet || r.URL.Path != "/copilot_internal/v2/token":
		w.WriteHeader(404)
		return
	case r.Header.Get("Authorization") != "token "+g.seat || r.Header.Get("X-Github-Api-Version") == "":
		w.WriteHeader(401)
		_, _ = io.WriteString(w, `{"message":"Bad credentials","status":"401"}`)
		return
	}
	end := now.Add(30 * time.Minute).Unix()
	token := fmt.Sprintf("tid=%s;exp=%d;sku=business;st=dotcom;chat=1:%s", rand.Text(), end, rand.Text())
	g.live[token] = true
	body := map[string]any{
		"token": token, "expires_at": end, "refresh_in": 1500, "sku": "business", "individual": false, "telemetry": "disabled",
		"endpoints":         map[string]string{"api": "https://api.business.githubcopilot.com", "proxy": "https://proxy.business.githubcopilot.com"},
		"organization_list": []string{}, "enterprise_list": nil, "limited_user_quotas": nil,
	}
	if g.edit != nil {
		g.edit(body)
	}
	_ = json.NewEncoder(w).Encode(body)
}

// RoundTrip serves without a network.
func (g *gitHub) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	g.ServeHTTP(rec, r)
	return rec.Result(), nil
}

func (g *gitHub) set(fn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn()
}

func (g *gitHub) requests() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.seen)
}

func (g *gitHub) works(_ context.Context, c cred.Credential) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.live[c.Fields["token"].RevealString()] {
		return errors.New("401")
	}
	return nil
}

func (g *gitHub) alive(context.Context) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live), nil
}

func (g *gitHub) config(base string) copilot.Config {
	return copilot.Config{
		URL: base + "/copilot_internal/v2/token", AllowPlain: true, Timeout: 10 * time.Second,
		Seat: func(context.Context) (cred.Secret, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return cred.SecretString(g.seat), nil
		},
	}
}

func open(t *testing.T, cfg copilot.Config) *copilot.Issuer {
	t.Helper()
	i, err := copilot.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func spec(notAfter time.Time) issuer.Spec {
	return issuer.Spec{
		ID: cred.NewLeaseID(time.Now()), Grant: cred.NewGrantID(time.Now()), NotAfter: notAfter, Scopes: []string{"production"},
		Target: cred.Target{Name: "copilot", Deliver: cred.DeliverProxy},
	}
}

func hours() issuer.Spec { return spec(time.Now().Add(8 * time.Hour)) }

func serve(t *testing.T, g *gitHub) *httptest.Server {
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	return srv
}

func TestContract(t *testing.T) {
	g := newGitHub()
	srv := serve(t, g)
	issuertest.Test(t, issuertest.Harness{
		New:    func(t *testing.T, base string) issuer.Issuer { return open(t, g.config(base)) },
		Source: srv.URL, Spec: spec, Works: g.works, Alive: g.alive,
		NotRevocable: true, Stands: true, // all leases share the seat's session
	})
}

// TestSession holds what is sent and what is made of the answer.
func TestSession(t *testing.T) {
	g := newGitHub()
	cfg := g.config(serve(t, g).URL)
	cfg.EditorVersion = "vscode/1.0"
	c, l, err := open(t, cfg).Issue(t.Context(), spec(time.Now().Add(time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	if c.Fields["endpoint"].RevealString() != "https://api.business.githubcopilot.com" || len(c.Fields) != 2 || c.Type != cred.Bearer {
		t.Errorf("fields %v, endpoint %q", c.Fields, c.Fields["endpoint"].RevealString())
	}
	if l.Revocable || l.Handle != "" || !strings.Contains(l.Note, "can't be revoked") || !strings.Contains(l.Note, "later than was asked") {
		t.Errorf("lease %+v", l)
	}
	if left := time.Until(c.NotAfter); left < 29*time.Minute || left > 31*time.Minute {
		t.Errorf("lives %v", left)
	}
	sent := g.seen[0]
	if sent.Get("User-Agent") != "daypass" || sent.Get("Editor-Version") != "vscode/1.0" || len(sent.Values("Editor-Plugin-Version")) != 0 {
		t.Errorf("sent %v", sent)
	}
}

// TestOneFlight has many callers at once, and wants one request.
func TestOneFlight(t *testing.T) {
	g := newGitHub()
	i := open(t, g.config(serve(t, g).URL))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if c, _, err := i.Issue(t.Context(), hours()); err != nil || g.works(t.Context(), c) != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := g.requests(); n != 1 {
		t.Errorf("%d requests for one session", n)
	}
}

// TestRefreshAhead goes through a session's life by the clock.
func TestRefreshAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGitHub()
		i := open(t, g.config("https://api.example.com"))
		copilot.SetTransport(i, g)
		step := func(wait time.Duration, wantNew bool, wantRequests int) {
			t.Helper()
			time.Sleep(wait) // the bubble's clock
			before := g.requests()
			c, _, err := i.Issue(t.Context(), hours())
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			fresh := time.Until(c.NotAfter) > 29*time.Minute
			if n := g.requests() - before; n != wantRequests || fresh != wantNew {
				t.Errorf("%d requests, want %d; a new session: %v, want %v", n, wantRequests, fresh, wantNew)
			}
		}
		step(0, true, 1)
		step(24*time.Minute, false, 0)
		step(61*time.Second, false, 1) // past refresh_in: the old one at once, a new one behind it
		step(0, true, 0)
		step(29*time.Minute+30*time.Second, true, 1) // less than a minute is left: one waits
		g.set(func() { g.answer = func(w http.ResponseWriter) { w.WriteHeader(500) } })
		step(26*time.Minute, false, 1) // a failure costs nobody anything yet
		step(10*time.Second, false, 0) // and is not tried again at once
		step(time.Minute, false, 1)
		time.Sleep(3 * time.Minute)
		if _, _, err := i.Issue(t.Context(), hours()); cred.KindOf(err) != cred.Unavailable {
			t.Errorf("with the old one over: %v", err)
		}
	})
}

// TestClocksDiffer holds that a session's life is told by GitHub's clock.
func TestClocksDiffer(t *testing.T) {
	for _, skew := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		g := newGitHub()
		g.skew = skew
		c, _, err := open(t, g.config(serve(t, g).URL)).Issue(t.Context(), hours())
		if left := time.Until(c.NotAfter); err != nil || left < 29*time.Minute || left > 31*time.Minute {
			t.Errorf("with its clock %v ahead: %v, lives %v", skew, err, left)
		}
	}
}

// TestSeatIsExchanged holds that another seat's token never gets the session of the one before.
func TestSeatIsExchanged(t *testing.T) {
	g := newGitHub()
	i := open(t, g.config(serve(t, g).URL))
	first, _, err := i.Issue(t.Context(), hours())
	if err != nil {
		t.Fatal(err)
	}
	g.set(func() { g.seat = "gho_" + rand.Text() })
	second, _, err := i.Issue(t.Context(), hours())
	if err != nil || first.Fingerprint() == second.Fingerprint() {
		t.Errorf("the same session for two seats, %v", err)
	}
}

// TestRefusals holds kinds and reasons: whether something was made, and who has to act.
func TestRefusals(t *testing.T) {
	says := func(status int, body string, header ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for n := 0; n < len(header); n += 2 {
				w.Header().Set(header[n], header[n+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	notice := func(id string) string {
		return fmt.Sprintf(`{"message":"no","error_details":{"message":"m","notification_id":%q,"title":"t","url":"u"}}`, id)
	}
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		reason string
		none   bool
		retry  time.Duration
		text   string
	}{
		"signed out":       {says(401, `{"message":"Bad credentials"}`), "SEAT_SIGNED_OUT", true, time.Minute, "sign in again"},
		"no seat":          {says(403, notice("no_copilot_access")), "SEAT_REFUSED", true, time.Minute, "(no_copilot_access)"},
		"by a program":     {says(403, notice("programmatic_token_generation")), "CLIENT_UNWANTED", true, time.Minute, "made by a program"},
		"by a client":      {says(403, notice("go_http_client")), "CLIENT_UNWANTED", true, time.Minute, "made by a program"},
		"a notice of text": {says(403, notice("<b>call us</b>")), "SEAT_REFUSED", true, time.Minute, "subscription"},
		"not found":        {says(404, `{"message":"Not Found"}`), "SEAT_REFUSED", true, time.Minute, "subscription"},
		"rate limit":       {says(403, `{"message":"API rate limit exceeded for user"}`, "Retry-After", "60"), "", true, time.Minute, "limits"},
		"none remaining":   {says(403, "", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "99999999999"), "", true, time.Hour, "limits"},
		"429":              {says(429, "", "Retry-After", "7"), "", true, 7 * time.Second, "limits"},
		"500":              {says(500, ""), "", false, 0, "reached"},
		"elsewhere":        {says(302, "", "Location", "https://example.com"), "", false, 0, "reached"},
		"a page":           {says(200, "<html>"), "ANSWER_UNREADABLE", false, 0, "no Copilot session"},
		"endless":          {says(200, strings.Repeat("x", 300<<10)), "", false, 0, "reached"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGitHub()
			g.answer = tc.answer
			_, _, err := open(t, g.config(serve(t, g).URL)).Issue(t.Context(), hours())
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Kind != cred.Unavailable || e.Reason != tc.reason || e.RetryAfter != tc.retry || errors.Is(err, issuer.ErrNotIssued) != tc.none {
				t.Fatalf("%+v", err)
			}
			if !strings.Contains(e.Public, tc.text) || strings.Contains(e.Public, "<b>") || strings.Contains(err.Error(), g.seat) {
				t.Errorf("says %q", e.Public)
			}
		})
	}
}

// TestRefusalHolds goes by the clock through what GitHub refuses: it is not asked again before its time,
// however many ask us, and all of them are told the same.
func TestRefusalHolds(t *testing.T) {
	limit := func(after string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			if after != "" {
				w.Header().Set("Retry-After", after)
			}
			w.WriteHeader(403)
			_, _ = io.WriteString(w, `{"error_details":{"notification_id":"programmatic_token_generation"}}`)
		}
	}
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		holds  time.Duration
	}{
		"says how long":     {limit("600"), 10 * time.Minute},
		"says it as a date": {limit("Sat, 01 Jan 2000 00:05:00 GMT"), 5 * time.Minute}, // a bubble's clock begins in 2000
		"does not say":      {limit(""), time.Minute},
		"for ever":          {limit("99999"), time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGitHub()
				g.answer = tc.answer
				i := open(t, g.config("https://api.example.com"))
				copilot.SetTransport(i, g)
				began := time.Now()
				refused := func() {
					t.Helper()
					var all sync.WaitGroup
					for range 5 {
						all.Go(func() {
							_, _, err := i.Issue(t.Context(), hours())
							e, ok := errors.AsType[*cred.Error](err)
							if !ok || e.Reason != "CLIENT_UNWANTED" || !errors.Is(err, issuer.ErrNotIssued) || e.RetryAfter != tc.holds-time.Since(began) {
								t.Errorf("after %v: %+v", time.Since(began), err)
							}
						})
					}
					all.Wait()
				}
				refused()
				for range 9 {
					time.Sleep(tc.holds / 10)
					refused()
				}
				time.Sleep(tc.holds/10 - 1)
				refused()
				if n := g.requests(); n != 1 {
					t.Errorf("GitHub was asked %d times", n)
				}
				g.set(func() { g.answer = nil })
				time.Sleep(time.Nanosecond)
				if _, _, err := i.Issue(t.Context(), hours()); err != nil || g.requests() != 2 {
					t.Errorf("when its time was over: %v after %d requests", err, g.requests())
				}
			})
		})
	}
}

// TestRefusalBesideASession holds that a refusal costs nobody a session that lives, that it is that seat's
// alone, and that a failure which is none does not hold.
func TestRefusalBesideASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGitHub()
		i := open(t, g.config("https://api.example.com"))
		copilot.SetTransport(i, g)
		issue := func(wantRequests int) error {
			t.Helper()
			_, _, err := i.Issue(t.Context(), hours())
			synctest.Wait()
			if n := g.requests(); n != wantRequests {
				t.Errorf("%d requests, want %d", n, wantRequests)
			}
			return err
		}
		says := func(status int, after string) {
			g.set(func() {
				g.answer = func(w http.ResponseWriter) {
					w.Header().Set("Retry-After", after)
					w.WriteHeader(status)
				}
			})
		}
		first := issue(1)
		says(429, "240")
		time.Sleep(26 * time.Minute) // past refresh_in
		for range 2 {
			if err := errors.Join(first, issue(2)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Second) // more than between tries after a failure
		}
		if err := issue(2); err == nil { // its session is over
			t.Error("a session that is over was given out")
		}
		g.set(func() { g.seat, g.answer = "gho_"+rand.Text(), nil })
		if err := issue(3); err != nil {
			t.Errorf("another seat: %v", err)
		}
		g.set(func() { g.seat = "gho_" + rand.Text() })
		says(500, "240")
		for n := range 2 {
			if err := issue(4 + n); cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
				t.Errorf("%v", err)
			}
		}
	})
}

// TestAnswers holds that a session is given out only where all of it makes sense.
func TestAnswers(t *testing.T) {
	api := func(text string) func(map[string]any) {
		return func(b map[string]any) { b["endpoints"] = map[string]string{"api": text} }
	}
	set := func(name string, value any) func(map[string]any) { return func(b map[string]any) { b[name] = value } }
	for name, tc := range map[string]struct {
		edit func(map[string]any)
		good bool
	}{
		"individual":           {api("https://api.individual.githubcopilot.com"), true},
		"the host itself":      {api("https://githubcopilot.com"), true},
		"a host of another":    {api("https://api.githubcopilot.com.example.com"), false},
		"an ending alike":      {api("https://evilgithubcopilot.com"), false},
		"a user before it":     {api("https://api.githubcopilot.com@example.com"), false},
		"plain":                {api("http://api.githubcopilot.com"), false},
		"a query":              {api("https://api.githubcopilot.com/?x"), false},
		"no API":               {api(""), false},
		"no endpoints":         {set("endpoints", nil), false},
		"no token":             {set("token", ""), false},
		"breaks a header":      {set("token", "a\r\nb"), false},
		"no end":               {set("expires_at", 0), false},
		"over":                 {set("expires_at", time.Now().Add(-time.Hour).Unix()), false},
		"nearly over":          {set("expires_at", time.Now().Add(30*time.Second).Unix()), false},
		"no refresh_in":        {set("refresh_in", 0), true},
		"refresh_in in a year": {set("refresh_in", 1e300), true},
		"an end in a year":     {set("expires_at", 1e300), true},
		"end as text":          {set("expires_at", "soon"), false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGitHub()
			g.edit = tc.edit
			c, _, err := open(t, g.config(serve(t, g).URL)).Issue(t.Context(), hours())
			if (err == nil) != tc.good || err != nil && (cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued)) {
				t.Errorf("%v", err)
			}
			if tc.good && (time.Until(c.NotAfter) > 25*time.Hour || time.Until(c.NotAfter) < time.Minute) {
				t.Errorf("ends %v", c.NotAfter)
			}
		})
	}
}

// TestTargets holds which targets may use a seat.
func TestTargets(t *testing.T) {
	g := newGitHub()
	i := open(t, g.config(serve(t, g).URL))
	for name, edit := range map[string]func(*issuer.Spec){
		"direct":      func(s *issuer.Spec) { s.Target.Deliver = cred.DeliverDirect },
		"no delivery": func(s *issuer.Spec) { s.Target.Deliver = "" },
		"type":        func(s *issuer.Spec) { s.Target.Credential.Type = cred.KV },
		"fields":      func(s *issuer.Spec) { s.Target.Credential.Fields = map[string]string{"a": "token"} },
		"params":      func(s *issuer.Spec) { s.Target.Credential.Params = map[string]string{"a": "b"} },
	} {
		s := hours()
		edit(&s)
		if _, _, err := i.Issue(t.Context(), s); cred.KindOf(err) != cred.Invalid || g.requests() != 0 {
			t.Errorf("%s: %v after %d requests", name, err, g.requests())
		}
	}
}

func TestRefusesConfig(t *testing.T) {
	for name, edit := range map[string]func(*copilot.Config){
		"no seat":         func(c *copilot.Config) { c.Seat = nil },
		"http elsewhere":  func(c *copilot.Config) { c.URL = "http://api.github.com/" },
		"plain":           func(c *copilot.Config) { c.AllowPlain = false },
		"user":            func(c *copilot.Config) { c.URL = "https://a@api.github.com/" },
		"no such CA file": func(c *copilot.Config) { c.CAFile = "/nonexistent" },
		"no CA":           func(c *copilot.Config) { c.CAFile = os.DevNull },
	} {
		cfg := newGitHub().config("http://127.0.0.1:1")
		edit(&cfg)
		if _, err := copilot.New(cfg); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnreadableSeat holds that nothing is sent without a token, and what comes after Close.
func TestUnreadableSeat(t *testing.T) {
	for name, seat := range map[string]string{"empty": "", "two lines": "a\nb"} {
		g := newGitHub()
		g.seat = seat
		i := open(t, g.config(serve(t, g).URL))
		if _, _, err := i.Issue(t.Context(), hours()); !errors.Is(err, issuer.ErrNotIssued) || g.requests() != 0 {
			t.Errorf("%s: %v", name, err)
		}
		if err := i.Check(t.Context()); cred.KindOf(err) != cred.Unavailable {
			t.Errorf("%s: Check: %v", name, err)
		}
	}
	g := newGitHub()
	i := open(t, g.config(serve(t, g).URL))
	_ = i.Close()
	if _, _, err := i.Issue(t.Context(), hours()); !errors.Is(err, issuer.ErrNotIssued) || g.requests() != 0 {
		t.Errorf("after Close: %v", err)
	}
}

// FuzzAnswer holds that no answer makes a session that breaks a header, or leads to another host.
func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"token":"x","expires_at":99999999999,"refresh_in":1500,"endpoints":{"api":"https://api.githubcopilot.com"}}`)
	f.Add(403, `{"error_details":{"notification_id":"no_copilot_access"}}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		i, err := copilot.New(newGitHub().config("https://api.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = i.Close() }()
		copilot.SetTransport(i, canned{status, body})
		c, _, err := i.Issue(t.Context(), hours())
		if err != nil {
			if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Unavailable || e.Public == "" {
				t.Fatal(err)
			}
			return
		}
		token, api := c.Fields["token"].RevealString(), c.Fields["endpoint"].RevealString()
		u, err := url.Parse(api)
		if err != nil || u.Scheme != "https" || !strings.HasSuffix("."+strings.ToLower(u.Hostname()), ".githubcopilot.com") || !printable(token) {
			t.Fatalf("token %q, API %q", token, api)
		}
	})
}

func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

type canned struct {
	status int
	body   string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body)), Request: r}, nil
}
