package rpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/static"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const audience = "https://daypass.example.com"

// staticSecret is what the proxied target's issuer gives out.
var staticSecret = "example-" + strings.Repeat("s3cr3t", 4)

// world is a broker behind a real listener, with everything real but its issuer of direct targets.
type world struct {
	t      testing.TB
	idp    *identitytest.Issuer
	ca     *authority
	url    string
	plain  bool
	server *rpc.Server
	raw    *bolt.Store
	broker *broker.Broker
	mint   *mint
	logs   *lines

	rotator *rotator
}

// settings are what a test may change of a world.
type settings struct {
	plain   bool // h2c
	options rpc.Options
}

func newWorld(t testing.TB, s settings) *world {
	t.Helper()
	w := &world{t: t, plain: s.plain, mint: &mint{}, logs: &lines{}, rotator: &rotator{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.logs.level.Set(slog.LevelDebug)
	w.ca = newAuthority(t)
	w.url = "https://" + listener.Addr().String()
	if s.plain {
		w.url = "http://" + listener.Addr().String()
	}
	w.idp, err = identitytest.New()
	must(t, err)
	t.Cleanup(w.idp.Close)
	w.open()

	s.options.Logger = w.logs.logger()
	s.options.Metrics = prometheus.NewRegistry()
	if !s.plain {
		s.options.TLS, s.options.ClientCAs = w.ca.serverTLS(), w.ca.pool
	}
	w.server, err = rpc.New(w.broker, s.options)
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(listener) }()
	t.Cleanup(func() {
		must(t, w.server.Close())
		must(t, <-served)
		_ = w.raw.Close() // a test may have closed it
	})
	return w
}

// open makes the store, the issuers and the broker.
func (w *world) open() {
	t, ctx := w.t, context.Background()
	signer, err := audit.GenerateSigner("daypass.example.com/log")
	must(t, err)
	w.raw, err = bolt.Open(filepath.Join(t.TempDir(), "store.db"), signer, bolt.Options{})
	must(t, err)
	key, err := store.NewSealingKey()
	must(t, err)
	sealed := store.Sealed(w.raw, key)
	who, err := identity.New([]identity.Provider{
		{Name: "people", Issuer: w.idp.URL(), Audiences: []string{audience}, GroupsClaim: "groups", AllowPlain: true},
	}, time.Now)
	must(t, err)
	set, problems := policy.Compile(rules())
	if problems != nil {
		t.Fatal(problems)
	}
	keys, err := broker.OpenKeys(ctx, sealed, "ES256", time.Now())
	must(t, err)
	w.broker, err = broker.New(ctx, broker.Config{
		URL: w.url, Store: sealed, Log: w.raw.Log(), Identity: who, Policy: set, Keys: keys,
		Logger: w.logs.logger(), Now: time.Now,
		Issuers: map[string]issuer.Issuer{"mint": w.mint, "standing": static.New(map[string]map[string]static.Loader{
			"key": {"token": func(context.Context) (cred.Secret, error) { return cred.SecretString(staticSecret), nil }},
		})},
		MayRedeem: func(proxy, target string) bool { return proxy == "edge" && target == "api" },
		Roots: []broker.Root{
			{Name: "orders-root", Rotator: w.rotator, Issuer: "mint"},
			{Name: "api-root", Rotator: w.rotator, Issuer: "standing", Demand: &cred.Demand{AllOf: []cred.Quorum{{Group: "leads", Count: 1}}, Within: time.Hour}},
		},
		Sign: signer.Receipt,
	})
	must(t, err)
}

func rules() policy.Source {
	team := `principal.provider == "people" && "team" in principal.groups`
	return policy.Source{
		Targets: []policy.Target{
			{Name: "orders", Credential: policy.Credential{Issuer: "mint"}, Deliver: "direct"},
			{
				Name: "api", Credential: policy.Credential{Issuer: "standing", Path: "key"}, Deliver: "proxy",
				HTTP: &policy.HTTP{Upstream: "https://api.example.com"}, Mask: policy.Mask{Detectors: []string{"secrets"}},
			},
			{Name: "hidden", Credential: policy.Credential{Issuer: "mint"}, Deliver: "direct"},
			{Name: "prod", Credential: policy.Credential{Issuer: "mint"}, Deliver: "direct", Quota: policy.Quota{PerPrincipal: "3/1h"}},
		},
		Roles: map[string]string{"auditor": `"audit" in principal.groups`, "security": `"security" in principal.groups`},
		Rules: []policy.Rule{
			{Name: "team-has-orders", Who: team, May: []policy.May{{Target: "orders", Scopes: []string{"read"}}, {Target: "api"}}, TTL: 15 * time.Minute},
			{
				Name: "prod-on-request", Who: team, May: []policy.May{{Target: "prod"}}, TTL: 10 * time.Minute, Renewals: 1,
				Approval: &policy.Approval{AllOf: []policy.Quorum{{Group: "leads", Count: 1}}, Within: time.Hour, Fresh: time.Hour},
			},
			{Name: "nobody-has-hidden", Who: `principal.provider == "other" && principal.subject == "x"`, May: []policy.May{{Target: "hidden"}}, TTL: time.Minute},
		},
	}
}

// token is an ID token of somebody in some groups.
func (w *world) token(subject string, groups ...string) string {
	return w.idp.Sign(w.idp.PersonClaims(audience, subject, groups...))
}

// as is a client that shows a token.
func (w *world) as(token string) *sdk.Client {
	c, err := sdk.Dial(w.url, sdk.StaticToken(cred.SecretString(token)), w.tls())
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, c.Close()) })
	return c
}

