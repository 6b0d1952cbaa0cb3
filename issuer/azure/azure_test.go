package azure_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/azure"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(base string) azure.Config {
	return azure.Config{Tenant: tenant, ClientID: client, Source: signs(nil), Authority: base + "/", AllowPlain: true, Timeout: 5 * time.Second}
}

func open(t testing.TB, cfg azure.Config) *azure.Issuer {
	t.Helper()
	i, err := azure.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func spec(life time.Duration, scopes ...string) issuer.Spec {
	now := time.Now()
	return issuer.Spec{
		ID: cred.NewLeaseID(now), Grant: cred.NewGrantID(now), NotAfter: now.Add(life), Scopes: scopes, Target: cred.Target{Name: "x"},
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
	d := newDirectory(t)
	issuertest.Test(t, issuertest.Harness{
		New:    func(t *testing.T, base string) issuer.Issuer { return open(t, config(base)) },
		Source: d.URL, Works: d.works, Alive: d.alive, NotRevocable: true,
		Spec: func(notAfter time.Time) issuer.Spec { return spec(time.Until(notAfter), manage) },
	})
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// TestRequest holds what Entra is sent, and what is made of its answer: expires_in is the end and
// ext_expires_in is none.
func TestRequest(t *testing.T) {
	d := newDirectory(t)
	sp := spec(10*time.Minute, manage)
	got, l, err := open(t, config(d.URL)).Issue(t.Context(), sp)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {manage},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": d.forms[0]["client_assertion"],
	}
	if diff := cmp.Diff(want, d.forms[0]); diff != "" {
		t.Error(diff)
	}
	claims := d.claims[0]
	if claims["aud"] != public || claims["grant"] != string(sp.Grant) || number(claims["exp"])-number(claims["nbf"]) != 300 {
		t.Errorf("the assertion claims %v", claims)
	}
	if !uuid.MatchString(d.ids[0]) || !strings.Contains(l.Note, d.ids[0]) {
		t.Errorf("the correlation ID is %q, the note %q", d.ids[0], l.Note)
	}
	off := time.Until(l.NotAfter) - 3899*time.Second
	if off > 0 || off < -10*time.Second || !got.NotAfter.Equal(l.NotAfter) || l.Revocable || got.Type != cred.Bearer || !strings.Contains(l.Note, "later than was asked") {
		t.Errorf("%+v", l)
	}
	if _, l, err = open(t, config(d.URL)).Issue(t.Context(), spec(2*time.Hour, manage)); err != nil || strings.Contains(l.Note, "later than was asked") || !strings.Contains(l.Note, "can't revoke") {
		t.Errorf("%+v, %v", l, err)
	}
	if d.ids[0] == d.ids[1] {
		t.Error("two leases have one correlation ID")
	}
}

// TestApplicationOfTheTarget holds that a target can name an application of its own.
func TestApplicationOfTheTarget(t *testing.T) {
	d := newDirectory(t)
	cfg := config(d.URL)
	cfg.ClientID = ""
	sp := spec(time.Hour)
	sp.Target.Credential.Params = map[string]string{"default_scope": manage}
	_, _, err := open(t, cfg).Issue(t.Context(), sp)
	wantError(t, err, cred.Invalid, true, "PARAM_INVALID")
	sp.Target.Credential.Path = client
	if _, _, err := open(t, cfg).Issue(t.Context(), sp); err != nil || d.forms[0].Get("scope") != manage {
		t.Errorf("%v, sent %v", err, d.forms)
	}
	sp.Target.Credential.Path = stranger
	_, _, err = open(t, config(d.URL)).Issue(t.Context(), sp)
	wantError(t, err, cred.Unavailable, true, "APPLICATION_UNKNOWN")
}

// TestClouds holds authorities and what a federated credential's audience is called there.
func TestClouds(t *testing.T) {
	for authority, audience := range map[string]string{
		"": public, "https://login.microsoftonline.com/": public,
		"https://login.microsoftonline.us": public + "USGov", "https://login.partner.microsoftonline.cn": public + "China",
	} {
		var to, asked string
		cfg := azure.Config{Tenant: tenant, ClientID: client, Authority: authority}
		cfg.Source = func(_ context.Context, audience string, _ time.Duration, _ map[string]any) (cred.Secret, error) {
			asked = audience
			return cred.SecretString("a.b.c"), nil
		}
		i := open(t, cfg)
		azure.SetTransport(i, canned{status: 400, to: &to})
		_, _, err := i.Issue(t.Context(), spec(time.Hour, manage))
		host := strings.TrimSuffix(authority, "/")
		if host == "" {
			host = "https://login.microsoftonline.com"
		}
		if want := host + "/" + tenant + "/oauth2/v2.0/token"; err == nil || asked != audience || to != want {
			t.Errorf("%s: asked %s with the audience %s", authority, to, asked)
		}
	}
}

// TestMismatch holds that the part of the federated credential which does not match is told.
func TestMismatch(t *testing.T) {
	for name, tc := range map[string]struct {
		claims map[string]any
		reason string
		text   string
	}{
		"issuer with a slash":  {map[string]any{"iss": brokerURL + "/"}, "FEDERATION_ISSUER", "issuer"},
		"subject":              {map[string]any{"sub": "broker"}, "FEDERATION_SUBJECT", "subject"},
		"subject in capitals":  {map[string]any{"sub": "Daypass-Broker"}, "FEDERATION_SUBJECT", "upper and lower case"},
		"audience":             {map[string]any{"aud": "api://azureadtokenexchange"}, "FEDERATION_AUDIENCE", "audience"},
		"clock that is slow":   {map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}, "ID_TOKEN_TIME", "clock"},
		"clock that goes fast": {map[string]any{"nbf": time.Now().Add(time.Minute).Unix()}, "ID_TOKEN_TIME", "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t)
			cfg := config(d.URL)
			cfg.Source = signs(tc.claims)
			_, _, err := open(t, cfg).Issue(t.Context(), spec(time.Hour, manage))
			wantError(t, err, cred.Unavailable, true, tc.reason)
			if !strings.Contains(cred.PublicText(err), tc.text) || d.calls() != 1 {
				t.Errorf("%v after %d requests", err, d.calls())
			}
		})
	}
}

