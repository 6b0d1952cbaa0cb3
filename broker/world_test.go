package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const brokerURL = "https://daypass.example.com"

var noon = time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC)

// tb is what a world needs of a *testing.T or of a *rapid.T.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// clock is a clock that moves when it is told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// output collects what a logger writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// world is a broker with the disk and the sources that outlive it.
type world struct {
	*Broker
	t       tb
	clock   *clock
	now     func() time.Time
	path    string
	disk    *bolt.Store
	sealed  store.Store
	signer  *audit.Signer
	keys    *token.KeyRing
	idp     *identitytest.Issuer
	log     *output
	sources map[string]*source
	tokens  []string // every token that was used

	store   *faultyStore // of the broker that runs, as is process
	process *process
	change  func(*Config) // applied to each broker's configuration
}

// newWorld starts a broker over fresh files in a directory.
func newWorld(t testing.TB) *world {
	t.Helper()
	c := &clock{at: noon}
	w := buildWorld(t, t.TempDir(), c.now)
	w.clock = c
	t.Cleanup(func() {
		w.check()
		w.close()
	})
	return w
}

func buildWorld(t tb, dir string, now func() time.Time) *world {
	t.Helper()
	w := &world{t: t, now: now, path: filepath.Join(dir, "store.db"), log: &output{}, change: func(*Config) {}}
	sealing, err := store.NewSealingKey()
	w.must(err)
	w.signer, err = audit.GenerateSigner("daypass.example.com/test")
	w.must(err)
	w.disk, err = bolt.Open(w.path, w.signer, bolt.Options{})
	w.must(err)
	w.sealed = store.Sealed(w.disk, sealing)
	w.keys, err = OpenKeys(context.Background(), w.sealed, token.EdDSA, now())
	w.must(err)
	w.idp, err = testIssuer()
	w.must(err)
	w.sources = map[string]*source{}
	for _, name := range []string{"vault", "plain", "fixed", "sts", "endless", "long", "short"} {
		w.sources[name] = newSource(now)
	}
	w.sources["fixed"].stands = true
	w.sources["sts"].stands, w.sources["sts"].unsure = true, true
	w.sources["endless"].endless = true
	w.sources["long"].lifeAfter = time.Hour
	w.sources["short"].short = 4 * time.Minute
	w.start()
	return w
}

// testIssuer makes one identity provider for all tests: its RSA keys take a while.
var testIssuer = sync.OnceValues(func() (*identitytest.Issuer, error) {
	return identitytest.Unserved("https://issuer.example.com")
})

// testPolicy compiles the rules of all tests once.
var testPolicy = sync.OnceValues(func() (*policy.Set, error) {
	set, problems := policy.Compile(rules())
	if problems != nil {
		return nil, problems
	}
	return set, nil
})

// start starts a broker over what is there.
func (w *world) start() {
	w.t.Helper()
	w.process = newProcess()
	w.store = &faultyStore{inner: w.sealed, process: w.process}
	who, err := identity.New([]identity.Provider{{
		Name: "people", Issuer: w.idp.URL(), Audiences: []string{brokerURL}, Client: w.idp.Client(), GroupsClaim: "groups",
	}, {
		Name: "ci", Issuer: "https://ci.example.com", Audiences: []string{brokerURL}, Kind: cred.KindWorkload, Immutable: []identity.Path{{"repository_id"}},
	}}, w.now)
	w.must(err)
	set, err := testPolicy()
	w.must(err)
	issuers := map[string]issuer.Issuer{}
	for name, s := range w.sources {
		issuers[name] = fakeIssuer{s, w.process}
		if name == "vault" || name == "sts" || name == "long" {
			issuers[name] = fakeReserver{fakeIssuer{s, w.process}}
		}
		if name == "short" {
			issuers[name] = fakeRenewer{fakeReserver{fakeIssuer{s, w.process}}}
		}
	}
	cfg := Config{
		URL: brokerURL, Store: w.store, Log: w.disk.Log(), Identity: who, Policy: set, Keys: w.keys,
		Issuers: issuers, Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: w.now,
		MayRedeem: func(proxy, target string) bool { return proxy == "edge" && target == "api" },
	}
	w.change(&cfg)
	w.Broker, err = New(context.Background(), cfg)
	w.must(err)
}

