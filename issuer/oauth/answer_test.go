package oauth_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/oauth"
)

// TestScopesAreNarrowed holds what is asked for, by the grant's scopes and the target's settings.
func TestScopesAreNarrowed(t *testing.T) {
	for name, tc := range map[string]struct {
		granted []string
		params  map[string]string
		want    string // what is sent
		reason  string
	}{
		"as granted":             {[]string{"write", "read", "read"}, nil, "read write", ""},
		"within the target's":    {[]string{"read"}, map[string]string{"scope": "read write"}, "read", ""},
		"not the target's":       {[]string{"admin"}, map[string]string{"scope": "read write"}, "", "SCOPE_NOT_OF_TARGET"},
		"none is not everything": {nil, map[string]string{"scope": "read write"}, "", "SCOPE_MISSING"},
		"none at all":            {nil, nil, "", "SCOPE_MISSING"},
		"the default":            {nil, map[string]string{"scope": "read write", "default_scope": "read"}, "read", ""},
		"default beyond":         {nil, map[string]string{"scope": "read", "default_scope": "admin"}, "", "SCOPE_NOT_OF_TARGET"},
		"two in one":             {[]string{"read admin"}, nil, "", "SCOPE_INVALID"},
		"a tab":                  {[]string{"read\tadmin"}, nil, "", "SCOPE_INVALID"},
		"a quote":                {[]string{`read"`}, nil, "", "SCOPE_INVALID"},
		"empty":                  {[]string{""}, nil, "", "SCOPE_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			want := hour(tc.granted...)
			want.Target.Credential.Params = tc.params
			_, _, err := open(t, plain(s.URL, sealer(t))).Issue(t.Context(), want)
			if tc.reason != "" {
				if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Invalid || e.Reason != tc.reason || s.requests() != 0 {
					t.Errorf("%v after %d requests, want %s and none", err, s.requests(), tc.reason)
				}
				return
			}
			if err != nil || s.last().Get("scope") != tc.want {
				t.Errorf("%v, sent %q", err, s.last().Get("scope"))
			}
		})
	}
}

