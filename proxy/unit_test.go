package proxy

import (
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

func TestSplitPath(t *testing.T) {
	for in, want := range map[string][2]string{
		"/api":                     {"api", ""},
		"/api/":                    {"api", "/"},
		"/api/a/b%2Fc":             {"api", "/a/b%2Fc"},
		"/a.b-c_1/100%25":          {"a.b-c_1", "/100%25"},
		"/api/...":                 {"api", "/..."},
		"/api/v;a=..":              {"api", "/v;a=.."},
		"/api/caf%C3%A9":           {"api", "/caf%C3%A9"},
		"/api/a:b@c,d":             {"api", "/a:b@c,d"},
		"/api/x.git/info/refs":     {"api", "/x.git/info/refs"},
		"/api/%E2%80%A6/trailing/": {"api", "/%E2%80%A6/trailing/"},
	} {
		target, rest, err := splitPath(in)
		if err != nil || target != want[0] || rest != want[1] {
			t.Errorf("%q: %q, %q, %v", in, target, rest, err)
		}
	}
	for _, in := range []string{
		"", "*", "api/x", "/", "//api", "/-/x", "/%61pi/x", "/api%2Fx", "/.api/x",
		"/api/..", "/api/../x", "/api/.", "/api/./x", "/api/%2e%2e/x", "/api/.%2E/x", "/api/%252e%252e/x", "/api/%25252e./x",
		"/api/a%2f..%2fb", "/api/..%2f", "/api/a//b", "/api/a%2f/b", "/api//", "/api/..;/x", "/api/..;a=b/x", "/api/;/x", "/api/%3b/x", "/api/%2e%2e%3bx/y",
		`/api/a\b`, "/api/a%5cb", "/api/a%255cb", "/api/%00", "/api/a%0d%0ab", "/api/a%7f", "/api/%c0%ae%c0%ae/x", "/api/%20../x", "/api/..%20/x",
		"/api/" + strings.Repeat("a", maxPath), "/api/%2525252525252541",
	} {
		if _, rest, err := splitPath(in); err == nil {
			t.Errorf("%q passed as %q", in, rest)
		}
	}
}

// FuzzPath holds that no path leaves the base path of its upstream, however an upstream reads it.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/api/a/b", "/api/%2e%2e/x", "/api/a%252f..", "/api/..;/x", "/api/%5c..", "/api/a%2f%2fb", "/api/\xc0\xae", "/api/a?b", "/api/x%zz", "/api/;/x", "/api/a?b#c"} {
		f.Add(seed)
	}
	up, err := newUpstream(cred.HTTPTarget{Upstream: "https://up.example.com/base/v1"}, bearer("t0k3n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		in, err := url.ParseRequestURI(raw)
		if err != nil {
			return
		}
		_, rest, err := splitPath(in.EscapedPath())
		if err != nil {
			return
		}
		out, err := up.urlOf(rest, in.RawQuery)
		if err != nil {
			return
		}
		again, err := url.Parse(out.String())
		if err != nil || again.Host != "up.example.com" || again.Scheme != "https" || again.EscapedPath() != "/base/v1"+rest || again.RawQuery != in.RawQuery {
			t.Fatalf("%q became %q, %v", raw, out, err)
		}
		p := again.EscapedPath()
		for range 8 {
			for _, read := range []string{p, strings.ReplaceAll(p, `\`, "/"), cutParameters(p)} {
				if clean := path.Clean(read); clean != "/base/v1" && !strings.HasPrefix(clean, "/base/v1/") {
					t.Fatalf("%q reads as %q", raw, clean)
				}
			}
			decoded, err := url.PathUnescape(p)
			if err != nil {
				return
			}
			p = decoded
		}
	})
}

func cutParameters(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i], _, _ = strings.Cut(parts[i], ";")
	}
	return strings.Join(parts, "/")
}

func bearer(v string) cred.Credential {
	return cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": cred.SecretString(v)}}
}

// FuzzStrip holds that nothing of a caller's credentials, and no second copy of the injected header,
// gets through, in any case and with any separator.
func FuzzStrip(f *testing.F) {
	for _, seed := range []string{"authorization", "X-Api-Key", "x_api_key", "PROXY-authorization", "cookie", "x-inject", "X_Inject", "x-forwarded-for", "X_Forwarded_Host", "range", "connection", "x-other"} {
		f.Add(seed, "x-other, keep-alive")
	}
	f.Fuzz(func(t *testing.T, name, connection string) {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(connection) {
			return // the server refuses it
		}
		h := http.Header{}
		h.Set(name, "from-the-caller")
		h.Add("Connection", connection)
		out := requestHeader(h, "X-Inject")
		(&upstream{header: "X-Inject", secret: cred.SecretString("v")}).setHeader(out)
		for got, values := range out {
			flat := strings.ToLower(strings.ReplaceAll(got, "_", "-"))
			switch {
			case flat == "x-inject":
				if got != "X-Inject" || !slices.Equal(values, []string{"v"}) {
					t.Errorf("%q: %q", got, values)
				}
			case flat == "te" || flat == "accept-encoding" || flat == "user-agent":
			case hopByHop[http.CanonicalHeaderKey(flat)], notForwarded[http.CanonicalHeaderKey(flat)], strings.HasPrefix(flat, "x-forwarded"):
				t.Errorf("%q got through", got)
			}
			for named := range strings.SplitSeq(connection, ",") {
				if named = strings.TrimSpace(named); strings.EqualFold(named, got) && slices.Contains(values, "from-the-caller") {
					t.Errorf("%q got through though Connection names it", got)
				}
			}
		}
	})
}

func TestStripKeepsTheRest(t *testing.T) {
	in := http.Header{}
	for _, name := range []string{"Accept", "Content-Type", "X-Github-Api-Version", "If-None-Match", "Anthropic-Version", "Expect", "X-Request-Id", "User-Agent"} {
		in.Set(name, "v")
	}
	out := requestHeader(in, "Authorization")
	for name := range in {
		if out.Get(name) != "v" {
			t.Errorf("%s was lost", name)
		}
	}
	for name := range notForwarded {
		if stripped(name, "Authorization") != true {
			t.Errorf("%s is kept", name)
		}
	}
	if in.Get("Accept-Encoding") != "" {
		t.Error("the caller's header was changed")
	}
}

func TestAnswerHeader(t *testing.T) {
	s := &Session{}
	var err error
	if s.masks, err = newMasks(cred.MaskSettings{}, bearer(secretText), nil); err != nil {
		t.Fatal(err)
	}
	in := http.Header{
		"Connection": {"X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"1"}, "Set-Cookie": {"a=b"}, "Alt-Svc": {"h3"}, "Transfer-Encoding": {"chunked"},
		"Strict-Transport-Security": {"max-age=1"}, "Content-Length": {"5"}, useHeader: {"us_forged"}, "Proxy-Authenticate": {"Basic"},
		"X-Kept": {"1", "t=" + secretText},
	}
	out := http.Header{}
	s.answerHeader(out, in)
	if len(out) != 1 || len(out["X-Kept"]) != 2 || out["X-Kept"][0] != "1" || strings.Contains(out["X-Kept"][1], secretText) || !strings.HasPrefix(out["X-Kept"][1], "t=") {
		t.Errorf("got %v", out)
	}
	if in["X-Kept"][1] != "t="+secretText {
		t.Error("the upstream's header was changed")
	}
}

func TestInjection(t *testing.T) {
	pair := cred.Credential{Type: cred.UserPassword, Fields: map[string]cred.Secret{"username": cred.SecretString("u"), "password": cred.SecretString("p:w")}}
	kv := cred.Credential{Type: cred.KV, Fields: map[string]cred.Secret{"key": cred.SecretString("k1")}}
	two := cred.Credential{Type: cred.KV, Fields: map[string]cred.Secret{"a": cred.SecretString("1"), "b": cred.SecretString("2")}}
	for name, c := range map[string]struct {
		how           cred.Injection
		c             cred.Credential
		header, value string
		query, rule   string
	}{
		"bearer by type":       {c: bearer("t"), header: "Authorization", value: "Bearer t"},
		"basic by type":        {c: pair, header: "Authorization", value: "Basic dTpwOnc="},
		"bearer of one field":  {how: cred.Injection{Kind: cred.InjectBearer}, c: kv, header: "Authorization", value: "Bearer k1"},
		"header":               {how: cred.Injection{Kind: cred.InjectHeader, Name: "x-api-key"}, c: kv, header: "X-Api-Key", value: "k1"},
		"header with prefix":   {how: cred.Injection{Kind: cred.InjectHeader, Name: "Authorization", Prefix: "token "}, c: bearer("t"), header: "Authorization", value: "token t"},
		"named field":          {how: cred.Injection{Kind: cred.InjectHeader, Name: "X-K", Field: "b"}, c: two, header: "X-K", value: "2"},
		"query":                {how: cred.Injection{Kind: cred.InjectQuery, Name: "key"}, c: kv, query: "key", value: "k1"},
		"no way by type":       {c: kv, rule: "target_unusable"},
		"unknown way":          {how: cred.Injection{Kind: "magic"}, c: bearer("t"), rule: "target_unusable"},
		"which field":          {how: cred.Injection{Kind: cred.InjectBearer}, c: two, rule: "credential_incomplete"},
		"no such field":        {how: cred.Injection{Kind: cred.InjectBearer, Field: "x"}, c: bearer("t"), rule: "credential_incomplete"},
		"no fields":            {c: cred.Credential{Type: cred.Bearer}, rule: "credential_incomplete"},
		"basic of a token":     {how: cred.Injection{Kind: cred.InjectBasic}, c: bearer("t"), rule: "credential_incomplete"},
		"colon in a user name": {c: cred.Credential{Type: cred.UserPassword, Fields: map[string]cred.Secret{"username": cred.SecretString("a:b"), "password": cred.SecretString("p")}}, rule: "credential_malformed"},
		"line end":             {c: bearer("t\n"), rule: "credential_malformed"},
		"header injection":     {c: bearer("t\r\nX-Admin: 1"), rule: "credential_malformed"},
		"framing header":       {how: cred.Injection{Kind: cred.InjectHeader, Name: "host"}, c: bearer("t"), rule: "target_unusable"},
		"no header name":       {how: cred.Injection{Kind: cred.InjectHeader}, c: bearer("t"), rule: "target_unusable"},
		"no query name":        {how: cred.Injection{Kind: cred.InjectQuery}, c: bearer("t"), rule: "target_unusable"},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := newUpstream(cred.HTTPTarget{Upstream: "https://up.example.com", Inject: c.how}, c.c)
			if c.rule != "" {
				if ruleOf(err) != c.rule {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if u.header != c.header || u.query != c.query || u.secret.RevealString() != c.value {
				t.Errorf("got %q %q %q", u.header, u.query, u.secret.RevealString())
			}
		})
	}
}

func TestUpstreamURLs(t *testing.T) {
	for _, bad := range []string{
		"", "up.example.com", "ftp://up.example.com", "https://", "https://u:p@up.example.com", "https://up.example.com/?q=1",
		"https://up.example.com/#f", "https://up.example.com/a/../b", "https:opaque", "https://up.example.com/?", "://",
	} {
		if _, err := newUpstream(cred.HTTPTarget{Upstream: bad}, bearer("t")); ruleOf(err) != "target_unusable" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestQueryInjection(t *testing.T) {
	u, err := newUpstream(cred.HTTPTarget{Upstream: "https://up.example.com/b/", Inject: cred.Injection{Kind: cred.InjectQuery, Name: "key"}}, bearer("a&b=c"))
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"":                        "key=a%26b%3Dc",
		"x=1&y=2":                 "x=1&y=2&key=a%26b%3Dc",
		"key=mine&x=1":            "x=1&key=a%26b%3Dc",
		"KEY=mine&k%65y=m&%20key": "key=a%26b%3Dc",
		"x=%zz&&":                 "x=%zz&key=a%26b%3Dc",
	} {
		got, err := u.urlOf("/p", in)
		if err != nil || got.RawQuery != want || got.Path != "/b/p" {
			t.Errorf("%q: %v, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"a;key=mine", "k%zz=1"} {
		if _, err := u.urlOf("/p", bad); ruleOf(err) != "query_ambiguous" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestReach(t *testing.T) {
	for text, want := range map[string]reach{
		"8.8.8.8": public, "2606:4700::1111": public, "64:ff9b::808:808": public, "2002:808:808::1": public, "::ffff:8.8.8.8": public,
		"10.0.0.1": private, "172.16.0.1": private, "192.168.1.1": private, "127.0.0.1": private, "127.9.9.9": private, "::1": private,
		"169.254.1.1": private, "fe80::1": private, "fe80::1%eth0": private, "fc00::1": private, "100.64.0.1": private, "198.18.0.1": private,
		"::ffff:10.0.0.1": private, "64:ff9b::a00:1": private, "2002:a00:1::1": private, "::127.0.0.1": private, "64:ff9b:1::a00:1": private,
		"192.0.2.1": private, "2001:db8::1": private, "2001:0:53aa:64c::1": private, "fec0::1": private, "2606:4700::5efe:a00:1": private,
		"169.254.169.254": never, "169.254.170.2": never, "fd00:ec2::254": never, "fd00:ec2::23": never, "100.100.100.200": never, "168.63.129.16": never,
		"::ffff:169.254.169.254": never, "64:ff9b::a9fe:a9fe": never, "2002:a9fe:a9fe::1": never, "fd20:ce::254": never, "192.0.0.192": never,
		"0.0.0.0": never, "::": never, "224.0.0.1": never, "ff02::1": never, "255.255.255.255": never, "240.0.0.1": never, "0.1.2.3": never,
	} {
		if got := reachOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	for address, most := range map[string]reach{"10.0.0.1:443": public, "169.254.169.254:80": private, "[::1]:443": public, "nonsense": private} {
		if allowOnly(most)("tcp", address, nil) == nil {
			t.Errorf("%s may be connected to", address)
		}
	}
	for address, most := range map[string]reach{"8.8.8.8:443": public, "10.0.0.1:443": private, "[::1]:443": private} {
		if err := allowOnly(most)("tcp", address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// However an IPv4 address is wrapped, it reaches no farther than bare.
func TestWrappedAddressesReachNoFarther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var v4 [4]byte
		copy(v4[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4"))
		bare := reachOf(netip.AddrFrom4(v4))
		for _, prefix := range []string{"::ffff:0:0", "64:ff9b::", "::"} {
			b := netip.MustParseAddr(prefix).As16()
			copy(b[12:], v4[:])
			wrapped := netip.AddrFrom16(b)
			if got := reachOf(wrapped); got < bare && wrapped != netip.IPv6Loopback() { // that one wraps nothing
				t.Errorf("%v: %d, bare %d", wrapped, got, bare)
			}
		}
		b := netip.MustParseAddr("2002::1").As16()
		copy(b[2:], v4[:])
		if got := reachOf(netip.AddrFrom16(b)); got < bare {
			t.Errorf("6to4 %v: %d, bare %d", v4, got, bare)
		}
	})
}

func TestOneProblemForEachKind(t *testing.T) {
	for kind := cred.Internal; kind <= cred.Unavailable; kind++ {
		p := problemOf(&cred.Error{Kind: kind, Public: "p", Reason: "SOME_REASON"}, "us_1")
		if p.Status < 400 || kind != cred.Internal && p.Status == 500 || p.Type != "urn:daypass:problem:some-reason" || p.Instance != "urn:daypass:use:us_1" {
			t.Errorf("%v: %+v", kind, p)
		}
	}
	if p := problemOf(http.ErrBodyNotAllowed, ""); p.Status != 500 || strings.Contains(p.Detail, "http") {
		t.Errorf("%+v", p)
	}
}
