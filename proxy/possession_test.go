package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/cred/token/dpop"
)

func newKey(t testing.TB) *dpop.Key {
	t.Helper()
	k, err := dpop.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// boundToken is a good token of alice's that is bound to a key.
func (r *rig) boundToken(k *dpop.Key) string {
	c := r.claims()
	c.Confirmation = &token.Confirmation{KeyThumbprint: k.Thumbprint()}
	return r.sign(c)
}

// proven makes a GET that shows a token and a proof for it, in which want and the nonce may be changed.
func (r *rig) proven(k *dpop.Key, tok, path string, change ...func(*dpop.Want, *string)) *http.Request {
	r.t.Helper()
	w, nonce := dpop.Want{Method: "GET", URL: r.base + path, AccessToken: tok}, ""
	for _, c := range change {
		c(&w, &nonce)
	}
	proof, err := k.Sign(w, nonce, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	q := r.request("GET", path, nil)
	q.Header.Set("Authorization", "DPoP "+tok)
	q.Header.Set("DPoP", proof)
	return q
}

func TestBoundTokensNeedTheirProof(t *testing.T) {
	var seen atomic.Int32
	headers := make(chan http.Header, 64)
	r := newRig(t, setup{upstream: http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		seen.Add(1)
		headers <- q.Header.Clone()
	})})
	k, thief := newKey(t), newKey(t)
	tok, plain := r.boundToken(k), r.token()
	header := func(q *http.Request, name, value string) *http.Request { q.Header.Set(name, value); return q }
	used := r.proven(k, tok, "/api/x?q=1")
	if res := r.do(used); res.StatusCode != 200 {
		t.Fatalf("the honest request: %d %s", res.StatusCode, text(t, res))
	}
	h := receive(t, headers)
	for name := range h {
		if strings.EqualFold(name, "dpop") || strings.Contains(strings.Join(h[name], " "), tok) {
			t.Errorf("the upstream got %s: %q", name, h[name])
		}
	}
	if h.Get("Authorization") != "Bearer "+secretText {
		t.Errorf("the upstream got the credential %q", h.Get("Authorization"))
	}

	two := r.proven(k, tok, "/api/x")
	two.Header["Dpop"] = append(two.Header["Dpop"], r.proven(k, tok, "/api/x").Header.Get("DPoP"))
	joined := r.proven(k, tok, "/api/x")
	joined.Header.Set("DPoP", joined.Header.Get("DPoP")+", "+r.proven(k, tok, "/api/x").Header.Get("DPoP"))
	posing := r.proven(k, tok, "/api/x", func(w *dpop.Want, _ *string) { w.URL = "http://evil.example.com/api/x" })
	posing.Host = "evil.example.com"
	posted := r.proven(k, tok, "/api/x")
	posted.Method = "POST"
	basic := r.request("GET", "/api/x", nil)
	basic.SetBasicAuth("x", tok)
	noProof := r.proven(k, tok, "/api/x")
	noProof.Header.Del("DPoP")
	apiKey := header(r.proven(k, tok, "/api/x"), "X-Api-Key", tok)
	apiKey.Header.Del("Authorization")
	refused := []struct {
		name string
		q    *http.Request
		rule string
		code string // of the challenge
	}{
		{"as a bearer token", header(r.request("GET", "/api/x", nil), "Authorization", "Bearer "+tok), "proof_missing", "invalid_token"},
		{"as a bearer token with a proof", header(r.proven(k, tok, "/api/x"), "Authorization", "Bearer "+tok), "proof_missing", "invalid_token"},
		{"as a password", basic, "proof_missing", "invalid_token"},
		{"as an API key with a proof", apiKey, "proof_missing", "invalid_token"},
		{"without a proof", noProof, "proof_missing", "invalid_token"},
		{"an empty proof", header(r.proven(k, tok, "/api/x"), "DPoP", ""), "invalid_dpop_proof", "invalid_dpop_proof"},
		{"what is no proof", header(r.proven(k, tok, "/api/x"), "DPoP", tok), "invalid_dpop_proof", "invalid_dpop_proof"},
		{"two proofs", two, "proof_twice", "invalid_dpop_proof"},
		{"two proofs in one header", joined, "invalid_dpop_proof", "invalid_dpop_proof"},
		{"the same proof again", used, "dpop_proof_replayed", "invalid_dpop_proof"},
		{"by another key", r.proven(thief, tok, "/api/x"), "dpop_key_mismatch", "invalid_token"},
		{"for another method", posted, "invalid_dpop_proof", "invalid_dpop_proof"},
		{"for another path", r.proven(k, tok, "/api/x", func(w *dpop.Want, _ *string) { w.URL = r.base + "/api/y" }), "invalid_dpop_proof", "invalid_dpop_proof"},
		{"for another target", r.proven(k, tok, "/api/x", func(w *dpop.Want, _ *string) { w.URL = r.base + "/other/x" }), "invalid_dpop_proof", "invalid_dpop_proof"},
		{"for TLS", r.proven(k, tok, "/api/x", func(w *dpop.Want, _ *string) { w.URL = strings.Replace(w.URL, "http:", "https:", 1) }), "invalid_dpop_proof", "invalid_dpop_proof"},
		{"for a server that poses as this one", posing, "invalid_dpop_proof", "invalid_dpop_proof"},
		{"for another token", r.proven(k, tok, "/api/x", func(w *dpop.Want, _ *string) { w.AccessToken = plain }), "invalid_dpop_proof", "invalid_dpop_proof"},
		{"for no token", r.proven(k, tok, "/api/x", func(w *dpop.Want, _ *string) { w.AccessToken = "" }), "invalid_dpop_proof", "invalid_dpop_proof"},
		{"a token that is not bound", r.proven(k, plain, "/api/x"), "token_not_bound", `Bearer realm="daypass", error="invalid_token"`},
		{"the same without a proof", header(r.request("GET", "/api/x", nil), "Authorization", "DPoP "+plain), "token_not_bound", `Bearer realm="daypass", error="invalid_token"`},
		{"a bearer token with a proof", header(r.proven(k, plain, "/api/x"), "Authorization", "Bearer "+plain), "token_not_bound", `Bearer realm="daypass", error="invalid_token"`},
	}
	for i, c := range refused {
		res := r.do(c.q)
		p := wantProblem(t, res, 401, c.rule)
		challenge := res.Header.Get("Www-Authenticate")
		if want := `DPoP realm="daypass", error="` + c.code; !strings.HasPrefix(challenge, want) && !strings.HasPrefix(challenge, c.code) {
			t.Errorf("%s: challenge %q, want %q", c.name, challenge, want)
		}
		if strings.HasPrefix(challenge, "DPoP") && !strings.Contains(challenge, `algs="ES256 `) {
			t.Errorf("%s: challenge %q names no algorithms", c.name, challenge)
		}
		e := r.log.await(t, audit.UseRefused, i+1)
		if e.Use.Rule != c.rule || e.Grant != "gr_1" || "urn:daypass:use:"+string(e.Use.ID) != p.Instance {
			t.Errorf("%s: recorded as %+v of %s", c.name, e.Use, e.Grant)
		}
		if res := r.do(r.proven(k, tok, "/api/x")); res.StatusCode != 200 {
			t.Errorf("after %s the honest request: %d %s", c.name, res.StatusCode, text(t, res))
		}
	}
	if n := int(seen.Load()); n != len(refused)+1 {
		t.Errorf("the upstream was asked %d times, want %d", n, len(refused)+1)
	}
	if n := r.redeemer.calls.Load(); n != 1 {
		t.Errorf("redeemed %d times: every refusal above met a live session, or it proves less", n)
	}
	if res := r.get("/api/x"); res.StatusCode != 200 || r.redeemer.calls.Load() != 2 {
		t.Errorf("an unbound token of the grant: %d, redeemed %d times", res.StatusCode, r.redeemer.calls.Load())
	}
}