// TestAnswers holds what is made of each answer, and that nothing that is refused stays alive where it
// can be revoked.
func TestAnswers(t *testing.T) {
	set := func(name string, value any) func(map[string]any) { return func(b map[string]any) { b[name] = value } }
	unset := func(name string) func(map[string]any) { return func(b map[string]any) { delete(b, name) } }
	for name, tc := range map[string]struct {
		edit   func(map[string]any)
		cfg    func(*oauth.Config)
		reason string        // of the refusal
		note   string        // part of the lease's
		life   time.Duration // zero: the credential has no end
	}{
		"usual":                      {life: time.Hour},
		"scope left out":             {edit: unset("scope"), life: time.Hour},
		"scope in another order":     {edit: set("scope", "write  read"), life: time.Hour},
		"more scope":                 {edit: set("scope", "read write admin"), reason: "SCOPE_TOO_WIDE"},
		"scope in another case":      {edit: set("scope", "read WRITE"), reason: "SCOPE_TOO_WIDE"},
		"less scope":                 {edit: set("scope", "read"), note: "missing: write", life: time.Hour},
		"no scope at all":            {edit: set("scope", ""), note: "missing: read write", life: time.Hour},
		"seconds as text":            {edit: set("expires_in", "60"), life: time.Minute},
		"no end":                     {edit: unset("expires_in"), note: "does not say when this token ends"},
		"null end":                   {edit: set("expires_in", nil), note: "does not say when this token ends"},
		"end of zero":                {edit: set("expires_in", 0), note: "does not say when this token ends"},
		"negative end":               {edit: set("expires_in", -1), note: "does not say when this token ends"},
		"no end, configured":         {edit: unset("expires_in"), cfg: func(c *oauth.Config) { c.Life = time.Minute }, note: "configured with", life: time.Minute},
		"an end beyond all":          {edit: set("expires_in", 1e300), note: "later than was asked", life: 10 * 365 * 24 * time.Hour},
		"bearer in another case":     {edit: set("token_type", "bEARER"), life: time.Hour},
		"no type":                    {edit: unset("token_type"), reason: "TOKEN_TYPE"},
		"bound to a key":             {edit: set("token_type", "DPoP"), reason: "TOKEN_TYPE"},
		"N_A without an exchange":    {edit: set("token_type", "N_A"), reason: "TOKEN_TYPE"},
		"N_A":                        {edit: set("token_type", "N_A"), cfg: exchange(""), life: time.Hour},
		"exchanged":                  {cfg: exchange("urn:ietf:params:oauth:token-type:access_token"), life: time.Hour},
		"exchanged, kind left out":   {edit: unset("issued_token_type"), cfg: exchange(""), reason: "TOKEN_TYPE"},
		"exchanged for another":      {cfg: exchange("urn:ietf:params:oauth:token-type:jwt"), reason: "TOKEN_TYPE"},
		"exchanged for a refresh":    {edit: set("issued_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), cfg: exchange(""), reason: "TOKEN_TYPE"},
		"more scope, none looked at": {edit: set("scope", "all"), cfg: func(c *oauth.Config) { c.NoScopes = true }, life: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.set(func() { s.edit = tc.edit })
			cfg := plain(s.URL, sealer(t))
			if tc.cfg != nil {
				tc.cfg(&cfg)
			}
			began := time.Now()
			c, l, err := open(t, cfg).Issue(t.Context(), hour("read", "write"))
			n, _ := s.alive(t.Context())
			if tc.reason != "" {
				if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Invalid || e.Reason != tc.reason || n != 0 {
					t.Errorf("%v, want %s; %d tokens live", err, tc.reason, n)
				}
				return
			}
			if err != nil || !l.Revocable || !strings.Contains(l.Note, tc.note) || s.works(t.Context(), c) != nil || c.Type != cred.Bearer {
				t.Fatalf("%+v, %v", l, err)
			}
			if tc.life == 0 {
				if !c.NotAfter.IsZero() || !l.NotAfter.IsZero() {
					t.Errorf("ends %v, %v", c.NotAfter, l.NotAfter)
				}
			} else if off := c.NotAfter.Sub(began.Add(tc.life)); off < 0 || off > 10*time.Second || !l.NotAfter.Equal(c.NotAfter) {
				t.Errorf("the end is %v off, and the lease's is %v", off, l.NotAfter)
			}
		})
	}
}

func exchange(requested string) func(*oauth.Config) {
	return func(c *oauth.Config) {
		c.Grant, c.Subject, c.RequestedType = oauth.TokenExchange, idToken, requested
	}
}

// TestRefusedTokenThatStays holds that a token which can't be taken back is not said to be gone.
func TestRefusedTokenThatStays(t *testing.T) {
	for name, prepare := range map[string]func(*server, *oauth.Config){
		"no endpoint": func(_ *server, c *oauth.Config) { c.RevocationURL = "" },
		"503":         func(s *server, _ *oauth.Config) { s.revocable = func(w http.ResponseWriter) { w.WriteHeader(503) } },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			cfg := plain(s.URL, sealer(t))
			s.set(func() {
				s.edit = func(b map[string]any) { b["scope"] = "admin" }
				prepare(s, &cfg)
			})
			_, _, err := open(t, cfg).Issue(t.Context(), hour("read"))
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Kind != cred.Unavailable || e.Reason != "SCOPE_TOO_WIDE" || errors.Is(err, issuer.ErrNotIssued) {
				t.Errorf("%v, want kind unavailable that leaves it open", err)
			}
		})
	}
	s := newServer(t)
	s.set(func() { s.edit = func(b map[string]any) { delete(b, "expires_in") } })
	cfg := plain(s.URL, nil)
	cfg.RevocationURL = ""
	_, _, err := open(t, cfg).Issue(t.Context(), hour("read"))
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Unavailable || e.Reason != "TOKEN_WITHOUT_END" {
		t.Errorf("a token without an end: %v", err)
	}
}

