package proxy

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

func TestForwardsWithTheCredentialAndRecordsBothHalves(t *testing.T) {
	var got *http.Request
	var body string
	r := newRig(t, setup{base: "/v1/", upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		got, body = q, string(b)
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "made")
	})})
	q := r.request("POST", "/api/things/a%2Fb?x=1&y=%20", strings.NewReader("hello"))
	q.Header.Set("X-Custom", "kept")
	res := r.do(q)
	if s := text(t, res); res.StatusCode != http.StatusCreated || s != "made" || res.Header.Get("X-Answer") != "yes" {
		t.Fatalf("got %d %q %v", res.StatusCode, s, res.Header)
	}
	if got.RequestURI != "/v1/things/a%2Fb?x=1&y=%20" || got.Method != "POST" || body != "hello" {
		t.Errorf("upstream saw %s %s %q", got.Method, got.RequestURI, body)
	}
	if a := got.Header.Get("Authorization"); a != "Bearer "+secretText || got.Header.Get("X-Custom") != "kept" {
		t.Errorf("upstream saw header %v", got.Header)
	}
	begin, end := r.log.await(t, audit.UseBegin, 1), r.log.await(t, audit.UseEnd, 1)
	if begin.Use.ID == "" || begin.Use.ID != end.Use.ID || string(begin.Use.ID) != res.Header.Get(useHeader) {
		t.Errorf("ids: begin %q, end %q, answer %q", begin.Use.ID, end.Use.ID, res.Header.Get(useHeader))
	}
	want := &audit.Use{
		ID: begin.Use.ID, Proxy: "edge-1", Protocol: "http", Method: "POST", Host: got.Host, Path: "/v1/things/a%2Fb",
		Status: 201, BytesIn: 5, BytesOut: 4, Ended: EndedComplete, DurationMS: end.Use.DurationMS,
	}
	if d := cmp.Diff(want, end.Use); d != "" {
		t.Errorf("end (-want +got)\n%s", d)
	}
	if begin.Grant != "gr_1" || begin.Principal.Subject != "alice" || begin.Peer == "" || begin.Detail["lease"] != "le_1" || begin.Detail["target"] != "api" {
		t.Errorf("begin %+v", begin)
	}
}

