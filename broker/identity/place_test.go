package identity_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/broker/identity"
)

// TestPlaces holds the issuers that presets make of their keys, and what they say of wrong ones.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		preset string
		place  identity.Place
		issuer string // empty: refused
		says   string
	}{
		{"github-actions", identity.Place{}, "https://token.actions.githubusercontent.com", ""},
		{"github-actions", identity.Place{Enterprise: "octo"}, "https://token.actions.githubusercontent.com/octo", ""},
		{"github-actions", identity.Place{Host: "git.example.com"}, "https://git.example.com/_services/token", ""},
		{"github-actions", identity.Place{Host: "octo.ghe.com"}, "https://token.actions.octo.ghe.com", ""},
		{"github-actions", identity.Place{Issuer: "https://git.example.com/_services/token"}, "https://git.example.com/_services/token", ""},
		{"github-actions", identity.Place{Host: "github.com"}, "", "host is for GitHub Enterprise Server"},
		{"github-actions", identity.Place{Host: "ghe.com"}, "", "host must be a host name"},
		{"github-actions", identity.Place{Host: "a.b.ghe.com"}, "", "host must be a host name"},
		{"github-actions", identity.Place{Host: "https://git.example.com"}, "", "host must be a host name"},
		{"github-actions", identity.Place{Host: "git.example.com/path"}, "", "host must be a host name"},
		{"github-actions", identity.Place{Host: "Git.example.com"}, "", "host must be a host name"},
		{"github-actions", identity.Place{Host: "git.example.com", Enterprise: "octo"}, "", "enterprise is for github.com"},
		{"github-actions", identity.Place{Enterprise: "octo/cat"}, "", "enterprise must be the enterprise's slug"},
		{"github-actions", identity.Place{Enterprise: "octo", Issuer: "https://a.example.com"}, "", "enterprise can't be set beside issuer"},
		{"github-actions", identity.Place{Tenant: tenant, Workspace: "w"}, "", "workspace is not a key of preset \"github-actions\" (it takes issuer, enterprise, host)"},
		{"gitlab", identity.Place{}, "https://gitlab.com", ""},
		{"gitlab", identity.Place{Host: "gitlab.example.com:8443"}, "https://gitlab.example.com:8443", ""},
		{"gitlab", identity.Place{Host: "user@gitlab.example.com"}, "", "host must be a host name"},
		{"buildkite", identity.Place{}, "https://agent.buildkite.com", ""},
		{"buildkite", identity.Place{Organization: circleOrg}, "", "organization is not a key of preset \"buildkite\""},
		{"circleci", identity.Place{Organization: circleOrg}, "https://oidc.circleci.com/org/" + circleOrg, ""},
		{"circleci", identity.Place{}, "", "organization is missing"},
		{"circleci", identity.Place{Organization: "octo-org"}, "", "organization must be a UUID"},
		{"circleci", identity.Place{Organization: strings.ToUpper("aaaaaaaa-2222-4333-8444-555555555555")}, "", "organization must be a UUID"},
		{"circleci", identity.Place{Issuer: "https://oidc.circleci.com/"}, "", "issuer is one that all customers of the service share"},
		{"kubernetes", identity.Place{Issuer: eksIssuer, JWKSURL: "https://keys.example.com"}, eksIssuer, ""},
		{"kubernetes", identity.Place{}, "", "issuer is missing"},
		{"bitbucket", identity.Place{Workspace: "w"}, "https://api.bitbucket.org/2.0/workspaces/w/pipelines-config/identity/oidc", ""},
		{"bitbucket", identity.Place{Workspace: "w/x"}, "", "workspace must be"},
		{"bitbucket", identity.Place{}, "", "workspace is missing"},
		{"azure-devops", identity.Place{Organization: azureOrg}, "https://vstoken.dev.azure.com/" + azureOrg, ""},
		{"azure-devops", identity.Place{Issuer: "https://login.microsoftonline.com/" + tenant + "/v2.0"}, "https://login.microsoftonline.com/" + tenant + "/v2.0", ""},
		{"azure-devops", identity.Place{Organization: "example"}, "", "organization must be a UUID"},
		{"aws-workload", identity.Place{Issuer: awsIssuer}, awsIssuer, ""},
		{"aws-workload", identity.Place{}, "", "issuer is missing"},
		{"spiffe", identity.Place{TrustDomain: "example.org", Issuer: "https://a.example.org"}, "https://a.example.org", ""},
		{"spiffe", identity.Place{TrustDomain: "example.org"}, "", "must have an issuer or a jwks_url"},
		{"spiffe", identity.Place{JWKSURL: "https://a.example.org"}, "", "trust_domain is missing"},
		{"spiffe", identity.Place{TrustDomain: "spiffe://example.org", JWKSURL: "https://a.example.org"}, "", "trust_domain must be"},
		{"google", identity.Place{}, "https://accounts.google.com", ""},
		{"okta", identity.Place{Issuer: "https://example.okta.com/oauth2/default"}, "https://example.okta.com/oauth2/default", ""},
		{"okta", identity.Place{}, "", "issuer is missing"},
		{"entra", identity.Place{Tenant: tenant}, "https://login.microsoftonline.com/" + tenant + "/v2.0", ""},
		{"entra", identity.Place{Tenant: "common"}, "", "tenant stands for accounts of any directory"},
		{"entra", identity.Place{Tenant: "organizations"}, "", "tenant stands for accounts of any directory"},
		{"entra", identity.Place{Tenant: "9188040d-6c67-4c5b-b112-36a304b66dad"}, "", "tenant stands for accounts of any directory"},
		{"entra", identity.Place{Tenant: "example.com"}, "", "tenant must be a UUID"},
		{"entra", identity.Place{Issuer: "https://login.microsoftonline.com/common/v2.0"}, "", "issuer is one that all customers"},
		{"generic", identity.Place{}, "", "must have a preset or an issuer"},
		{"", identity.Place{}, "", "must have a preset or an issuer"},
		{"", identity.Place{Issuer: "https://idp.example.com"}, "https://idp.example.com", ""},
		{"", identity.Place{Issuer: "https://idp.example.com", Host: "x.example.com"}, "", "host is not a key of preset \"generic\""},
		{"githb-actions", identity.Place{}, "", `there is no such preset (did you mean "github-actions"?)`},
	} {
		p, problems := identity.FromPreset(c.preset, c.place)
		p.Name, p.Audiences = "x", []string{audience}
		if len(problems) == 0 {
			problems = p.Problems()
		}
		all := ""
		for _, problem := range problems {
			all += problem.String() + "\n"
		}
		switch {
		case c.issuer != "" && (all != "" || p.Issuer != c.issuer):
			t.Errorf("%s %+v: issuer %q, problems %q; want %q", c.preset, c.place, p.Issuer, all, c.issuer)
		case c.issuer == "" && !strings.Contains(all, c.says):
			t.Errorf("%s %+v: problems %q, want %q", c.preset, c.place, all, c.says)
		}
	}
}