func TestAReplayRacesForNothing(t *testing.T) {
	var seen atomic.Int32
	r := newRig(t, setup{upstream: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) })})
	k := newKey(t)
	tok := r.boundToken(k)
	const rounds, racers = 10, 8
	for range rounds {
		original := r.proven(k, tok, "/api/x")
		var all sync.WaitGroup
		var passed, refused atomic.Int32
		for range racers {
			q := original.Clone(t.Context())
			all.Go(func() {
				res, err := r.client.Do(q)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				switch res.StatusCode {
				case 200:
					passed.Add(1)
				case 401:
					refused.Add(1)
				}
			})
		}
		all.Wait()
		if passed.Load() != 1 || refused.Load() != racers-1 {
			t.Fatalf("%d passed and %d were refused", passed.Load(), refused.Load())
		}
	}
	if seen.Load() != rounds {
		t.Errorf("the upstream saw %d requests, want %d", seen.Load(), rounds)
	}
}

func TestNonceChallenge(t *testing.T) {
	var ahead atomic.Int64
	r := newRig(t, setup{
		upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("DPoP-Nonce", "the upstream's own") }),
		config: func(c *Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			c.MaxStale = time.Hour
		},
		options: HTTPOptions{Nonces: true},
	})
	k := newKey(t)
	tok := r.boundToken(k)
	with := func(nonce string) *http.Request {
		return r.proven(k, tok, "/api/x", func(_ *dpop.Want, n *string) { *n = nonce })
	}
	var nonce string
	for _, wrong := range []string{"", "made-up", strings.Repeat("A", 22)} {
		res := r.do(with(wrong))
		wantProblem(t, res, 401, "use_dpop_nonce")
		if c := res.Header.Get("Www-Authenticate"); !strings.HasPrefix(c, `DPoP realm="daypass", error="use_dpop_nonce"`) {
			t.Errorf("challenge %q", c)
		}
		if nonce = res.Header.Get("DPoP-Nonce"); nonce == "" || len(res.Header["Dpop-Nonce"]) != 1 {
			t.Fatalf("DPoP-Nonce %q", res.Header["Dpop-Nonce"])
		}
	}
	res := r.do(with(nonce))
	if next := res.Header.Values("DPoP-Nonce"); res.StatusCode != 200 || len(next) > 0 && next[0] == "the upstream's own" {
		t.Fatalf("with the nonce: %d, next nonce %q", res.StatusCode, next)
	}
	ahead.Store(int64(time.Minute))
	res = r.do(r.at(with(nonce), k, tok, nonce, time.Now().Add(time.Minute)))
	next := res.Header.Get("DPoP-Nonce")
	if res.StatusCode != 200 || next == "" || next == nonce || next == "the upstream's own" {
		t.Fatalf("a step later: %d, next nonce %q, this one %q", res.StatusCode, next, nonce)
	}
	ahead.Store(int64(2 * time.Minute))
	wantProblem(t, r.do(r.at(with(nonce), k, tok, nonce, time.Now().Add(2*time.Minute))), 401, "use_dpop_nonce")
}

