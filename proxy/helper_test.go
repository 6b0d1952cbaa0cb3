package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for what must happen; it is never the measure of anything.
const patience = 10 * time.Second

// secretText is the upstream credential of most tests. It is put together so that no scanner takes
// it for a live one.
var secretText = "up-" + strings.Repeat("s3cr3t", 4)

// memLog is a Log in memory with failure hooks.
type memLog struct {
	mu     sync.Mutex
	events []audit.Event
	fail   func([]audit.Event) error // nil: works
	change chan struct{}             // closed and replaced at each append
}

func newMemLog() *memLog { return &memLog{change: make(chan struct{})} }

func (l *memLog) Append(_ context.Context, events ...audit.Event) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(events); err != nil {
			return 0, err
		}
	}
	for i, e := range events {
		if _, err := audit.Canonical(uint64(i), e); err != nil {
			panic(err) // every record must be one that the real log takes
		}
	}
	first := uint64(len(l.events))
	l.events = append(l.events, events...)
	close(l.change)
	l.change = make(chan struct{})
	return first, nil
}

func (l *memLog) failWith(fail func([]audit.Event) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

func (l *memLog) all() []audit.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]audit.Event(nil), l.events...)
}

func (l *memLog) count(kind audit.Kind) int {
	n := 0
	for _, e := range l.all() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// await returns the n-th event of a kind once it is there.
func (l *memLog) await(t testing.TB, kind audit.Kind, n int) audit.Event {
	t.Helper()
	late := time.After(patience)
	for {
		l.mu.Lock()
		seen, change := 0, l.change
		for _, e := range l.events {
			if e.Kind != kind {
				continue
			}
			if seen++; seen == n {
				l.mu.Unlock()
				return e
			}
		}
		l.mu.Unlock()
		select {
		case <-change:
		case <-late:
			t.Fatalf("no %s number %d in the log: %+v", kind, n, l.all())
		}
	}
}

// redeemFunc is a Redeemer that counts its calls.
type redeemFunc struct {
	calls atomic.Int32
	do    func(ctx context.Context, tok cred.Secret) (Redemption, error)
}

func (r *redeemFunc) Redeem(ctx context.Context, tok cred.Secret) (Redemption, error) {
	r.calls.Add(1)
	return r.do(ctx, tok)
}

const brokerURL = "https://daypass.example.com"

// rig is a proxy with everything around it real but the broker and the log.
type rig struct {
	t        testing.TB
	ring     *token.KeyRing
	log      *memLog
	redeemer *redeemFunc
	proxy    *Proxy
	front    *HTTP
	base     string // of the proxy
	target   cred.Target
	redeemed Redemption // what the default Redeemer answers
	client   *http.Client
}

type setup struct {
	upstream http.Handler
	base     string // path of the upstream's base URL
	target   func(*cred.Target)
	redeemed func(*Redemption)
	redeem   func(ctx context.Context, tok cred.Secret) (Redemption, error)
	config   func(*Config)
	options  HTTPOptions
}

func newRig(t testing.TB, s setup) *rig {
	t.Helper()
	ring, err := token.NewKeyRing(token.ES256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ring: ring, log: newMemLog()}
	r.target = cred.Target{Name: "api", Deliver: cred.DeliverProxy, HTTP: &cred.HTTPTarget{AllowPrivate: true}}
	if s.upstream != nil {
		up := httptest.NewServer(s.upstream)
		t.Cleanup(up.Close)
		r.target.HTTP.Upstream = up.URL + s.base
	}
	if s.target != nil {
		s.target(&r.target)
	}
	r.redeemed = Redemption{
		Grant: "gr_1", Lease: "le_1", Holder: cred.Principal{Provider: "okta", Issuer: "https://idp.example.com", Subject: "alice"},
		Target: r.target, NotAfter: time.Now().Add(time.Hour),
		Credential: cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": cred.SecretString(secretText)}},
	}
	if s.redeemed != nil {
		s.redeemed(&r.redeemed)
	}
	r.redeemer = &redeemFunc{do: s.redeem}
	if s.redeem == nil {
		r.redeemer.do = func(context.Context, cred.Secret) (Redemption, error) { return r.redeemed, nil }
	}
	cfg := Config{
		Name: "edge-1", Verifier: token.NewVerifier(brokerURL, ring, time.Now), Redeemer: r.redeemer, Log: r.log,
		LogTimeout: patience,
	}
	if s.config != nil {
		s.config(&cfg)
	}
	if r.proxy, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	r.proxy.Synced(time.Now())
	r.front = NewHTTP(r.proxy, s.options)
	r.serve()
	return r
}

// serve runs the front end on loopback until the test ends.
func (r *rig) serve() {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.base = "http://" + l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- r.front.Serve(l, nil) }()
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	r.client = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r.t.Cleanup(func() {
		tr.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r.log.failWith(nil)
		if err := r.front.Shutdown(ctx); err != nil {
			r.t.Errorf("shutdown: %v", err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			r.t.Errorf("serve: %v", err)
		}
	})
}

// claims returns the claims of a good token of alice's.
func (r *rig) claims() token.Claims {
	now := time.Now()
	return token.Claims{
		Issuer: brokerURL, Subject: "alice", Audience: []string{token.Audience("api")}, ClientID: "okta",
		IssuedAt: now, NotBefore: now, ExpiresAt: now.Add(time.Hour), ID: "jti-" + string(cred.NewUseID(now)),
		Grant: token.GrantClaims{ID: "gr_1", Target: "api"},
	}
}

func (r *rig) sign(c token.Claims) string {
	r.t.Helper()
	tok, err := r.ring.Sign(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return tok
}

func (r *rig) token() string { return r.sign(r.claims()) }

func (r *rig) request(method, path string, body io.Reader) *http.Request {
	r.t.Helper()
	q, err := http.NewRequest(method, r.base+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+r.token())
	return q
}

func (r *rig) do(q *http.Request) *http.Response {
	r.t.Helper()
	res, err := r.client.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	return res
}

func (r *rig) get(path string) *http.Response {
	r.t.Helper()
	return r.do(r.request("GET", path, nil))
}

func text(t testing.TB, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return string(b)
}

// wantProblem checks an answer that is a problem document.
func wantProblem(t testing.TB, res *http.Response, status int, rule string) problem {
	t.Helper()
	var p problem
	body := text(t, res)
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("status %d with a body that is no problem document: %q", res.StatusCode, body)
	}
	if res.StatusCode != status || p.Status != status || p.Rule != rule {
		t.Fatalf("got status %d, problem %+v; want status %d of rule %q", res.StatusCode, p, status, rule)
	}
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	if p.Detail == "" || p.Title == "" || !strings.HasPrefix(p.Type, "urn:daypass:problem:") {
		t.Errorf("incomplete problem %+v", p)
	}
	return p
}

func reply(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// receive waits for a signal that must come.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}
