package gcp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/gcp"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	readOnly = "https://www.googleapis.com/auth/devstorage.read_only"
	boundary = `{ "accessBoundaryRules": [ {
		"availableResource": "//storage.googleapis.com/projects/_/buckets/reports",
		"availablePermissions": ["inRole:roles/storage.objectViewer"],
		"availabilityCondition": { "expression": "resource.name.startsWith('x')" } } ] }`
)

func config(base string) gcp.Config {
	return gcp.Config{Provider: provider, Source: idToken, STSURL: base, IAMURL: base + "/", AllowPlain: true, Timeout: 5 * time.Second}
}

func open(t testing.TB, cfg gcp.Config) *gcp.Issuer {
	t.Helper()
	i, err := gcp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func spec(life time.Duration, path string, params map[string]string) issuer.Spec {
	now := time.Now()
	return issuer.Spec{
		ID: cred.NewLeaseID(now), Grant: cred.NewGrantID(now), NotAfter: now.Add(life), Scopes: []string{readOnly},
		Target: cred.Target{Name: "x", Credential: cred.CredentialSource{Path: path, Params: params}},
	}
}

// within fails unless an instant lies within three seconds of another: clocks in tokens have whole seconds.
func within(t *testing.T, what string, got, want time.Time) {
	t.Helper()
	if off := got.Sub(want); off < -3*time.Second || off > 3*time.Second {
		t.Errorf("%s is %v, %v off", what, got, off)
	}
}

func wantError(t *testing.T, err error, kind cred.Kind, none bool, reason string) {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != kind || e.Reason != reason || e.Public == "" || (e.Kind == cred.Unavailable && errors.Is(err, issuer.ErrNotIssued) != none) {
		t.Errorf("%v, want kind %v and reason %q, and none made: %v", err, kind, reason, none)
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	for kind, from := range map[string]cred.CredentialSource{
		"federated": {},
		"account":   {Path: account},
		"bounded":   {Path: account, Params: map[string]string{"boundary": boundary}},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t)
			issuertest.Test(t, issuertest.Harness{
				New:    func(t *testing.T, base string) issuer.Issuer { return open(t, config(base)) },
				Source: c.URL, Works: c.works, Alive: c.alive(kind), NotRevocable: true,
				Spec: func(notAfter time.Time) issuer.Spec { return spec(time.Until(notAfter), from.Path, from.Params) },
			})
		})
	}
}

// TestFederatedTokenCoversTheGrant holds the trap that a federated token ends with the ID token: it must
// last as long as was asked and no longer, and an hour at most.
func TestFederatedTokenCoversTheGrant(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{2 * time.Minute: 2 * time.Minute, 40 * time.Minute: 40 * time.Minute, 3 * time.Hour: time.Hour} {
		c := newCloud(t)
		sp := spec(asked, "", nil)
		got, l, err := open(t, config(c.URL)).Issue(t.Context(), sp)
		if err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(want)
		within(t, "the credential's end", got.NotAfter, end)
		within(t, "the lease's end", l.NotAfter, end)
		within(t, "the ID token's end", time.Unix(int64(number(c.subjects[0]["exp"])), 0), end)
		if l.Revocable || !strings.Contains(l.Note, "can't revoke") || got.Type != cred.Bearer || l.NotAfter.After(sp.NotAfter) {
			t.Errorf("%+v", l)
		}
		if c.subjects[0]["grant"] != string(sp.Grant) || c.forms[0].Get("scope") != readOnly || len(c.bodies) != 0 {
			t.Errorf("sent %v of %v", c.forms[0], c.subjects[0])
		}
	}
}

// TestTrueEnd holds what is said where Google's expires_in and the ID token's end differ, or there is none.
func TestTrueEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		says       any // expires_in; nil: none
		until, end time.Duration
		note       string
	}{
		"an hour for a shorter ID token": {3599, 10 * time.Minute, 3599 * time.Second, "may end earlier"},
		"less":                           {60, time.Minute, time.Minute, "own end"},
		"none":                           {nil, 10 * time.Minute, 10 * time.Minute, "own end"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.edit = func(_ string, b map[string]any) {
				delete(b, "expires_in")
				if tc.says != nil {
					b["expires_in"] = tc.says
				}
			}
			got, l, err := open(t, config(c.URL)).Issue(t.Context(), spec(10*time.Minute, "", nil))
			if err != nil {
				t.Fatal(err)
			}
			within(t, "the credential's end", got.NotAfter, time.Now().Add(tc.until))
			within(t, "the lease's end", l.NotAfter, time.Now().Add(tc.end))
			if !strings.Contains(l.Note, tc.note) || strings.Contains(l.Note, "later than was asked") != (tc.end > 10*time.Minute) {
				t.Errorf("the note is %q", l.Note)
			}
		})
	}
}