// TestErrors holds kinds: whether a token may have been made, and who has to look at it.
func TestErrors(t *testing.T) {
	says := func(status int, body string) func(*directory, *azure.Config) {
		return func(d *directory, _ *azure.Config) {
			d.answer = func(w http.ResponseWriter) bool {
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
				return true
			}
		}
	}
	coded := func(status int, code string, number int) func(*directory, *azure.Config) {
		return func(d *directory, _ *azure.Config) {
			d.answer = func(w http.ResponseWriter) bool {
				refuse(w, status, code, number, "because")
				return true
			}
		}
	}
	edited := func(name string, value any) func(*directory, *azure.Config) {
		return func(d *directory, _ *azure.Config) { d.edit = func(b map[string]any) { b[name] = value } }
	}
	for name, tc := range map[string]struct {
		prepare func(*directory, *azure.Config)
		scope   string
		kind    cred.Kind
		none    bool
		reason  string
	}{
		"no match at all":    {coded(400, "invalid_request", 70021), manage, cred.Unavailable, true, "FEDERATION_MISMATCH"},
		"tenant":             {func(_ *directory, c *azure.Config) { c.Tenant = "fabrikam.example.com" }, manage, cred.Unavailable, true, "APPLICATION_UNKNOWN"},
		"no principal":       {coded(401, "invalid_client", 7000229), manage, cred.Unavailable, true, "APPLICATION_UNKNOWN"},
		"disabled":           {coded(401, "unauthorized_client", 7000112), manage, cred.Unavailable, true, "APPLICATION_DISABLED"},
		"no JWT":             {func(_ *directory, c *azure.Config) { c.Source = constant("opaque") }, manage, cred.Unavailable, true, "ID_TOKEN_UNVERIFIED"},
		"number of tomorrow": {coded(401, "invalid_client", 7009999), manage, cred.Unavailable, true, "CLIENT_REFUSED"},
		"a request's number": {coded(400, "invalid_request", 7009999), manage, cred.Invalid, true, "SOURCE_REFUSED"},
		"numbers as text":    {says(401, `{"error_codes":["700213"],"error":"invalid_client"}`), manage, cred.Unavailable, true, "CLIENT_REFUSED"},
		"401 page":           {says(401, "<html>"), manage, cred.Unavailable, true, "CLIENT_REFUSED"},
		"404 page":           {says(404, "<html>"), manage, cred.Invalid, true, "SOURCE_REFUSED"},
		"resource":           {asItIs, "https://nobody.example.com/.default", cred.Invalid, true, "SCOPE_REFUSED"},
		"role":               {coded(400, "invalid_grant", 501051), manage, cred.Invalid, true, "ROLE_MISSING"},
		"conditional access": {coded(400, "invalid_grant", 53003), manage, cred.Invalid, true, "CONDITIONAL_ACCESS"},
		"429":                {says(429, ""), manage, cred.Unavailable, true, "SOURCE_LIMITS"},
		"busy":               {says(400, `{"error":"temporarily_unavailable"}`), manage, cred.Unavailable, true, "SOURCE_LIMITS"},
		"503":                {says(503, `{"error":"temporarily_unavailable","error_codes":[90033]}`), manage, cred.Unavailable, false, "ANSWER_LOST"},
		"page":               {says(200, "<html>"), manage, cred.Unavailable, false, "ANSWER_LOST"},
		"redirect":           {says(302, ""), manage, cred.Unavailable, false, "ANSWER_LOST"},
		"endless":            {says(200, strings.Repeat(" ", 300<<10)), manage, cred.Unavailable, false, "ANSWER_LOST"},
		"breaks a header":    {edited("access_token", "x\r\nA: b"), manage, cred.Unavailable, false, "ANSWER_LOST"},
		"bound to a key":     {edited("token_type", "pop"), manage, cred.Unavailable, false, "ANSWER_LOST"},
		"no end":             {edited("expires_in", nil), manage, cred.Unavailable, false, "ANSWER_LOST"},
		"no source": {
			func(_ *directory, c *azure.Config) {
				c.Source = func(context.Context, string, time.Duration, map[string]any) (cred.Secret, error) {
					return cred.Secret{}, io.EOF
				}
			}, manage, cred.Unavailable, true, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDirectory(t)
			cfg := config(d.URL)
			tc.prepare(d, &cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than Retry-After
			defer cancel()
			_, _, err := open(t, cfg).Issue(ctx, spec(time.Hour, tc.scope))
			wantError(t, err, tc.kind, tc.none, tc.reason)
			if after, ok := cred.RetryAfter(err); ok != (tc.reason == "SOURCE_LIMITS") || ok && after != time.Minute {
				t.Errorf("retry after %v", after)
			}
		})
	}
}