// at signs a request's proof anew, as of another time.
func (r *rig) at(q *http.Request, k *dpop.Key, tok, nonce string, at time.Time) *http.Request {
	r.t.Helper()
	proof, err := k.Sign(dpop.Want{Method: q.Method, URL: q.URL.String(), AccessToken: tok}, nonce, at)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("DPoP", proof)
	return q
}

func TestTheURLThatProofsAreFor(t *testing.T) {
	const outside = "https://proxy.example.com"
	for _, c := range []struct {
		name, configured, host, signed string // signed: HERE stands for the listener's address, PORT for its port
		passes                         bool
	}{
		{"the listener's address", "", "", "http://HERE", true},
		{"localhost", "", "localhost:PORT", "http://localhost:PORT", true},
		{"localhost for the address", "", "", "http://localhost:PORT", false},
		{"localhost of another port", "", "localhost:1", "http://localhost:1", false},
		{"a name that the caller chose", "", "proxy.example.com", "http://proxy.example.com", false},
		{"an address that the caller chose", "", "127.0.0.2:PORT", "http://127.0.0.2:PORT", false},
		{"as configured", outside, "proxy.example.com", outside, true},
		{"as configured, whatever the host", outside + "/", "evil.example.com", outside, true},
		{"the default port", outside, "", outside + ":443", true},
		{"not as configured", outside, "evil.example.com", "https://evil.example.com", false},
		{"the address, which is not configured", outside, "", "http://HERE", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, setup{upstream: reply("ok"), options: HTTPOptions{URL: c.configured}})
			k := newKey(t)
			here := strings.TrimPrefix(r.base, "http://")
			_, port, err := net.SplitHostPort(here)
			if err != nil {
				t.Fatal(err)
			}
			fill := strings.NewReplacer("HERE", here, "PORT", port)
			q := r.proven(k, r.boundToken(k), "/api/%61?q=1", func(w *dpop.Want, _ *string) { w.URL = fill.Replace(c.signed) + "/api/a" })
			q.Host = fill.Replace(c.host)
			res := r.do(q)
			if c.passes {
				if res.StatusCode != 200 {
					t.Errorf("%d %s", res.StatusCode, text(t, res))
				}
				return
			}
			p := wantProblem(t, res, 401, "invalid_dpop_proof")
			if want := strings.TrimSuffix(c.configured, "/"); want == "" && !strings.Contains(p.Detail, port) || !strings.Contains(p.Detail, want) {
				t.Errorf("detail %q does not say what URL is right", p.Detail)
			}
		})
	}
}