// TestImpersonation holds what is sent for a service account's token, and that the ID token for it is
// short whatever the grant's life.
func TestImpersonation(t *testing.T) {
	c := newCloud(t)
	sp := spec(30*time.Minute, account, map[string]string{"delegates": "one@example.iam.gserviceaccount.com 123"})
	got, l, err := open(t, config(c.URL)).Issue(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"scope": []any{readOnly}, "lifetime": "1799s",
		"delegates": []any{"projects/-/serviceAccounts/one@example.iam.gserviceaccount.com", "projects/-/serviceAccounts/123"},
	}
	if diff := cmp.Diff(want, c.bodies[0]); diff != "" {
		t.Error(diff)
	}
	within(t, "the lease's end", l.NotAfter, sp.NotAfter)
	within(t, "the ID token's end", time.Unix(int64(number(c.subjects[0]["exp"])), 0), time.Now().Add(5*time.Minute))
	if !got.NotAfter.Equal(l.NotAfter) || c.subjects[0]["grant"] != string(sp.Grant) {
		t.Errorf("%v, %v, %v", got.NotAfter, l.NotAfter, c.subjects[0])
	}
}

// TestLifeIsBounded holds an hour, or what the configuration says that the organization permits.
func TestLifeIsBounded(t *testing.T) {
	c := newCloud(t)
	if _, _, err := open(t, config(c.URL)).Issue(t.Context(), spec(5*time.Hour, account, nil)); err != nil || c.bodies[0]["lifetime"] != "3600s" {
		t.Errorf("%v, sent %v", err, c.bodies)
	}
	cfg := config(c.URL)
	cfg.MaxLife = 4 * time.Hour
	_, _, err := open(t, cfg).Issue(t.Context(), spec(5*time.Hour, account, nil))
	wantError(t, err, cred.Invalid, true, "SOURCE_REFUSED") // the organization does not
	c.set(func() { c.extended = true })
	if _, l, err := open(t, cfg).Issue(t.Context(), spec(5*time.Hour, account, nil)); err != nil || c.bodies[2]["lifetime"] != "14400s" || time.Until(l.NotAfter) < 3*time.Hour {
		t.Errorf("%v, sent %v", err, c.bodies)
	}
}

// TestClockSkew holds that expireTime is read by Google's clock.
func TestClockSkew(t *testing.T) {
	for _, skew := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		c := newCloud(t)
		c.skew = skew
		sp := spec(10*time.Minute, account, nil)
		_, l, err := open(t, config(c.URL)).Issue(t.Context(), sp)
		if err != nil {
			t.Fatal(err)
		}
		within(t, "the lease's end", l.NotAfter, sp.NotAfter)
	}
}

// TestBoundary holds that what is given out is the narrowed token, and what Google is sent for it.
func TestBoundary(t *testing.T) {
	for _, path := range []string{"", account} {
		c := newCloud(t)
		c.edit = func(kind string, b map[string]any) {
			if kind == "bounded" {
				delete(b, "expires_in") // the end is the source's then
			}
		}
		sp := spec(10*time.Minute, path, map[string]string{"boundary": boundary})
		got, l, err := open(t, config(c.URL)).Issue(t.Context(), sp)
		if err != nil {
			t.Fatal(err)
		}
		if m := c.made[got.Fields["token"].RevealString()]; m.kind != "bounded" {
			t.Errorf("gave out the token %+v", m)
		}
		within(t, "the lease's end", l.NotAfter, sp.NotAfter)
		form := c.forms[1]
		want := `{"accessBoundary":{"accessBoundaryRules":[{"availableResource":"//storage.googleapis.com/projects/_/buckets/reports","availablePermissions":["inRole:roles/storage.objectViewer"],"availabilityCondition":{"expression":"resource.name.startsWith('x')"}}]}}`
		if form.Get("options") != want || form.Has("audience") || form.Has("scope") {
			t.Errorf("sent %v", form)
		}
	}
}