func asItIs(*directory, *azure.Config) {}

func constant(token string) func(context.Context, string, time.Duration, map[string]any) (cred.Secret, error) {
	return func(context.Context, string, time.Duration, map[string]any) (cred.Secret, error) {
		return cred.SecretString(token), nil
	}
}

// TestRefusesTargets holds what is refused before anything is asked.
func TestRefusesTargets(t *testing.T) {
	for name, tc := range map[string]struct {
		edit   func(*issuer.Spec)
		reason string
	}{
		"no scope":       {func(s *issuer.Spec) { s.Scopes = nil }, "SCOPE_MISSING"},
		"two resources":  {func(s *issuer.Spec) { s.Scopes = []string{manage, "https://vault.azure.net/.default"} }, "SCOPE_INVALID"},
		"one permission": {func(s *issuer.Spec) { s.Scopes = []string{"https://graph.microsoft.com/User.Read"} }, "SCOPE_INVALID"},
		"not the target's": {func(s *issuer.Spec) {
			s.Target.Credential.Params = map[string]string{"scope": "https://vault.azure.net/.default"}
		}, "SCOPE_NOT_OF_TARGET"},
		"other param":     {func(s *issuer.Spec) { s.Target.Credential.Params = map[string]string{"tenant": "x"} }, "PARAM_UNKNOWN"},
		"name for an ID":  {func(s *issuer.Spec) { s.Target.Credential.Path = "my-app" }, "PARAM_INVALID"},
		"type":            {func(s *issuer.Spec) { s.Target.Credential.Type = cred.TLS }, "FIELD_MISSING"},
		"nothing is left": {func(s *issuer.Spec) { s.NotAfter = time.Now() }, "ENDED"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t)
			sp := spec(time.Hour, manage)
			tc.edit(&sp)
			_, _, err := open(t, config(d.URL)).Issue(t.Context(), sp)
			wantError(t, err, cred.Invalid, true, tc.reason)
			if d.calls() != 0 {
				t.Errorf("asked %d times", d.calls())
			}
		})
	}
}

// TestRepeats holds that faults which pass do not reach the caller, and that each try is one that Entra's
// log knows by the same ID.
func TestRepeats(t *testing.T) {
	for status, want := range map[int]int{500: 3, 503: 3, 429: 3, 400: 1} {
		d := newDirectory(t)
		d.answer = func(w http.ResponseWriter) bool {
			if len(d.forms) == 3 {
				return false
			}
			w.WriteHeader(status)
			return true
		}
		_, _, err := open(t, config(d.URL)).Issue(t.Context(), spec(time.Hour, manage))
		if (err == nil) != (want == 3) || d.calls() != want || d.ids[0] != d.ids[want-1] {
			t.Errorf("%d: %v after %d requests, want %d", status, err, d.calls(), want)
		}
	}
}

// TestLostAnswer holds that a request is not repeated where its answer broke off: a token may be in it.
func TestLostAnswer(t *testing.T) {
	d := newDirectory(t)
	d.answer = func(w http.ResponseWriter) bool {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
		return true
	}
	_, _, err := open(t, config(d.URL)).Issue(t.Context(), spec(time.Hour, manage))
	wantError(t, err, cred.Unavailable, false, "ANSWER_LOST")
	if d.calls() != 1 {
		t.Errorf("asked %d times", d.calls())
	}
}