// TestKubernetesAudienceIsDedicated: a pod's token for the API server must be good for nothing here.
func TestKubernetesAudienceIsDedicated(t *testing.T) {
	for aud, good := range map[string]bool{
		audience: true, "daypass": true, "https://kubernetes.example.com": true,
		eksIssuer: false, "https://kubernetes.default.svc": false, "https://kubernetes.default": false, "https://kubernetes.default.svc.cluster.local": false,
		"kubernetes.default.svc": false, "https://kubernetes.default.svc.example.internal": false, "kubernetes": false, "k3s": false,
	} {
		p, _ := identity.FromPreset("kubernetes", identity.Place{Issuer: eksIssuer})
		p.Name, p.Audiences = "cluster", []string{"daypass", aud}
		problems := p.Problems()
		if (len(problems) == 0) != good || !good && problems[0].Key != "audiences" {
			t.Errorf("audience %q: %v, want good %v", aud, problems, good)
		}
	}
}

func TestPresets(t *testing.T) {
	names := identity.Presets()
	if len(names) != 13 || !slices.Contains(names, "generic") {
		t.Errorf("presets %q", names)
	}
	for _, name := range names {
		p, ok := identity.Preset(name)
		if !ok || name != "generic" && (p.Name != name || p.Kind == "" || p.MaxAge == 0 || len(p.Algorithms) == 0) {
			t.Errorf("preset %q: %+v, %v", name, p, ok)
		}
		if p.MaxAge > time.Hour {
			t.Errorf("preset %q takes tokens that are %s old", name, p.MaxAge)
		}
	}
	if p, ok := identity.Preset("unheard-of"); ok {
		t.Errorf("an unknown preset is %+v", p)
	}
}

// FuzzPlace: whatever stands in a preset's key, the issuer is a URL of the service that the preset is for,
// with nothing in it that could be another host's.
func FuzzPlace(f *testing.F) {
	for _, seed := range []string{"git.example.com", "octo.ghe.com", "a@b", "a/b", "a?b", "a#b", "[::1]:80", "a\\b", "..", circleOrg, "common", "w.x_y-z", "a:b", "a%2fb"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range []struct {
			preset         string
			place          identity.Place
			host           string
			prefix, suffix string
		}{
			{"github-actions", identity.Place{Enterprise: s}, "token.actions.githubusercontent.com", "/", ""},
			{"github-actions", identity.Place{Host: s}, "", "", ""},
			{"gitlab", identity.Place{Host: s}, s, "", ""},
			{"circleci", identity.Place{Organization: s}, "oidc.circleci.com", "/org/", ""},
			{"bitbucket", identity.Place{Workspace: s}, "api.bitbucket.org", "/2.0/workspaces/", "/pipelines-config/identity/oidc"},
			{"azure-devops", identity.Place{Organization: s}, "vstoken.dev.azure.com", "/", ""},
			{"entra", identity.Place{Tenant: s}, "login.microsoftonline.com", "/", "/v2.0"},
		} {
			p, problems := identity.FromPreset(c.preset, c.place)
			if s == "" || len(problems) > 0 {
				continue
			}
			p.Name, p.Audiences = "x", []string{audience}
			if problems := p.Problems(); len(problems) > 0 {
				t.Fatalf("%s of %q passes and does not: %v", c.preset, s, problems)
			}
			u, err := url.Parse(p.Issuer)
			if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.RawPath != "" {
				t.Fatalf("%s of %q has the issuer %q: %v", c.preset, s, p.Issuer, err)
			}
			if c.host != "" && (u.Host != c.host || c.prefix != "" && u.Path != c.prefix+s+c.suffix) {
				t.Fatalf("%s of %q has the issuer %q", c.preset, s, p.Issuer)
			}
			if c.host == "" && u.Host != s && u.Host != "token.actions."+s {
				t.Fatalf("%s of %q has the issuer %q", c.preset, s, p.Issuer)
			}
		}
	})
}