// TestErrors holds kinds: whether a token may have been made, and who has to look at it.
func TestErrors(t *testing.T) {
	says := func(status int, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	code := func(status int, code string) func(http.ResponseWriter) {
		return says(status, fmt.Sprintf(`{"error":%q}`, code))
	}
	type want struct {
		kind  cred.Kind
		none  bool // says that none was made
		retry bool
		text  string
	}
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		want   want
	}{
		"client":            {code(401, "invalid_client"), want{cred.Unavailable, true, false, "as its client"}},
		"client without":    {says(401, ""), want{cred.Unavailable, true, false, "as its client"}},
		"grant":             {code(400, "invalid_grant"), want{cred.Unavailable, true, false, "ID token"}},
		"scope":             {code(400, "invalid_scope"), want{cred.Invalid, true, false, "refused"}},
		"target":            {code(400, "invalid_target"), want{cred.Invalid, true, false, "refused"}},
		"error with 200":    {code(200, "invalid_scope"), want{cred.Invalid, true, false, "refused"}},
		"404 page":          {says(404, "<html>"), want{cred.Invalid, true, false, "refused"}},
		"429":               {says(429, "slow"), want{cred.Unavailable, true, true, "limits"}},
		"slow_down":         {code(400, "slow_down"), want{cred.Unavailable, true, true, "limits"}},
		"500":               {says(500, ""), want{cred.Unavailable, false, false, "not known"}},
		"503 with a code":   {code(503, "temporarily_unavailable"), want{cred.Unavailable, false, false, "not known"}},
		"200 page":          {says(200, "<html>"), want{cred.Unavailable, false, false, "no token"}},
		"200 empty object":  {says(200, "{}"), want{cred.Unavailable, false, false, "no token"}},
		"200 form":          {says(200, "access_token=x&token_type=bearer"), want{cred.Unavailable, false, false, "no token"}},
		"names in capitals": {says(200, `{"ACCESS_TOKEN":"x","token_type":"bearer"}`), want{cred.Unavailable, false, false, "no token"}},
		"a name twice":      {says(200, `{"access_token":"x","access_token":"y","token_type":"bearer"}`), want{cred.Unavailable, false, false, "no token"}},
		"breaks a header":   {says(200, `{"access_token":"x\r\nA: b","token_type":"bearer"}`), want{cred.Unavailable, false, false, "no token"}},
		"endless":           {says(200, `{"access_token":"`+strings.Repeat("x", 300<<10)), want{cred.Unavailable, false, false, "not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.set(func() { s.answer = tc.answer })
			_, _, err := open(t, plain(s.URL, sealer(t))).Issue(t.Context(), hour("read"))
			_, retry := cred.RetryAfter(err)
			got := want{cred.KindOf(err), cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued), retry, tc.want.text}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" || !strings.Contains(cred.PublicText(err), tc.want.text) {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

// TestNothingSecretInErrors has the server send back all that it got, in an error.
func TestNothingSecretInErrors(t *testing.T) {
	s := newServer(t)
	subject := "header." + strings.Repeat("a", 40) + ".signature"
	s.set(func() {
		s.answer = func(w http.ResponseWriter) {
			w.WriteHeader(400)
			_, _ = fmt.Fprintf(w, `{"error":"invalid_request","error_description":"%s and %s\n"}`, fakeSecret, subject)
		}
	})
	cfg := plain(s.URL, sealer(t))
	cfg.Client.Method = oauth.ClientSecretPost
	cfg.Grant = oauth.JWTBearer
	cfg.Subject = signs(subject)
	_, _, err := open(t, cfg).Issue(t.Context(), hour("read"))
	if err == nil || strings.Contains(err.Error(), fakeSecret) || strings.Contains(err.Error(), subject) || !strings.Contains(err.Error(), `"[redacted]"`) {
		t.Errorf("the error tells %v", err)
	}
}

// TestRevocation holds what is sent and what each answer means (RFC 7009, section 2.2).
func TestRevocation(t *testing.T) {
	s := newServer(t)
	i := open(t, plain(s.URL, sealer(t)))
	_, l, err := i.Issue(t.Context(), hour("read"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		kind   cred.Kind
	}{
		"unsupported": {func(w http.ResponseWriter) { fail(w, 400, "unsupported_token_type") }, cred.Invalid},
		"not now":     {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "9"); w.WriteHeader(503) }, cred.Unavailable},
		"client":      {func(w http.ResponseWriter) { fail(w, 401, "invalid_client") }, cred.Unavailable},
		"redirect":    {func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(302) }, cred.Unavailable},
	} {
		s.set(func() { s.revocable = tc.answer })
		err := i.Revoke(t.Context(), cred.Lease{Handle: l.Handle})
		if after, _ := cred.RetryAfter(err); cred.KindOf(err) != tc.kind || (name == "not now") != (after == 9*time.Second) {
			t.Errorf("%s: %v, retry after %v", name, err, after)
		}
	}
	s.set(func() { s.revocable = nil })
	if err := i.Revoke(t.Context(), cred.Lease{Handle: l.Handle}); err != nil {
		t.Error(err)
	}
	if got := s.last(); got.Get("token_type_hint") != "access_token" || !got.Has("basic:id") {
		t.Errorf("sent %v", got)
	}
	for _, handle := range []string{"", "x", "oauth1.", "oauth1.AAAA", l.Handle + "A", "oauth2" + l.Handle[6:]} {
		if err := i.Revoke(t.Context(), cred.Lease{Handle: handle}); cred.KindOf(err) != cred.Invalid {
			t.Errorf("the handle %q: %v", handle, err)
		}
	}
}

// TestRefreshTokenThatCameAlong holds that one which nobody asked for ends with the lease.
func TestRefreshTokenThatCameAlong(t *testing.T) {
	s := newServer(t)
	s.set(func() {
		s.edit = func(b map[string]any) { b["refresh_token"] = "unasked"; s.live["unasked"] = true }
	})
	i := open(t, plain(s.URL, sealer(t)))
	_, l, err := i.Issue(t.Context(), hour("read"))
	if err == nil {
		err = i.Revoke(t.Context(), cred.Lease{Handle: l.Handle})
	}
	if n, _ := s.alive(t.Context()); err != nil || n != 0 {
		t.Errorf("%v, %d tokens live", err, n)
	}
}

// TestShapes holds types and names of fields.
func TestShapes(t *testing.T) {
	for name, tc := range map[string]struct {
		from cred.CredentialSource
		want []string // fields; none: it is refused
	}{
		"bearer":      {cred.CredentialSource{}, []string{"token"}},
		"renamed":     {cred.CredentialSource{Fields: map[string]string{"key": "access_token"}}, []string{"key"}},
		"user":        {cred.CredentialSource{Type: cred.UserPassword, Params: map[string]string{"username": "oauth2"}}, []string{"password", "username"}},
		"no user":     {cred.CredentialSource{Type: cred.UserPassword}, nil},
		"other type":  {cred.CredentialSource{Type: cred.AWS}, nil},
		"other field": {cred.CredentialSource{Fields: map[string]string{"key": "id_token"}}, nil},
		"other param": {cred.CredentialSource{Params: map[string]string{"scopes": "read"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			want := hour("read")
			want.Target.Credential = tc.from
			c, _, err := open(t, plain(s.URL, sealer(t))).Issue(t.Context(), want)
			if tc.want == nil {
				if cred.KindOf(err) != cred.Invalid || s.requests() != 0 {
					t.Errorf("%v after %d requests", err, s.requests())
				}
				return
			}
			var names []string
			for name := range c.Fields {
				names = append(names, name)
			}
			if diff := cmp.Diff(tc.want, sorted(strings.Join(names, " "))); diff != "" || err != nil {
				t.Error(err, diff)
			}
		})
	}
}

// FuzzAnswer holds that no answer makes a credential that breaks a header, a scope that was not asked
// for, or an end that has passed.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"x","token_type":"bearer","expires_in":60,"scope":"read"}`, `{"access_token":"x","token_type":"bearer","expires_in":"1e9"}`,
		`{"error":"x"}`, `[]`, `{"access_token":"é","token_type":"bearer"}`, `{"access_token":"x","token_type":"bearer","scope":"read\u0000"}`,
	} {
		f.Add(200, seed)
	}
	seal := sealer(f)
	f.Fuzz(func(t *testing.T, status int, body string) {
		i, err := oauth.New(plain("https://login.example.com", seal))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = i.Close() }()
		oauth.SetTransport(i, canned{status, body})
		c, l, err := i.Issue(t.Context(), hour("read"))
		if err != nil {
			if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind == cred.Internal || e.Public == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		value := c.Fields["token"].RevealString()
		if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("the token is %q", value)
		}
		if !c.NotAfter.IsZero() && !c.NotAfter.After(time.Now().Add(-time.Minute)) || !l.Revocable {
			t.Fatalf("%+v", l)
		}
	})
}