// TestRefusesTargets holds what is refused before anything is asked.
func TestRefusesTargets(t *testing.T) {
	rules := func(n int) string {
		return `{"accessBoundaryRules":[` + strings.TrimSuffix(strings.Repeat(`{"availableResource":"r","availablePermissions":["p"]},`, n), ",") + `]}`
	}
	type params = map[string]string
	for name, tc := range map[string]struct {
		path   string
		params params
		edit   func(*issuer.Spec)
		reason string
	}{
		"no scope":             {account, nil, func(s *issuer.Spec) { s.Scopes = nil }, "SCOPE_MISSING"},
		"not the target's":     {account, params{"scope": "x"}, nil, "SCOPE_NOT_OF_TARGET"},
		"path to elsewhere":    {account + "/../../x", nil, nil, "PARAM_INVALID"},
		"path with a verb":     {"x@example.com:signBlob?", nil, nil, "PARAM_INVALID"},
		"no address":           {"deploy", nil, nil, "PARAM_INVALID"},
		"delegate":             {account, params{"delegates": account + ",x@y"}, nil, "PARAM_INVALID"},
		"delegates to nobody":  {"", params{"delegates": account}, nil, "PARAM_INVALID"},
		"other param":          {account, params{"scopes": "x"}, nil, "PARAM_UNKNOWN"},
		"boundary: no JSON":    {account, params{"boundary": "reports"}, nil, "PARAM_INVALID"},
		"boundary: empty":      {account, params{"boundary": ""}, nil, "PARAM_INVALID"},
		"boundary: none":       {account, params{"boundary": `{}`}, nil, "PARAM_INVALID"},
		"boundary: null":       {account, params{"boundary": `null`}, nil, "PARAM_INVALID"},
		"boundary: no rule":    {account, params{"boundary": rules(0)}, nil, "PARAM_INVALID"},
		"boundary: many rules": {account, params{"boundary": rules(11)}, nil, "PARAM_INVALID"},
		"boundary: other name": {account, params{"boundary": `{"accessBoundaryRule":[]}`}, nil, "PARAM_INVALID"},
		"boundary: wrapped":    {account, params{"boundary": `{"accessBoundary":` + rules(1) + `}`}, nil, "PARAM_INVALID"},
		"boundary: all":        {account, params{"boundary": `{"accessBoundaryRules":[{"availableResource":"r"}]}`}, nil, "PARAM_INVALID"},
		"boundary: nowhere":    {account, params{"boundary": `{"accessBoundaryRules":[{"availablePermissions":["p"]}]}`}, nil, "PARAM_INVALID"},
		"boundary: long":       {account, params{"boundary": rules(1) + strings.Repeat(" ", 2048)}, nil, "PARAM_INVALID"},
		"type":                 {account, nil, func(s *issuer.Spec) { s.Target.Credential.Type = cred.AWS }, "FIELD_MISSING"},
		"less than a second":   {account, nil, func(s *issuer.Spec) { s.NotAfter = time.Now().Add(900 * time.Millisecond) }, "ENDED"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			sp := spec(time.Hour, tc.path, tc.params)
			if tc.edit != nil {
				tc.edit(&sp)
			}
			_, _, err := open(t, config(c.URL)).Issue(t.Context(), sp)
			wantError(t, err, cred.Invalid, true, tc.reason)
			if c.calls() != 0 {
				t.Errorf("asked %d times", c.calls())
			}
		})
	}
}

// TestRegistryPassword holds a type that container registries take.
func TestRegistryPassword(t *testing.T) {
	c := newCloud(t)
	sp := spec(time.Hour, account, map[string]string{"username": "oauth2accesstoken"})
	sp.Target.Credential.Type = cred.UserPassword
	got, _, err := open(t, config(c.URL)).Issue(t.Context(), sp)
	if err != nil || got.Fields["username"].RevealString() != "oauth2accesstoken" || got.Fields["password"].IsZero() {
		t.Errorf("%v, %v", got, err)
	}
}