func TestTokenCarriers(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok")})
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	good := r.token()
	for _, c := range []struct {
		name   string
		header http.Header
		status int
		rule   string
		auth   string // what WWW-Authenticate begins with
	}{
		{"bearer", http.Header{"Authorization": {"bearer " + good}}, 200, "", ""},
		{"api key", http.Header{"X-Api-Key": {good}}, 200, "", ""},
		{"basic", http.Header{"Authorization": {basic("anybody", good)}}, 200, "", ""},
		{"none", http.Header{}, 401, "token_missing", `Bearer realm="daypass"`},
		{"empty", http.Header{"Authorization": {"Bearer "}}, 401, "token_missing", `Bearer realm="daypass"`},
		{"other scheme", http.Header{"Authorization": {"Digest x"}}, 401, "token_missing", `Bearer realm="daypass"`},
		{"two headers", http.Header{"Authorization": {"Bearer " + good}, "X-Api-Key": {good}}, 400, "token_twice", `Bearer realm="daypass", error="invalid_request"`},
		{"one header twice", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, 400, "token_twice", `Bearer realm="daypass", error="invalid_request"`},
		{"bad basic", http.Header{"Authorization": {"Basic !"}}, 400, "basic_malformed", `Bearer realm="daypass", error="invalid_request"`},
		{"garbage", http.Header{"Authorization": {"Bearer x.y.z"}}, 401, "token_malformed", `Bearer realm="daypass", error="invalid_token"`},
		{"proxy header", http.Header{"Proxy-Authorization": {"Bearer " + good}}, 401, "token_missing", `Bearer realm="daypass"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := r.request("GET", "/api/x", nil)
			q.Header = c.header
			res := r.do(q)
			if c.status == 200 {
				if s := text(t, res); res.StatusCode != 200 || s != "ok" {
					t.Fatalf("got %d %q", res.StatusCode, s)
				}
				return
			}
			wantProblem(t, res, c.status, c.rule)
			challenges := res.Header.Values("Www-Authenticate")
			if len(challenges) == 0 || !strings.HasPrefix(challenges[0], c.auth) {
				t.Errorf("WWW-Authenticate %q, want it to begin with %q", challenges, c.auth)
			}
			if c.rule == "token_missing" && challenges[0] != c.auth {
				t.Errorf("an error code without a token: %q", challenges[0])
			}
		})
	}
}

func TestRefusesTokensForOthers(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok"), config: func(c *Config) { c.Serves = func(n string) bool { return n != "elsewhere" } }})
	other := newRig(t, setup{upstream: reply("ok")})
	bound := r.claims()
	bound.Confirmation = confirmation()
	for _, c := range []struct {
		name, path, token string
		status            int
		rule              string
	}{
		{"another target", "/other/x", r.token(), 401, "wrong_audience"},
		{"another broker's key", "/api/x", other.token(), 401, "unknown_key"},
		{"not served", "/elsewhere/x", r.token(), 404, "target_unknown"},
		{"bound to a key", "/api/x", r.sign(bound), 401, "proof_missing"},
		{"no target", "/", r.token(), 404, "target_unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := r.request("GET", c.path, nil)
			q.Header.Set("Authorization", "Bearer "+c.token)
			p := wantProblem(t, r.do(q), c.status, c.rule)
			for _, e := range r.log.all() {
				if e.Kind == audit.UseBegin {
					t.Error("a refused request has a begin")
				}
			}
			if !strings.HasPrefix(p.Instance, "urn:daypass:use:us_") {
				t.Errorf("instance %q", p.Instance)
			}
		})
	}
	r.log.await(t, audit.UseRefused, 5)
	rules := map[string]bool{}
	for _, e := range r.log.all() {
		rules[e.Use.Rule] = true
	}
	want := map[string]bool{"wrong_audience": true, "unknown_key": true, "target_unknown": true, "proof_missing": true}
	if d := cmp.Diff(want, rules); d != "" {
		t.Errorf("recorded rules (-want +got)\n%s", d)
	}
}

func TestRefusedForms(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok")})
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		status int
		rule   string
	}{
		{"websocket", func(q *http.Request) { q.Header.Set("Connection", "Upgrade"); q.Header.Set("Upgrade", "websocket") }, 501, "upgrade"},
		{"trace", func(q *http.Request) { q.Method = "TRACE" }, 400, "trace"},
		{"method override", func(q *http.Request) { q.Header.Set("X-HTTP-Method-Override", "DELETE") }, 400, "method_override"},
		{"climbs", func(q *http.Request) { q.URL.Path, q.URL.RawPath = "/api/a/../b", "/api/a/%2e%2E/b" }, 400, "path"},
		{"options star", func(q *http.Request) { q.Method = "OPTIONS"; q.URL.Opaque = "*" }, 400, "request_form"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := r.request("GET", "/api/x", nil)
			c.change(q)
			wantProblem(t, r.do(q), c.status, c.rule)
		})
	}
	if n := r.log.count(audit.UseBegin); n != 0 {
		t.Errorf("%d begins", n)
	}
}

func TestHealth(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok")})
	status := func(path string) int {
		res, err := r.client.Get(r.base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if a, b := status("/-/healthz"), status("/-/readyz"); a != 200 || b != 200 {
		t.Errorf("healthy: %d, %d", a, b)
	}
	r.proxy.synced.Store(nil)
	if a, b := status("/-/healthz"), status("/-/readyz"); a != 200 || b != 503 {
		t.Errorf("out of touch: %d, %d", a, b)
	}
}

func TestServeRefusesPlainOffLoopback(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok")})
	err := r.front.Serve(farListener{}, nil)
	if cred.KindOf(err) != cred.Invalid {
		t.Errorf("got %v", err)
	}
}