func TestNoURLNoProof(t *testing.T) {
	for name, local := range map[string]net.Addr{
		"a socket file": &net.UnixAddr{Name: "/run/proxy.sock"}, "none": nil, "a zone": &net.TCPAddr{IP: net.IPv6loopback, Port: 1, Zone: "lo"},
	} {
		q, err := http.NewRequestWithContext(localContext{t.Context(), local}, "GET", "/api/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := baseURL("", q); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	q, err := http.NewRequestWithContext(localContext{t.Context(), &net.TCPAddr{IP: net.IPv6loopback, Port: 8443}}, "GET", "/api/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.TLS = &tls.ConnectionState{}
	if got := baseURL("", q); got != "https://[::1]:8443" {
		t.Errorf("%q", got)
	}
	x := &exchange{h: &HTTP{}, r: q.WithContext(t.Context())}
	if err := x.checkProof("", cred.SecretString("t"), "k"); !errors.Is(err, errProofURL) {
		t.Errorf("without a URL: %v", err)
	}
}

// A caller without its proof is a stranger, whose refusals do not fill the log.
func TestUnprovenCallersAreStrangers(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok")})
	tok := cred.SecretString(r.boundToken(newKey(t)))
	for range strangersBurst + 200 {
		_, err := r.proxy.Open(t.Context(), tok, "api")
		if !errors.Is(err, errBound) {
			t.Fatal(err)
		}
		r.proxy.Refuse(Operation{Protocol: "http"}, err)
	}
	if r.proxy.unrecorded.Load() == 0 {
		t.Error("every refusal was recorded")
	}
	e := r.log.await(t, audit.UseRefused, strangersBurst)
	if e.Grant != "gr_1" || e.Use.Rule != "bound_token" {
		t.Errorf("recorded as %+v of %s", e.Use, e.Grant)
	}
}

// certificate makes a self-signed certificate and its thumbprint. Nobody vouches for it.
func certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, base64.RawURLEncoding.EncodeToString(sum[:])
}

// serveTLS runs the front end on a second address, over TLS, and returns its URL.
func (r *rig) serveTLS(c *tls.Config) string {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.front.Serve(l, c) }()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.front.Shutdown(ctx); err != nil {
			r.t.Errorf("shutdown: %v", err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			r.t.Errorf("serve: %v", err)
		}
	})
	return "https://" + l.Addr().String()
}