// TestErrors holds kinds: whether a token may have been made, and who has to look at it.
func TestErrors(t *testing.T) {
	broken := func(path string, status int, body string) func(*cloud, *gcp.Config) {
		return func(c *cloud, _ *gcp.Config) {
			c.answer = func(w http.ResponseWriter, at string) bool {
				if at != path {
					return false
				}
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
				return true
			}
		}
	}
	edited := func(kind, name string, value any) func(*cloud, *gcp.Config) {
		return func(c *cloud, _ *gcp.Config) {
			c.edit = func(at string, b map[string]any) {
				if at == kind {
					b[name] = value
				}
			}
		}
	}
	params := map[string]string{"boundary": boundary}
	for name, tc := range map[string]struct {
		prepare func(*cloud, *gcp.Config)
		from    cred.CredentialSource
		kind    cred.Kind
		none    bool
		reason  string
	}{
		"other provider": {
			func(_ *cloud, c *gcp.Config) {
				c.Provider = strings.Replace(provider, "daypass", "other", 1)
				c.Audience = "//iam.googleapis.com/" + provider
			},
			cred.CredentialSource{},
			cred.Unavailable, true, "PROVIDER_UNKNOWN",
		},
		"other audience": {func(_ *cloud, c *gcp.Config) { c.Audience = "daypass" }, cred.CredentialSource{}, cred.Unavailable, true, "ID_TOKEN_REFUSED"},
		"condition": {
			func(c *cloud, _ *gcp.Config) { c.condition = func(map[string]any) bool { return false } },
			cred.CredentialSource{Path: account},
			cred.Unavailable, true, "ATTRIBUTE_CONDITION",
		},
		"no source": {
			func(_ *cloud, c *gcp.Config) {
				c.Source = func(context.Context, string, time.Duration, map[string]any) (cred.Secret, error) {
					return cred.Secret{}, io.EOF
				}
			}, cred.CredentialSource{}, cred.Unavailable, true, "",
		},
		"not this account":      {asItIs, cred.CredentialSource{Path: forbidden}, cred.Invalid, true, "IMPERSONATION_REFUSED"},
		"account was deleted":   {asItIs, cred.CredentialSource{Path: deleted}, cred.Invalid, true, "IMPERSONATION_REFUSED"},
		"federated not taken":   {broken("generate", 401, ""), cred.CredentialSource{Path: account}, cred.Unavailable, true, "ID_TOKEN_REFUSED"},
		"busy":                  {broken("token", 429, ""), cred.CredentialSource{}, cred.Unavailable, true, "SOURCE_LIMITS"},
		"busy accounts":         {broken("generate", 429, `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}`), cred.CredentialSource{Path: account}, cred.Unavailable, true, "SOURCE_LIMITS"},
		"500 at the last":       {broken("generate", 500, ""), cred.CredentialSource{Path: account}, cred.Unavailable, false, "ANSWER_LOST"},
		"500 before the last":   {broken("generate", 500, ""), cred.CredentialSource{Path: account, Params: params}, cred.Unavailable, true, ""},
		"500 at the first":      {broken("token", 500, ""), cred.CredentialSource{Path: account}, cred.Unavailable, true, ""},
		"500 at the only":       {broken("token", 503, ""), cred.CredentialSource{}, cred.Unavailable, false, "ANSWER_LOST"},
		"page":                  {broken("token", 200, "<html>"), cred.CredentialSource{}, cred.Unavailable, false, "ANSWER_LOST"},
		"page before the last":  {broken("token", 200, "<html>"), cred.CredentialSource{Path: account}, cred.Unavailable, true, ""},
		"redirect":              {broken("token", 302, ""), cred.CredentialSource{}, cred.Unavailable, false, "ANSWER_LOST"},
		"endless":               {broken("generate", 200, strings.Repeat(" ", 300<<10)), cred.CredentialSource{Path: account}, cred.Unavailable, false, "ANSWER_LOST"},
		"breaks a header":       {edited("account", "accessToken", "x\r\nA: b"), cred.CredentialSource{Path: account}, cred.Unavailable, false, "ANSWER_LOST"},
		"has ended":             {edited("account", "expireTime", "2020-01-01T00:00:00Z"), cred.CredentialSource{Path: account}, cred.Unavailable, false, "ANSWER_LOST"},
		"no end":                {edited("account", "expireTime", nil), cred.CredentialSource{Path: account}, cred.Unavailable, false, "ANSWER_LOST"},
		"bound to a key":        {edited("federated", "token_type", "DPoP"), cred.CredentialSource{}, cred.Unavailable, false, "ANSWER_LOST"},
		"another kind of token": {edited("federated", "issued_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), cred.CredentialSource{}, cred.Unavailable, false, "ANSWER_LOST"},
		"boundary refused": {
			func(c *cloud, _ *gcp.Config) {
				c.answer = func(w http.ResponseWriter, at string) bool {
					if at == "token" && len(c.forms) > 1 {
						refuse(w, "invalid_request", "boundary")
						return true
					}
					return false
				}
			}, cred.CredentialSource{Path: account, Params: params}, cred.Invalid, true, "BOUNDARY_REFUSED",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t)
			cfg := config(c.URL)
			tc.prepare(c, &cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than Retry-After
			defer cancel()
			_, _, err := open(t, cfg).Issue(ctx, spec(time.Hour, tc.from.Path, tc.from.Params))
			wantError(t, err, tc.kind, tc.none, tc.reason)
			if after, ok := cred.RetryAfter(err); ok != (tc.reason == "SOURCE_LIMITS") || ok && after != time.Minute {
				t.Errorf("retry after %v", after)
			}
		})
	}
}

func asItIs(*cloud, *gcp.Config) {}

// TestRepeats holds that faults which pass do not reach the caller, and how often Google is asked.
func TestRepeats(t *testing.T) {
	for _, at := range []string{"token", "generate"} {
		for status, want := range map[int]int{500: 4, 503: 4, 429: 4, 400: 0} {
			c := newCloud(t)
			faults := 2
			c.answer = func(w http.ResponseWriter, path string) bool {
				if path != at || faults == 0 {
					return false
				}
				faults--
				w.WriteHeader(status)
				return true
			}
			_, _, err := open(t, config(c.URL)).Issue(t.Context(), spec(time.Hour, account, nil))
			if (err == nil) != (want > 0) || want > 0 && c.calls() != want {
				t.Errorf("%s, %d: %v after %d requests, want %d", at, status, err, c.calls(), want)
			}
		}
	}
}

// TestLostAnswer holds that the last request alone is not repeated where its answer broke off: a token may
// be in it.
func TestLostAnswer(t *testing.T) {
	for at, want := range map[string]int{"token": 3, "generate": 2} {
		c := newCloud(t)
		c.answer = func(w http.ResponseWriter, path string) bool {
			if path != at {
				return false
			}
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = conn.Close()
			}
			return true
		}
		_, _, err := open(t, config(c.URL)).Issue(t.Context(), spec(time.Hour, account, nil))
		if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) != (at == "token") || c.calls() != want {
			t.Errorf("%s: %v after %d requests, want %d", at, err, c.calls(), want)
		}
	}
}

