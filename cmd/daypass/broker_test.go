package main

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/clients/login/logintest"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

// world is a script's broker: all of it real, but for where credentials come from.
type world struct {
	url   string
	idp   *identitytest.Issuer
	staff *logintest.Provider // where people sign in with a browser or a device
}

const brokerConfig = `
server: { listen: "127.0.0.1:1", plain: true }
identity_providers:
  - { name: people, issuer: "IDP", audiences: ["URL"], groups_claim: groups, allow_plain: true }
  - { name: staff, issuer: "STAFF", audiences: [daypass-cli], groups_claim: groups, allow_plain: true, login: { client_id: daypass-cli } }
issuers: [{ name: mint, fake: {} }]
targets:
  - { name: orders, credential: { issuer: mint, path: password } }
  - { name: buckets, credential: { issuer: mint, path: aws } }
  - { name: registry, credential: { issuer: mint, path: bearer } }
  - { name: copilot, credential: { issuer: mint, path: bearer }, http: { upstream: "https://api.example.com" } }
  - { name: regional, credential: { issuer: mint, path: bearer } }
  - { name: hidden, credential: { issuer: mint, path: bearer } }
  - { name: production, credential: { issuer: mint, path: bearer } }
  - { name: breakable, credential: { issuer: mint, path: bearer } }
roles:
  auditor: '"audit" in principal.groups'
  security: '"security" in principal.groups'
rules:
  - name: the-team
    who: principal.provider in ["people", "staff"] && "team" in principal.groups
    may: [{ target: orders, scopes: [read] }, { target: buckets }, { target: registry }, { target: copilot, scopes: ["chat*"] }]
    ttl: 15m
  - name: on-request
    who: principal.provider in ["people", "staff"] && "team" in principal.groups
    may: [{ target: production, scopes: [deploy] }]
    ttl: 30m
    renewals: 1
    approval: { all_of: [{ group: leads }, { group: guards }], within: 1h, fresh: 1h }
  - name: in-need
    who: principal.provider in ["people", "staff"] && "team" in principal.groups
    may: [{ target: breakable }]
    ttl: 10m
    break_glass: { max_ttl: 10m, review: { groups: [leads], within: 24h } }
  - name: one-region
    who: principal.provider in ["people", "staff"] && "team" in principal.groups
    when: has(request.params.region) && request.params.region == "eu=west"
    may: [{ target: regional, params: { region: { any_of: ["*"] } } }]
    ttl: 15m
`

func worldOf(ts *testscript.TestScript) *world {
	w, ok := ts.Value(worldKey{}).(*world)
	if !ok {
		ts.Fatalf("there is no broker yet")
	}
	return w
}

type worldKey struct{}

func prepareWorld(env *testscript.Env) error {
	env.Values[worldKey{}] = &world{}
	return nil
}

func startBroker(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	options := rpc.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry()}
	w.url = "http://" + listener.Addr().String()
	if len(args) > 0 {
		borrowed := httptest.NewTLSServer(nil)
		defer borrowed.Close()
		writeCA(ts, borrowed)
		options.TLS = &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS13}
		w.url = "https://" + listener.Addr().String()
	}
	w.idp, err = identitytest.New()
	ts.Check(err)
	ts.Defer(w.idp.Close)
	w.staff = logintest.New()
	ts.Defer(w.staff.Close)
	options.Login = []rpc.Login{{Provider: "staff", Issuer: w.staff.URL, ClientID: logintest.ClientID, Scopes: []string{"openid", "offline_access"}}}
	server, err := rpc.New(w.broker(ts, options.Logger), options)
	ts.Check(err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ts.Defer(func() {
		ts.Check(server.Close())
		ts.Check(<-served)
	})
	ts.Setenv("DAYPASS_BROKER", w.url)
	ts.Setenv("STAFF", w.staff.URL)
}

// broker makes the broker, and log.key with its log's verifier key.
func (w *world) broker(ts *testscript.TestScript, logger *slog.Logger) *broker.Broker {
	text := strings.NewReplacer("IDP", w.idp.URL(), "STAFF", w.staff.URL, "URL", w.url).Replace(brokerConfig)
	c, err := config.Parse("daypass.yaml", []byte(text), config.Options{WithoutFiles: true})
	ts.Check(err)
	signer, err := audit.GenerateSigner("broker.example.com/log")
	ts.Check(err)
	ts.Setenv("LOG_KEY", signer.VerifierKey())
	raw, err := bolt.Open(filepath.Join(ts.MkAbs("."), "store.db"), signer, bolt.Options{})
	ts.Check(err)
	ts.Defer(func() { ts.Check(raw.Close()) })
	key, err := store.NewSealingKey()
	ts.Check(err)
	sealed := store.Sealed(raw, key)
	who, err := identity.New(c.Providers(), time.Now)
	ts.Check(err)
	ctx := context.Background()
	keys, err := broker.OpenKeys(ctx, sealed, "ES256", time.Now())
	ts.Check(err)
	b, err := broker.New(ctx, broker.Config{
		URL: w.url, Store: sealed, Log: raw.Log(), Identity: who, Policy: c.Policy, Keys: keys,
		Issuers: map[string]issuer.Issuer{"mint": mint{}}, Logger: logger, Now: time.Now,
		Roots: roots(), Sign: signer.Receipt,
	})
	ts.Check(err)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(running) }()
	ts.Defer(func() { stop(); ts.Check(<-ended) })
	return b
}

// mint issues what a path says.
type mint struct{}

// minted are credentials by path. The values are made up of parts, so that no scanner takes them for
// live ones.
var minted = map[string]cred.Credential{
	"password": {Type: cred.UserPassword, Fields: secrets("username", "v-orders", "password", "it's $(not) `run`")},
	"aws":      {Type: cred.AWS, Fields: secrets("access_key_id", "example-id", "secret_access_key", "example-key", "session_token", "example-session")},
	"bearer":   {Type: cred.Bearer, Fields: secrets("token", "example-bearer")},
}

func secrets(pairs ...string) map[string]cred.Secret {
	out := map[string]cred.Secret{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = cred.SecretString(pairs[i+1])
	}
	return out
}

func (mint) Issue(_ context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	c := minted[spec.Target.Credential.Path]
	c.NotAfter = spec.NotAfter
	return c, cred.Lease{Handle: string(spec.ID), Revocable: true, NotAfter: spec.NotAfter}, nil
}

func (mint) Revoke(context.Context, cred.Lease) error { return nil }