func (w *world) member() *sdk.Client { return w.as(w.token("ann", "team")) }

// proxy is a companion proxy's client with a certificate for some URIs.
func (w *world) proxy(ca *authority, uris ...string) *sdk.ProxyClient {
	c, err := sdk.DialProxy(w.url, w.tls(ca.client(uris...)))
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, c.Close()) })
	return c
}

func (w *world) edge() *sdk.ProxyClient { return w.proxy(w.ca, "daypass://proxy/edge") }

// tls is a client's side of TLS, nil for a plain world.
func (w *world) tls(certificates ...tls.Certificate) *tls.Config {
	if w.plain {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AddCert(w.ca.cert)
	return &tls.Config{RootCAs: roots, Certificates: certificates}
}

// conn is a bare connection, to send what the sdk would not.
func (w *world) conn(certificates ...tls.Certificate) *grpc.ClientConn {
	creds := insecure.NewCredentials()
	if !w.plain {
		creds = credentials.NewTLS(w.tls(certificates...))
	}
	_, addr, _ := strings.Cut(w.url, "://")
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, c.Close()) })
	return c
}

// web is an HTTP client; two: speak HTTP/2.
func (w *world) web(two bool) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!two)
	protocols.SetHTTP2(two && !w.plain)
	protocols.SetUnencryptedHTTP2(two && w.plain)
	transport := &http.Transport{TLSClientConfig: w.tls(), Protocols: protocols}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// events are the entries of the log of one kind.
func (w *world) events(kind audit.Kind) []audit.Event {
	w.t.Helper()
	size, err := w.raw.Log().Size()
	must(w.t, err)
	var out []audit.Event
	for e, err := range w.raw.Log().Entries(context.Background(), 0, size) {
		must(w.t, err)
		_, event, err := audit.Parse(e.Canonical)
		must(w.t, err)
		if event.Kind == kind {
			out = append(out, event)
		}
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// decode reads one JSON document and refuses what it does not expect.
func decode(t testing.TB, r io.Reader, into any) {
	t.Helper()
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	must(t, d.Decode(into))
}

// lines collects what is logged.
type lines struct {
	level slog.LevelVar
	mu    sync.Mutex // guards buf
	buf   bytes.Buffer
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: &l.level}))
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