// TestNothingSecretInErrors has Google send back all that it got.
func TestNothingSecretInErrors(t *testing.T) {
	for _, at := range []string{"token", "generate"} {
		c := newCloud(t)
		c.answer = func(w http.ResponseWriter, path string) bool {
			if path != at {
				return false
			}
			said := ""
			if at == "token" {
				said = c.forms[0].Get("subject_token")
			}
			for token := range c.made {
				said += " " + token
			}
			apiError(w, 400, "INVALID_ARGUMENT", said)
			return true
		}
		_, _, err := open(t, config(c.URL)).Issue(t.Context(), spec(time.Hour, account, nil))
		if err == nil || !strings.Contains(err.Error(), "[redacted]") {
			t.Fatalf("%v", err)
		}
		for token := range c.made {
			if strings.Contains(err.Error(), token) {
				t.Errorf("the error tells %v", err)
			}
		}
		if at == "token" && strings.Contains(err.Error(), c.forms[0].Get("subject_token")) {
			t.Errorf("the error tells %v", err)
		}
	}
}

// TestRefusesConfig holds that what can't be safe, or can't work, does not start.
func TestRefusesConfig(t *testing.T) {
	for name, edit := range map[string]func(*gcp.Config){
		"no provider":      func(c *gcp.Config) { c.Provider = "" },
		"a pool":           func(c *gcp.Config) { c.Provider = strings.TrimSuffix(provider, "/providers/daypass") },
		"project by name":  func(c *gcp.Config) { c.Provider = strings.Replace(provider, "123456789012", "my-project", 1) },
		"line break":       func(c *gcp.Config) { c.Provider = provider + "\n" },
		"no source":        func(c *gcp.Config) { c.Source = nil },
		"plain":            func(c *gcp.Config) { c.AllowPlain = false },
		"plain elsewhere":  func(c *gcp.Config) { c.IAMURL = "http://iam.example.com" },
		"longer than 12 h": func(c *gcp.Config) { c.MaxLife = 13 * time.Hour },
		"shorter than 1 m": func(c *gcp.Config) { c.MaxLife = time.Second },
		"negative timeout": func(c *gcp.Config) { c.Timeout = -1 },
		"no such file":     func(c *gcp.Config) { c.CAFile = "/nonexistent" },
	} {
		cfg := config("http://127.0.0.1:1")
		edit(&cfg)
		if _, err := gcp.New(cfg); cred.KindOf(err) != cred.Invalid || cred.PublicText(err) == "" {
			t.Errorf("%s: %v, want kind invalid", name, err)
		}
	}
	for _, prefix := range []string{"", "//iam.googleapis.com/", "https://iam.googleapis.com/"} {
		if _, err := gcp.New(gcp.Config{Provider: prefix + provider, Source: idToken}); err != nil {
			t.Error(err)
		}
	}
}