// TestNothingSecretInErrors has Entra send back the assertion.
func TestNothingSecretInErrors(t *testing.T) {
	d := newDirectory(t)
	d.answer = func(w http.ResponseWriter) bool {
		refuse(w, 401, "invalid_client", 700213, d.forms[0].Get("client_assertion"))
		return true
	}
	_, _, err := open(t, config(d.URL)).Issue(t.Context(), spec(time.Hour, manage))
	if err == nil || strings.Contains(err.Error(), d.forms[0].Get("client_assertion")) || !strings.Contains(err.Error(), "AADSTS700213: [redacted]") {
		t.Errorf("the error tells %v", err)
	}
}

// TestRefusesConfig holds that what can't be safe, or can't work, does not start.
func TestRefusesConfig(t *testing.T) {
	for name, edit := range map[string]func(*azure.Config){
		"no tenant":        func(c *azure.Config) { c.Tenant = "" },
		"every tenant":     func(c *azure.Config) { c.Tenant = "Common" },
		"path for tenant":  func(c *azure.Config) { c.Tenant = "contoso/../x" },
		"dots for tenant":  func(c *azure.Config) { c.Tenant = ".." },
		"client by name":   func(c *azure.Config) { c.ClientID = "my-app" },
		"no source":        func(c *azure.Config) { c.Source = nil },
		"plain":            func(c *azure.Config) { c.AllowPlain = false },
		"plain elsewhere":  func(c *azure.Config) { c.Authority = "http://login.example.com" },
		"negative timeout": func(c *azure.Config) { c.Timeout = -1 },
		"no such file":     func(c *azure.Config) { c.CAFile = "/nonexistent" },
	} {
		cfg := config("http://127.0.0.1:1")
		edit(&cfg)
		if _, err := azure.New(cfg); cred.KindOf(err) != cred.Invalid || cred.PublicText(err) == "" {
			t.Errorf("%s: %v, want kind invalid", name, err)
		}
	}
}

// TestCheckAndLost hold what else the broker asks of the issuer.
func TestCheckAndLost(t *testing.T) {
	d := newDirectory(t)
	i := open(t, config(d.URL))
	if err := i.Check(t.Context()); err != nil || d.calls() != 0 {
		t.Errorf("%v after %d requests", err, d.calls())
	}
	asked := time.Now()
	end, note := issuer.Unfindable(i).Lost(asked)
	if end != asked.Add(24*time.Hour+5*time.Second) || note == "" {
		t.Errorf("%v, %q", end, note)
	}
}

// canned answers everything with one text, and notes where it was asked.
type canned struct {
	status int
	body   string
	to     *string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.to != nil {
		*c.to = r.URL.String()
	}
	return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body)), Request: r}, nil
}

// FuzzAnswer holds that no answer makes a credential that breaks a header or has no end.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"x","token_type":"bearer","expires_in":60,"ext_expires_in":1e9}`, `{"error":"invalid_client","error_codes":[700213]}`,
		`{"error_codes":{},"error":1}`, `[]`, `{"access_token":"é","token_type":"bearer","expires_in":"1"}`,
	} {
		f.Add(200, seed)
		f.Add(401, seed)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status >= 500 || status == 429 {
			return // these are asked again, after a pause
		}
		i := open(t, azure.Config{Tenant: tenant, ClientID: client, Source: constant("a.b.c")})
		azure.SetTransport(i, canned{status: status, body: body})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // the pause before a repetition is longer
		defer cancel()
		got, l, err := i.Issue(ctx, spec(time.Hour, manage))
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
		if l.NotAfter.Before(time.Now().Add(-time.Minute)) || l.Revocable || l.Note == "" {
			t.Fatalf("%+v", l)
		}
	})
}

// TestFaultThenRefusal holds that a refusal of a later try does not say that nothing was made, where an
// earlier one was answered with a fault.
func TestFaultThenRefusal(t *testing.T) {
	for _, second := range []int{http.StatusBadRequest, http.StatusTooManyRequests} {
		d := newDirectory(t)
		d.answer = func(w http.ResponseWriter) bool {
			w.Header().Set("Retry-After", "60")
			if len(d.forms) == 1 {
				w.Header().Del("Retry-After")
				w.WriteHeader(http.StatusInternalServerError)
			} else {
				w.WriteHeader(second)
			}
			return true
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := open(t, config(d.URL)).Issue(ctx, spec(time.Hour, manage))
		wantError(t, err, cred.Unavailable, false, "ANSWER_LOST")
		if d.calls() != 2 {
			t.Errorf("%d requests", d.calls())
		}
	}
}
