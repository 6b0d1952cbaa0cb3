package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

// wantFullProviders are the providers of testdata/full.yaml.
func wantFullProviders() []identity.Provider {
	of := func(preset, name, audience string, change func(*identity.Provider)) identity.Provider {
		p, _ := identity.Preset(preset)
		p.Name, p.Audiences, p.Skew = name, []string{audience}, 20*time.Second
		change(&p)
		return p
	}
	const url = "https://daypass.example.com"
	return []identity.Provider{
		of("github-actions", "github-actions", url, func(p *identity.Provider) { p.OneTime = false }),
		of("github-actions", "enterprise", url, func(p *identity.Provider) { p.Issuer += "/octo-enterprise" }),
		of("gitlab", "gitlab", "daypass", func(p *identity.Provider) { p.Issuer, p.OneTime = "https://gitlab.example.com", true }),
		of("circleci", "circleci", "daypass", func(p *identity.Provider) {
			p.Issuer = "https://oidc.circleci.com/org/11111111-2222-4333-8444-555555555555"
		}),
		of("bitbucket", "bitbucket", "daypass", func(p *identity.Provider) {
			p.Issuer = "https://api.bitbucket.org/2.0/workspaces/example-workspace/pipelines-config/identity/oidc"
		}),
		of("entra", "entra", "daypass", func(p *identity.Provider) {
			p.Issuer = "https://login.microsoftonline.com/22222222-3333-4444-8555-666666666666/v2.0"
		}),
		of("spiffe", "mesh", "daypass", func(p *identity.Provider) {
			p.TrustDomain, p.JWKSURL = "example.org", "https://bundle.example.org/keys"
		}),
		{
			Name: "okta", Issuer: "https://example.okta.com", Audiences: []string{"daypass", "daypass-cli"}, Skew: 20 * time.Second,
			Algorithms: []string{"RS256", "ES256"}, MaxAge: 30 * time.Minute, Kind: cred.KindPerson,
			GroupsClaim: "groups", NameClaim: "email", CAFile: "testdata/files/ca.pem",
		},
		{Name: "local", Issuer: "http://127.0.0.1:9000", Audiences: []string{"daypass"}, Skew: 20 * time.Second, Kind: cred.KindWorkload, AllowPlain: true},
	}
}

// TestSkewIsOneSetting: it is there without being set, bounded, and no key of a provider.
func TestSkewIsOneSetting(t *testing.T) {
	const provider = "\nidentity_providers: [ { name: a, issuer: 'https://a.example.com', audiences: [d] }, { name: b, preset: google, audiences: [d] } ]"
	for text, want := range map[string]time.Duration{
		"": identity.DefaultSkew, "identity: {}": identity.DefaultSkew, "identity: { skew: 1s }": time.Second, "identity: { skew: 5m }": 5 * time.Minute,
	} {
		c, err := Parse("f.yaml", []byte("server: { plain: true }\n"+text+provider), Options{WithoutFiles: true})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for _, p := range c.Providers() {
			if p.Skew != want {
				t.Errorf("%q: provider %s has a skew of %s, want %s", text, p.Name, p.Skew, want)
			}
		}
	}
	for text, says := range map[string]string{
		"identity: { skew: 0s }" + provider:                              "f.yaml:2:19: identity.skew: must be between 1s and 5m",
		"identity: { skew: 6m }" + provider:                              "f.yaml:2:19: identity.skew: must be between 1s and 5m",
		strings.Replace(provider[1:], "name: a", "skew: 5s, name: a", 1): "identity_providers[0].skew: unknown key",
	} {
		_, err := Parse("f.yaml", []byte("server: { plain: true }\n"+text), Options{WithoutFiles: true})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

// TestEachPresetIsNamed holds the comment of the key "preset", which becomes its documentation, and the
// pages of docs/identity against the presets that there are.
func TestEachPresetIsNamed(t *testing.T) {
	comment := ""
	for _, s := range reference(t) {
		for _, k := range s.keys {
			if s.name == "IdentityProvider" && k.name == "preset" {
				comment = k.text
			}
		}
	}
	index, err := os.ReadFile("../../docs/identity/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range identity.Presets() {
		if !strings.Contains(comment, "`"+name+"`") {
			t.Errorf("the comment of preset does not name %s", name)
		}
		if !strings.Contains(string(index), fmt.Sprintf("[%s](%s.md)", name, name)) {
			t.Errorf("docs/identity/README.md has no link to %s.md", name)
		}
	}
	pages, err := filepath.Glob("../../docs/identity/*.md")
	if err != nil || len(pages) != len(identity.Presets())+1 {
		t.Errorf("docs/identity has %d pages for %d presets and an index: %v", len(pages), len(identity.Presets()), err)
	}
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// TestIdentityPages loads every configuration in docs/identity; those of other programs begin with a
// comment that names their file.
func TestIdentityPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/identity/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		preset, loaded := strings.TrimSuffix(filepath.Base(page), ".md"), 0
		for _, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			if strings.HasPrefix(block[1], "# ") && !strings.HasPrefix(block[1], "# daypass.yaml\n") {
				continue
			}
			loaded++
			c, err := Parse(page, []byte("server: { plain: true }\n"+block[1]), Options{WithoutFiles: true})
			if err != nil {
				t.Errorf("%v\n%s", err, block[1])
				continue
			}
			if _, err := identity.New(c.Providers(), time.Now); err != nil {
				t.Errorf("%s: %v", page, err)
			}
			named := slices.ContainsFunc(c.IdentityProviders, func(p IdentityProvider) bool { return p.Preset == preset })
			if preset != "README" && !named {
				t.Errorf("%s has a configuration without preset %s", page, preset)
			}
		}
		if loaded == 0 && preset != "README" {
			t.Errorf("%s has no configuration", page)
		}
	}
}

// TestIdentityPagesRules: the rule of each page allows the claim set that its claims are from, and
// neither nobody nor the same claims with another immutable identity.
func TestIdentityPagesRules(t *testing.T) {
	for page, fixture := range map[string]string{
		"github-actions": "push", "gitlab": "branch", "buildkite": "with-ids", "circleci": "v1", "kubernetes": "projected", "bitbucket": "step",
		"azure-devops": "pipeline", "aws-workload": "role", "spiffe": "spire", "google": "workspace", "okta": "org", "entra": "groups", "generic": "keycloak",
	} {
		text, err := os.ReadFile("../../docs/identity/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		var c *Config
		for _, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			if strings.HasPrefix(block[1], "# daypass.yaml\n") {
				if c, err = Parse(page, []byte("server: { plain: true }\n"+block[1]), Options{WithoutFiles: true}); err != nil {
					t.Fatal(err)
				}
			}
		}
		p := c.Providers()[0]
		claims := identitytest.Fixture(page + "." + fixture)
		if claims["iss"] != p.Issuer {
			t.Errorf("%s: the issuer is %q, the claim set's %q", page, p.Issuer, claims["iss"])
		}
		who, err := p.Unverified(claims)
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		want := cred.Request{Target: "orders-ro"}
		if d := c.Policy.Decide(who, want, time.Now()); !d.Allowed {
			t.Errorf("%s: refused: %+v", page, d)
		}
		if d := c.Policy.Decide(cred.Principal{Provider: p.Name, Issuer: p.Issuer, Kind: p.Kind}, want, time.Now()); d.Allowed {
			t.Errorf("%s: a caller without claims is allowed by %q", page, d.Rule)
		}
	}
}
