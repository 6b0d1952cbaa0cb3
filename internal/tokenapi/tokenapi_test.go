package tokenapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t testing.TB) *tokenapi.Client {
	t.Helper()
	c, err := tokenapi.New("test", "", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.HTTP.CloseIdleConnections)
	return c
}

// TestPostPatiently holds what is sent again: faults of the server's by both rules, a lost answer by one.
func TestPostPatiently(t *testing.T) {
	lose := func(w http.ResponseWriter) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	status := func(n int) func(http.ResponseWriter) { return func(w http.ResponseWriter) { w.WriteHeader(n) } }
	for name, tc := range map[string]struct {
		fault             func(http.ResponseWriter)
		answered, passing int // how often it is sent
	}{
		"lost":                      {lose, 1, 3},
		"500":                       {status(500), 3, 3},
		"429":                       {status(429), 3, 3},
		"400":                       {status(400), 1, 1},
		"redirect":                  {func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(307) }, 1, 1},
		"slow_down":                 {func(w http.ResponseWriter) { w.WriteHeader(400); _, _ = io.WriteString(w, `{"error":"slow_down"}`) }, 3, 3},
		"longer than there is time": {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "600"); w.WriteHeader(429) }, 1, 1},
	} {
		for rule, again := range map[string]func(*tokenapi.Error) bool{"answered": tokenapi.Answered, "passing": tokenapi.Passing} {
			t.Run(name+"/"+rule, func(t *testing.T) {
				t.Parallel()
				sent := make(chan struct{}, 100)
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					sent <- struct{}{}
					tc.fault(w)
				}))
				defer srv.Close()
				_, err := client(t).PostPatiently(t.Context(), srv.URL, tokenapi.NewRequest("x"), again)
				want := map[string]int{"answered": tc.answered, "passing": tc.passing}[rule]
				if _, ok := errors.AsType[*tokenapi.Error](err); !ok || len(sent) != want {
					t.Errorf("%v after %d requests, want %d", err, len(sent), want)
				}
			})
		}
	}
}

// TestNoTimeLeft holds that nobody begins a wait which the deadline would cut short.
func TestNoTimeLeft(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "6")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := client(t).PostPatiently(ctx, srv.URL, tokenapi.NewRequest("x"), tokenapi.Answered)
	if e, ok := errors.AsType[*tokenapi.Error](err); !ok || e.Status != 503 || ctx.Err() != nil {
		t.Errorf("%v, with the deadline at %v", err, ctx.Err())
	}
}

// TestFailure holds the forms of errors, and that nothing that was sent comes back in one.
func TestFailure(t *testing.T) {
	r := tokenapi.NewRequest("x")
	r.SetSecret("a", cred.SecretString("the first secret"))
	r.SetBearer(cred.SecretString("the second secret"))
	r.SetBasic("user", cred.SecretString("the third secret"))
	for name, tc := range map[string]struct {
		body string
		want tokenapi.Error
		text string
	}{
		"OAuth":          {`{"error":"invalid_grant","error_description":"why"}`, tokenapi.Error{Code: "invalid_grant"}, `"why"`},
		"Entra":          {`{"error":"invalid_client","error_codes":[700213,7],"error_description":"why"}`, tokenapi.Error{Code: "invalid_client", Numbers: []int{700213, 7}}, `"why"`},
		"odd numbers":    {`{"error_codes":"x","error":"invalid_client"}`, tokenapi.Error{Code: "invalid_client"}, `""`},
		"Google":         {`{"error":{"code":403,"message":"why","status":"PERMISSION_DENIED"}}`, tokenapi.Error{Code: "PERMISSION_DENIED"}, `"why"`},
		"other object":   {`{"error":{"type":"x","code":"y"}}`, tokenapi.Error{}, `""`},
		"page":           {`<html>`, tokenapi.Error{}, `""`},
		"quotes us":      {`{"error":"x","error_description":"the first secret, the second secret, the third secret\n"}`, tokenapi.Error{Code: "x"}, `"[redacted],[redacted],[redacted]"`},
		"quotes in code": {`{"error":"the first secret"}`, tokenapi.Error{Code: "[redacted]"}, `""`},
		"long":           {`{"error":"x","error_description":"` + strings.Repeat("y", 1000) + `"}`, tokenapi.Error{Code: "x"}, strings.Repeat("y", 300) + `"`},
	} {
		err := r.Failure(tokenapi.Answer{Status: 400, Body: []byte(tc.body), Header: http.Header{"Retry-After": {"9999"}}})
		got, ok := errors.AsType[*tokenapi.Error](err)
		tc.want.Op, tc.want.Status, tc.want.RetryAfter = "x", 400, time.Hour
		if !ok {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, *got, cmpopts.IgnoreFields(tokenapi.Error{}, "Err")); diff != "" || !strings.HasSuffix(err.Error(), "the server says "+tc.text) && name != "long" || !strings.HasSuffix(err.Error(), tc.text) {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

// TestBodies holds the three forms of a request.
func TestBodies(t *testing.T) {
	var kind, body, auth string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		kind, body, auth = r.Header.Get("Content-Type"), string(b), r.Header.Get("Authorization")
	}))
	defer srv.Close()
	form, object, whole := tokenapi.NewRequest("x"), tokenapi.NewRequest("x"), tokenapi.NewRequest("x")
	form.Set("a", "b c")
	object.Set("a", "b c")
	object.JSON = true
	whole.Body = func() any { return map[string]any{"a": []string{"b c"}} }
	whole.SetBearer(cred.SecretString("t"))
	for r, want := range map[*tokenapi.Request][3]string{
		form:   {"application/x-www-form-urlencoded", "a=b+c", ""},
		object: {"application/json", `{"a":"b c"}`, ""},
		whole:  {"application/json", `{"a":["b c"]}`, "Bearer t"},
	} {
		if _, err := client(t).Post(t.Context(), srv.URL, r); err != nil || [3]string{kind, body, auth} != want {
			t.Errorf("%v, sent %q %q %q, want %q", err, kind, body, auth, want)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for text, plain := range map[string]bool{
		"https://login.example.com/token": false, "http://127.0.0.1:8080/token": true, "http://localhost/token": true, "http://[::1]/token": true,
	} {
		for _, allow := range []bool{true, false} {
			if err := tokenapi.CheckURL("test", "url", text, allow); (err == nil) != (allow || !plain) {
				t.Errorf("%s, plain %v: %v", text, allow, err)
			}
		}
	}
	for _, text := range []string{"", "login.example.com", "http://login.example.com", "http://127.0.0.1.example.com", "https://a:b@login.example.com", "https://login.example.com#x", "https:login", "ftp://127.0.0.1", "https://"} {
		if err := tokenapi.CheckURL("test", "url", text, true); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}