// TestCheckAndLost hold what else the broker asks of the issuer.
func TestCheckAndLost(t *testing.T) {
	c := newCloud(t)
	i := open(t, config(c.URL))
	if err := i.Check(t.Context()); err != nil || c.calls() != 0 {
		t.Errorf("%v after %d requests", err, c.calls())
	}
	asked := time.Now()
	end, note := issuer.Unfindable(i).Lost(asked)
	if end != asked.Add(time.Hour+5*time.Second) || note == "" {
		t.Errorf("%v, %q", end, note)
	}
}

// canned answers everything with one text.
type canned struct {
	status     int
	body, date string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Header: http.Header{"Date": {c.date}}, Body: io.NopCloser(strings.NewReader(c.body)), Request: r}, nil
}

// FuzzAnswer holds that no answer makes a credential that breaks a header or has no end.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"x","token_type":"bearer","issued_token_type":"` + accessToken + `","expires_in":60,"accessToken":"y","expireTime":"2099-01-01T00:00:00Z"}`,
		`{"error":"invalid_grant"}`, `{"error":{"status":"PERMISSION_DENIED"}}`, `[]`, `{"error_codes":[1]}`,
	} {
		for _, path := range []string{"", account} {
			f.Add(200, seed, path, "")
			f.Add(400, seed, path, "Sun, 22 Nov 2026 00:00:00 GMT")
		}
	}
	f.Fuzz(func(t *testing.T, status int, body, path, date string) {
		if status >= 500 || status == 429 {
			return // these are asked again, after a pause
		}
		i := open(t, gcp.Config{Provider: provider, Source: idToken})
		gcp.SetTransport(i, canned{status, body, date})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // the pause before a repetition is longer
		defer cancel()
		got, l, err := i.Issue(ctx, spec(time.Hour, path, nil))
		if err != nil {
			if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind == cred.Internal || e.Public == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		value := got.Fields["token"].RevealString()
		if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("the token is %q", value)
		}
		if l.NotAfter.IsZero() || got.NotAfter.After(l.NotAfter) || l.Revocable || l.Note == "" {
			t.Fatalf("%+v", l)
		}
	})
}

func FuzzBoundary(f *testing.F) {
	f.Add(boundary)
	f.Add(`{"accessBoundaryRules":[{"availableResource":"r","availablePermissions":["p"]}]}`)
	c := newCloud(f)
	f.Fuzz(func(t *testing.T, text string) {
		before := c.calls()
		i := open(t, config(c.URL))
		got, _, err := i.Issue(t.Context(), spec(time.Minute, account, map[string]string{"boundary": text}))
		if err != nil {
			if cred.KindOf(err) != cred.Invalid || c.calls() != before {
				t.Fatalf("%v after %d requests", err, c.calls()-before)
			}
			return
		}
		c.set(func() {
			if kind := c.made[got.Fields["token"].RevealString()].kind; (kind == "bounded") != (text != "") {
				t.Fatalf("%q gave out a token of kind %s", text, kind)
			}
		})
	})
}