func (w *world) close() {
	if err := w.disk.Close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

// rules is the rule set of all tests.
func rules() policy.Source {
	target := func(name, issuer string) policy.Target {
		return policy.Target{Name: name, Deliver: "direct", Credential: policy.Credential{Issuer: issuer, Path: "creds/" + name}}
	}
	api := target("api", "vault")
	api.Deliver, api.HTTP = "proxy", &policy.HTTP{Upstream: "https://api.example.com"}
	rare := target("rare", "vault")
	rare.Quota = policy.Quota{PerPrincipal: "2/1h"}
	return policy.Source{
		Targets: []policy.Target{
			target("db", "vault"), target("plain", "plain"), target("fixed", "fixed"), target("sts", "sts"),
			target("endless", "endless"), target("long", "long"), target("short", "short"), api, target("hidden", "vault"), target("stray", "nowhere"),
			target("prod", "vault"), target("glass", "vault"), rare,
		},
		Roles: map[string]string{
			"auditor": `"audit" in principal.groups`, "security": `"security" in principal.groups`,
		},
		Rules: []policy.Rule{
			{
				Name: "ci", Who: `principal.provider == "ci" && principal.claims.ref == "main"`, TTL: 15 * time.Minute,
				May: []policy.May{
					{Target: "*b", Scopes: []string{"read"}},
					{Target: "plain"},
					{Target: "fixed"},
					{Target: "sts"},
					{Target: "endless"},
					{Target: "long"},
					{Target: "short"},
					{Target: "api"},
					{Target: "stray"},
				},
			},
			{
				Name: "prod", Who: `principal.provider in ["ci", "people"]`, TTL: 30 * time.Minute, Renewals: 1,
				May: []policy.May{{Target: "prod", Scopes: []string{"deploy"}}},
				Approval: &policy.Approval{
					AllOf: []policy.Quorum{{Group: "leads", Count: 1}, {Group: "secteam", Count: 1}}, Within: time.Hour, Remind: 15 * time.Minute, Fresh: 2 * time.Hour,
				},
			},
			{
				Name: "glass", Who: `principal.provider in ["ci", "people"]`, TTL: time.Hour, May: []policy.May{{Target: "glass"}},
				BreakGlass: &policy.BreakGlass{MaxTTL: 10 * time.Minute, Review: policy.Review{Groups: []string{"secteam"}, Within: 24 * time.Hour}},
			},
			{Name: "rare", Who: `principal.provider == "ci"`, TTL: time.Minute, May: []policy.May{{Target: "rare"}}},
			{Name: "others", Who: `principal.provider == "other"`, TTL: time.Minute, May: []policy.May{{Target: "hidden"}}},
		},
	}
}

// The callers of all tests.
var (
	runner = cred.Principal{
		Provider: "ci", Issuer: "https://ci.example.com", Subject: "job-1", Kind: cred.KindWorkload, Claims: map[string]any{"ref": "main"},
	}
	neighbour = cred.Principal{
		Provider: "ci", Issuer: "https://ci.example.com", Subject: "job-2", Kind: cred.KindWorkload, Claims: map[string]any{"ref": "main"},
	}
	auditor  = person("auditor", "audit")
	security = person("guard", "security")
	nosy     = person("nosy", "staff")
	edge     = proxyNamed("edge")
)

func person(subject string, groups ...string) cred.Principal {
	return cred.Principal{Provider: "people", Issuer: "https://issuer.example.com", Subject: subject, Kind: cred.KindPerson, Groups: groups}
}

func proxyNamed(name string) cred.Principal {
	return cred.Principal{Provider: "mtls", Issuer: "CN=proxies", Subject: "daypass://proxy/" + name, Name: name, Kind: cred.KindProxy}
}

// grant exchanges for a target and returns the grant and its token.
func (w *world) grant(target string) (cred.Grant, string) {
	w.t.Helper()
	g, err := w.Exchange(context.Background(), as(runner), cred.Request{Target: target})
	w.must(err)
	return g, w.token(g)
}

func (w *world) token(g cred.Grant) string {
	w.t.Helper()
	tok, err := w.GrantToken(g)
	w.must(err)
	w.tokens = append(w.tokens, tok.RevealString())
	return tok.RevealString()
}

// sourceOf names the source of a target.
func sourceOf(target string) string {
	if target == "db" || target == "api" {
		return "vault"
	}
	return target
}

// redeem redeems as the one who may.
func (w *world) redeem(target, tok string) (Redeemed, error) {
	who := runner
	if target == "api" {
		who = edge
	}
	return w.Redeem(context.Background(), who, tok)
}

// lease returns the one lease of a grant.
func (w *world) lease(id cred.GrantID) cred.Lease {
	w.t.Helper()
	all := w.leasesOf(id)
	if len(all) != 1 {
		w.t.Fatalf("%d leases, want one", len(all))
	}
	return all[0]
}

func (w *world) leasesOf(id cred.GrantID) (out []cred.Lease) {
	w.t.Helper()
	w.must(w.sealed.View(context.Background(), func(tx store.Tx) (err error) {
		out, err = leasesIn(tx, id)
		return err
	}))
	return out
}

func (w *world) wantState(l cred.Lease, want cred.LeaseState) {
	w.t.Helper()
	if l.State() != want {
		w.t.Errorf("the lease is %s, want %s", l.State(), want)
	}
}

// wantLive wants so many credentials to live at a source.
func (w *world) wantLive(name string, want int) {
	w.t.Helper()
	if got := len(w.sources[name].live()); got != want {
		w.t.Errorf("%d credentials live at %s, want %d", got, name, want)
	}
}

func (w *world) sweep() {
	w.t.Helper()
	w.must(w.Sweep(context.Background()))
}

// refusedAs fails unless err is ours, of a kind and for a reason.
func refusedAs(t tb, err error, kind cred.Kind, reason string) *cred.Error {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != kind || e.Reason != reason {
		t.Fatalf("got %v (kind %v), want %v %s", err, cred.KindOf(err), kind, reason)
	}
	if kind != cred.Internal && e.Public == "" {
		t.Errorf("%s has nothing to say to people", reason)
	}
	return e
}

// file returns the raw bytes of the store's file.
func (w *world) file() string {
	w.t.Helper()
	b, err := os.ReadFile(w.path)
	w.must(err)
	return string(b)
}

// context is that of the test where there is one.
func (w *world) context() context.Context {
	if t, ok := w.t.(interface{ Context() context.Context }); ok {
		return t.Context()
	}
	return context.Background()
}

// as is a caller who proved no more than who it is.
func as(p cred.Principal) Caller { return Caller{Principal: p} }