// clientWith returns a client that shows certificates.
func clientWith(t testing.TB, certificates ...tls.Certificate) *http.Client {
	t.Helper()
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, Certificates: certificates,
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestCertificateBoundTokens(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok")})
	server, _ := certificate(t)
	mine, thumbprint := certificate(t)
	others, _ := certificate(t)
	base := r.serveTLS(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{server}})
	k := newKey(t)
	signed := func(c token.Confirmation) string {
		claims := r.claims()
		claims.Confirmation = &c
		return r.sign(claims)
	}
	certOnly := signed(token.Confirmation{CertificateThumbprint: thumbprint})
	both := signed(token.Confirmation{CertificateThumbprint: thumbprint, KeyThumbprint: k.Thumbprint()})
	keyOnly := signed(token.Confirmation{KeyThumbprint: k.Thumbprint()})
	withMine, withOthers, withNone := clientWith(t, mine), clientWith(t, others), clientWith(t)
	for _, c := range []struct {
		name   string
		client *http.Client
		base   string
		tok    string
		proof  bool
		rule   string // empty: it passes
	}{
		{"the certificate", withMine, base, certOnly, false, ""},
		{"the certificate again", withMine, base, certOnly, false, ""},
		{"no certificate, with a live session", withNone, base, certOnly, false, "certificate_missing"},
		{"another certificate", withOthers, base, certOnly, false, "certificate_mismatch"},
		{"plain text", r.client, r.base, certOnly, false, "certificate_missing"},
		{"a proof for a certificate", withMine, base, certOnly, true, "token_not_bound"},
		{"both", withMine, base, both, true, ""},
		{"both, without a proof", withMine, base, both, false, "proof_missing"},
		{"both, without a certificate", withNone, base, both, true, "certificate_missing"},
		{"both, another certificate", withOthers, base, both, true, "certificate_mismatch"},
		{"both, in plain text", r.client, r.base, both, true, "certificate_missing"},
		{"a key alone, over TLS", withNone, base, keyOnly, true, ""},
		{"a certificate for a key", withMine, base, keyOnly, false, "proof_missing"},
		{"a bearer token, whatever the certificate", withOthers, base, r.token(), false, ""},
	} {
		q := r.request("GET", "/api/x", nil)
		q.Header.Set("Authorization", "Bearer "+c.tok)
		if c.proof {
			q = r.proven(k, c.tok, "/api/x", func(w *dpop.Want, _ *string) { w.URL = c.base + "/api/x" })
		}
		u, err := q.URL.Parse(c.base + "/api/x")
		if err != nil {
			t.Fatal(err)
		}
		q.URL, q.Host = u, u.Host
		res, err := c.client.Do(q)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.rule != "" {
			wantProblem(t, res, 401, c.rule)
		} else if res.StatusCode != 200 {
			t.Errorf("%s: %d %s", c.name, res.StatusCode, text(t, res))
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}

	// A resumed connection still shows the certificate of the first one.
	withMine.CloseIdleConnections()
	q := r.request("GET", "/api/x", nil)
	q.URL.Scheme, q.URL.Host, q.Host = "https", strings.TrimPrefix(base, "https://"), ""
	q.Header.Set("Authorization", "Bearer "+certOnly)
	res, err := withMine.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 || !res.TLS.DidResume {
		t.Errorf("status %d, resumed %v", res.StatusCode, res.TLS.DidResume)
	}
}

// localContext is a request's context as a server makes it.
type localContext struct {
	context.Context
	local net.Addr
}

func (c localContext) Value(key any) any {
	if key == http.LocalAddrContextKey && c.local != nil {
		return c.local
	}
	return c.Context.Value(key)
}
