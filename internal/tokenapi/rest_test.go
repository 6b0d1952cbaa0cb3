package tokenapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// api returns an API of a server. It takes 429 alone for a rate limit.
func api(t testing.TB, h http.HandlerFunc) *tokenapi.API {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c := client(t)
	c.MaxAnswer = 1 << 10
	return &tokenapi.API{
		Client: *c, Base: srv.URL,
		Dress: func(h http.Header, token cred.Secret) { h.Set("Private-Token", token.RevealString()) },
		Refusal: func(a tokenapi.Answer) (string, time.Duration) {
			if a.Status == http.StatusTooManyRequests {
				return string(a.Body), a.LimitedFor("Reset")
			}
			return string(a.Body), 0
		},
	}
}

func TestCallIsSentWhole(t *testing.T) {
	var got, body string
	a := api(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = strings.Join([]string{r.Method, r.URL.RequestURI(), r.Header.Get("Private-Token"), r.Header.Get("Accept"), r.Header.Get("User-Agent"), r.Header.Get("Content-Type")}, " ")
		body = string(b)
	})
	for want, c := range map[string]tokenapi.Call{
		"GET /x?y=1 t application/json daypass ":                                   {Method: "GET", Path: "/x?y=1"},
		"PUT /x t application/json daypass application/json" + `{"a":"<b>","c":1}`: {Method: "PUT", Path: "/x", Body: map[string]any{"c": 1, "a": "<b>"}},
	} {
		c.Token, c.Want = cred.SecretString("t"), 200
		if _, err := a.Do(t.Context(), c); err != nil || got+body != want {
			t.Errorf("%v, sent %q, want %q", err, got+body, want)
		}
	}
	if _, err := a.Do(t.Context(), tokenapi.Call{Method: "PUT", Body: func() {}}); tokenapi.CallOf(err) == nil || !tokenapi.CallOf(err).Unsent {
		t.Errorf("a body that is no JSON: %v", err)
	}
	if _, err := a.Do(t.Context(), tokenapi.Call{Method: "no method"}); tokenapi.CallOf(err) == nil || !tokenapi.CallOf(err).Unsent {
		t.Errorf("a method that is none: %v", err)
	}
}

// TestCallErrors holds how far a call can have come, by its error.
func TestCallErrors(t *testing.T) {
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/refused":
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "why")
		case "/limited":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/long":
			_, _ = io.WriteString(w, strings.Repeat("x", 2<<10))
		case "/slow":
			<-r.Context().Done()
		}
	})
	ask := func(path string, timeout time.Duration) (tokenapi.Answer, *tokenapi.CallError) {
		got, err := a.Do(t.Context(), tokenapi.Call{Method: "GET", Path: path, Want: 200, Timeout: timeout})
		failed := tokenapi.CallOf(err)
		if failed == nil {
			t.Fatalf("%s: %v", path, err)
		}
		return got, failed
	}
	if got, e := ask("/refused", 0); got.Status != 403 || e.Answer.Status != 403 || e.Limited != 0 || e.Unsent || e.Error() != `tokenapi: GET /refused: status 403: "why"` {
		t.Errorf("refused: %+v, %+v", got, e)
	}
	if _, e := ask("/limited", 0); e.Answer.Status != 429 || e.Limited != 7*time.Second {
		t.Errorf("limited: %+v", e)
	}
	if _, e := ask("/long", 0); e.Answer.Status != 0 || e.Unsent || !strings.Contains(e.Error(), "too long") {
		t.Errorf("too long: %+v", e)
	}
	if _, e := ask("/slow", 10*time.Millisecond); e.Unsent || !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("slow: %+v", e)
	}
	a.Base = "http://127.0.0.1:1"
	if _, e := ask("/", 0); !e.Unsent || e.Answer.Status != 0 {
		t.Errorf("nobody listens: %+v", e)
	}
}

// TestToldOnce: a failed call that was told already is not judged a second time.
func TestToldOnce(t *testing.T) {
	failed := &tokenapi.CallError{Op: "DELETE /x", Answer: tokenapi.Answer{Status: 404}, Err: errors.New("status 404")}
	told := &cred.Error{Kind: cred.Unavailable, Err: failed}
	if tokenapi.CallOf(failed) != failed || tokenapi.StatusOf(failed) != 404 || tokenapi.CallOf(told) != nil || tokenapi.StatusOf(told) != 0 {
		t.Error("a failed call inside of an error that was told counts")
	}
}

// TestCallsSentAgain holds that a call which makes something is sent again only where nothing was done.
func TestCallsSentAgain(t *testing.T) {
	for path, want := range map[string][2]int{ // of a GET, of a POST
		"/429": {3, 3}, "/500": {3, 1}, "/lost": {3, 1}, "/404": {1, 1}, "/200": {1, 1},
	} {
		for n, method := range []string{"GET", "POST"} {
			t.Run(method+path, func(t *testing.T) {
				t.Parallel()
				sent := make(chan struct{}, 10)
				a := api(t, func(w http.ResponseWriter, r *http.Request) {
					sent <- struct{}{}
					status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
					if err != nil {
						conn, _, _ := w.(http.Hijacker).Hijack()
						_ = conn.Close()
						return
					}
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(status)
				})
				a.Client.HTTP.Transport.(*http.Transport).DisableKeepAlives = true // net/http would repeat a GET itself
				_, err := a.DoPatiently(t.Context(), tokenapi.Call{Method: method, Path: path, Want: 200})
				if len(sent) != want[n] || (err == nil) != (path == "/200") {
					t.Errorf("%v after %d requests, want %d", err, len(sent), want[n])
				}
			})
		}
	}
}

func TestLimitedFor(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	unix := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		after, reset, date string
		want               time.Duration
	}{
		"seconds":                  {"7", "", "", 7 * time.Second},
		"no second":                {"0", "", "", time.Second},
		"a date":                   {date(9 * time.Second), "", "", 9 * time.Second},
		"a date, by their clock":   {date(9 * time.Second), "", date(4 * time.Second), 5 * time.Second},
		"a date that was":          {date(-time.Hour), "", "", time.Second},
		"a week":                   {"604800", "", "", time.Hour},
		"negative":                 {"-1", "", "", time.Minute},
		"Retry-After before reset": {"3", unix(time.Hour), "", 3 * time.Second},
		"reset":                    {"", unix(90 * time.Second), "", 90 * time.Second},
		"reset, by their clock":    {"", unix(90 * time.Second), date(time.Minute), 30 * time.Second},
		"reset that can't be read": {"", "soon", "", time.Minute},
		"nothing":                  {"", "", "", time.Minute},
	} {
		h := http.Header{"Retry-After": {c.after}, "Reset": {c.reset}, "Date": {c.date}}
		if got := (tokenapi.Answer{Header: h, Asked: now}).LimitedFor("Reset"); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
