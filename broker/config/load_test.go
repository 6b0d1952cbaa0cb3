package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

var update = flag.Bool("update", false, "rewrite the golden files and docs/configuration.md")

var options = Options{Detectors: []string{"secrets", "pii"}, Drivers: []string{"vault", "static"}}

// TestProblems compares all that is wrong with each file of testdata/problems with the list beside it.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Load(file, options)
			if err == nil {
				t.Fatal("no problems")
			}
			got := strings.ReplaceAll(err.Error(), "testdata/problems/", "") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestFull reads a file in which every key is set.
func TestFull(t *testing.T) {
	c, err := Load("testdata/full.yaml", options)
	if err != nil {
		t.Fatal(err)
	}
	wantServer := Server{
		Listen: "0.0.0.0:8443", URL: "https://daypass.example.com", Reflection: true,
		TLS: TLS{Certificate: "testdata/files/cert.pem", PrivateKey: "testdata/files/key.pem", ClientCA: "testdata/files/ca.pem"},
	}
	if diff := cmp.Diff(wantServer, c.Server); diff != "" {
		t.Errorf("server (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Store{"testdata/state/daypass.db", "testdata/files/sealing.key"}, c.Store); diff != "" {
		t.Errorf("store (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Audit{"daypass.example.com/audit", "testdata/files/log.key"}, c.Audit); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if c.Tokens.Algorithm != "EdDSA" || c.Issuing.Timeout != 40*time.Second || c.Issuing.RotationTimeout != 3*time.Minute {
		t.Errorf("tokens %+v, issuing %+v", c.Tokens, c.Issuing)
	}
	if diff := cmp.Diff(wantFullProviders(), c.Providers()); diff != "" {
		t.Errorf("providers (-want +got):\n%s", diff)
	}
	checkFullPolicy(t, c)
	checkFullIssuers(t, c)
}

func checkFullPolicy(t *testing.T, c *Config) {
	t.Helper()
	want := []cred.Target{{
		Name: "copilot", Deliver: cred.DeliverProxy, Credential: cred.CredentialSource{Issuer: "fixed"},
		HTTP: &cred.HTTPTarget{
			Upstream: "https://api.example.com/v1", AllowPrivate: true,
			Inject: cred.Injection{Kind: cred.InjectHeader, Name: "X-Api-Key", Prefix: "Key ", Field: "token"},
		},
		Mask:  cred.MaskSettings{Detectors: []string{"secrets", "pii"}},
		Quota: cred.Quota{PerPrincipal: cred.Rate{N: 30, Per: time.Hour}, Total: cred.Rate{N: 600, Per: time.Hour}},
	}, {
		Name: "orders-db", Labels: map[string]string{"tier": "production"}, Deliver: cred.DeliverDirect,
		Credential: cred.CredentialSource{
			Issuer: "prod-vault", Path: "database/creds/orders-ro", Params: map[string]string{"format": "short"},
			Type: cred.UserPassword, Fields: map[string]string{"username": "user"},
		},
	}}
	if diff := cmp.Diff(want, c.Policy.Targets()); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	senior := cred.Principal{Provider: "okta", Groups: []string{"senior-engineers", "security"}}
	d := c.Policy.Decide(senior, cred.Request{Target: "copilot", Scopes: []string{"any"}}, time.Now())
	if !d.Allowed || d.TTL != policy.MaxTTL {
		t.Errorf("a senior is not allowed copilot: %+v", d)
	}
	if !c.Policy.HasRole(senior, policy.RoleSecurity) || c.Policy.HasRole(senior, policy.RoleAuditor) {
		t.Error("the roles are wrong")
	}
}

func checkFullIssuers(t *testing.T, c *Config) {
	t.Helper()
	if len(c.Issuers) != 2 || c.Issuers[0].Name != "prod-vault" || c.Issuers[0].Driver != "vault" {
		t.Fatalf("issuers %+v", c.Issuers)
	}
	var vault struct {
		Address string           `yaml:"address"`
		Token   cred.Secret      `yaml:"token,required"`
		Auth    *strictyaml.Node `yaml:"auth"`
	}
	problems := c.Issuers[0].Decode(&vault)
	want := ":12: issuers[0].vault.token: is missing"
	if !strings.HasSuffix(problems.Error(), want) || vault.Address != "https://vault.example.com:8200" || vault.Auth.Get("jwt").Get("role").Text() != "daypass" {
		t.Errorf("decoded %+v with problems %q, want %q", vault, problems, want)
	}
	edge, ok := c.Proxy("edge-2")
	if !ok || !edge.MayRedeem("orders-x") || !edge.MayRedeem("copilot") || edge.MayRedeem("copilot-2") {
		t.Errorf("proxy edge-2 is %+v", edge)
	}
	if p, ok := c.Proxy("edge-3"); ok || p.MayRedeem("copilot") {
		t.Error("there is a proxy that is not configured")
	}
}

// TestFullIsFull fails where a key was added and testdata/full.yaml does not set it.
func TestFullIsFull(t *testing.T) {
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range reference(t) {
		for _, k := range s.keys {
			if k.name != "" && k.name != anyDriver && !strings.Contains(string(text), k.name+":") {
				t.Errorf("testdata/full.yaml does not set %s, of %s", k.name, s.name)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	c, err := Parse("conf/daypass.yaml", []byte("server: { plain: true }"), Options{WithoutFiles: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Server{Listen: "127.0.0.1:8443", URL: "http://127.0.0.1:8443", Plain: true}); c.Server != want {
		t.Errorf("server %+v, want %+v", c.Server, want)
	}
	if want := (Store{"conf/data/daypass.db", "conf/keys/sealing.key"}); c.Store != want {
		t.Errorf("store %+v, want %+v", c.Store, want)
	}
	if want := (Audit{"127.0.0.1:8443/log", "conf/keys/log.key"}); c.Audit != want {
		t.Errorf("audit %+v, want %+v", c.Audit, want)
	}
	if c.Tokens.Algorithm != "ES256" || c.Issuing.Timeout != 20*time.Second || c.Issuing.Reconcile != 10*time.Minute {
		t.Errorf("tokens %+v, issuing %+v", c.Tokens, c.Issuing)
	}
	if d := c.Policy.Decide(cred.Principal{}, cred.Request{Target: "x"}, time.Now()); d.Allowed {
		t.Error("an empty policy allows something")
	}
}

func TestServerURL(t *testing.T) {
	for _, c := range []struct{ server, want string }{
		{"{listen: '127.0.0.1:1', plain: true, url: 'http://localhost:1'}", ""},
		{"{listen: '[::1]:1', plain: true, url: 'https://daypass.example.com'}", ""},
		{"{listen: '127.0.0.1:1', plain: true, url: 'http://daypass.example.com'}", "server.url: must be https"},
		{"{listen: ':1', plain: true, url: 'https://daypass.example.com'}", "server.plain: is for loopback"},
		{"{listen: '127.0.0.1:1', plain: true, url: 'https://daypass.example.com/'}", "server.url: must be a URL of scheme"},
		{"{listen: '127.0.0.1:1', plain: true, url: 'https://u@daypass.example.com'}", "server.url: must be a URL of scheme"},
		{"{listen: '127.0.0.1', plain: true}", "server.listen: must be an address"},
		{"{listen: '10.0.0.1:1', tls: {certificate: a, private_key: b}}", "server.url: is missing"},
		{"{listen: '127.0.0.1:1', tls: {certificate: a}}", "server.tls: must name a certificate"},
	} {
		_, err := Parse("f.yaml", []byte("server: "+c.server), Options{WithoutFiles: true})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.server, err, c.want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	more, _ := filepath.Glob("testdata/problems/*.yaml")
	for _, file := range append(files, more...) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("f.yaml", text, Options{WithoutFiles: true})
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v and error %v", c, err)
		}
		if err != nil {
			return
		}
		again, problems := policy.Parse("text", c.Policy.Text())
		if len(problems) > 0 || again.Hash() != c.Policy.Hash() {
			t.Errorf("the canonical text reads back differently: %v\n%s", problems, c.Policy.Text())
		}
	})
}
