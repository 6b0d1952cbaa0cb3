package identity_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

const (
	eksIssuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B716D3041E"
	awsIssuer = "https://00000000-1111-4222-8333-444444444444.tokens.sts.global.api.aws"
	circleOrg = "11111111-2222-4333-8444-555555555555"
	azureOrg  = "0ca3ddd9-f0b0-4635-a98c-5866526961b6"
	tenant    = "22222222-3333-4444-8555-666666666666"
	azureAud  = "api://AzureADTokenExchange"
)

// places says which issuer each claim set is of; those that are missing need no place.
var places = map[string]identity.Place{
	"github-actions.enterprise": {Enterprise: "octo-enterprise"},
	"github-actions.ghes":       {Host: "git.example.com"},
	"github-actions.ghe-com":    {Host: "octocorp.ghe.com"},
	"gitlab.self-managed":       {Host: "gitlab.example.com:8443"},
	"circleci":                  {Organization: circleOrg},
	"kubernetes":                {Issuer: eksIssuer},
	"bitbucket":                 {Workspace: "example-workspace"},
	"azure-devops":              {Organization: azureOrg},
	"aws-workload":              {Issuer: awsIssuer},
	"spiffe":                    {TrustDomain: "example.org", Issuer: "https://oidc.spire.example.org"},
	"spiffe.minimal":            {TrustDomain: "example.org", JWKSURL: "https://bundle.example.org/keys"},
	"okta":                      {Issuer: "https://example.okta.com"},
	"okta.custom-server":        {Issuer: "https://example.okta.com/oauth2/default"},
	"entra":                     {Tenant: tenant},
	"generic":                   {Issuer: "https://idp.example.com/realms/example"},
}

// presetFor returns the settings of a claim set's preset at the claim set's place.
func presetFor(t *testing.T, fixture string) identity.Provider {
	t.Helper()
	preset, _, _ := strings.Cut(fixture, ".")
	place, known := places[fixture]
	if !known {
		place = places[preset]
	}
	p, problems := identity.FromPreset(preset, place)
	if len(problems) > 0 {
		t.Fatalf("%s: %v", fixture, problems)
	}
	p.Name, p.Audiences = preset, []string{audience}
	if preset == "azure-devops" {
		p.Audiences = []string{azureAud}
	}
	if problems := p.Problems(); len(problems) > 0 {
		t.Fatalf("%s: %v", fixture, problems)
	}
	return p
}

// at moves settings to an issuer of ours.
func at(i *identitytest.Issuer, p identity.Provider) identity.Provider {
	if p.Issuer != "" {
		p.Issuer = i.URL()
	}
	if p.JWKSURL != "" {
		p.JWKSURL = i.URL() + "/jwks"
	}
	p.Client = i.Client()
	return p
}

// TestClaimSetsPass verifies each claim set with its preset's own settings, after it has held the
// preset's issuer against the one in the claims.
func TestClaimSetsPass(t *testing.T) {
	i := unserved(t)
	seen := map[string]bool{}
	for _, fixture := range identitytest.Fixtures() {
		p := presetFor(t, fixture)
		seen[p.Name] = true
		raw := identitytest.Fixture(fixture)
		if iss, present := raw["iss"]; present && iss != p.Issuer {
			t.Errorf("%s: the preset's issuer is %q, the claim set's %q", fixture, p.Issuer, iss)
		}
		claims := i.Claims(fixture, "")
		got, err := newVerifier(t, atNoon, at(i, p)).Verify(t.Context(), i.Sign(claims))
		if err != nil {
			t.Errorf("%s: %v", fixture, err)
			continue
		}
		id, _ := claims["jti"].(string)
		want := identity.Verified{
			Principal: cred.Principal{
				Provider: p.Name, Issuer: i.URL(), Subject: raw["sub"].(string), Kind: p.Kind, Claims: claims,
				Name: got.Principal.Name, Groups: got.Principal.Groups, Cautions: got.Principal.Cautions,
			},
			ID: id, IssuedAt: timeOf(claims, "iat"), AuthTime: timeOf(claims, "auth_time"), OneTime: p.Name == "github-actions", ExpiresAt: got.ExpiresAt,
		}
		if p.TrustDomain != "" {
			want.Principal.Issuer = "spiffe://example.org"
		}
		if p.Name == "generic" {
			want.Principal.Kind = cred.KindPerson
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", fixture, diff)
		}
	}
	for _, name := range identity.Presets() {
		if !seen[name] {
			t.Errorf("preset %s has no claim set", name)
		}
	}
}

func timeOf(claims map[string]any, name string) time.Time {
	seconds, present := claims[name].(float64)
	if !present {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// TestWhatPresetsRead holds what presets make of single claim sets beyond the claims themselves.
func TestWhatPresetsRead(t *testing.T) {
	i := unserved(t)
	for fixture, want := range map[string]struct {
		name     string
		groups   []string // nil: unknown
		cautions map[string]string
		life     time.Duration // from noon to ExpiresAt, the skew and the nanosecond at its end left out
	}{
		"github-actions.push":                {"repo:octo-org/octo-repo:ref:refs/heads/main", nil, nil, 5 * time.Minute},
		"github-actions.immutable":           {"repo:octo-org@123456/octo-repo@456789:ref:refs/heads/main", nil, nil, 5 * time.Minute},
		"github-actions.six-hours":           {"repo:octo-org/octo-repo:ref:refs/tags/v1.2.3", nil, nil, 10 * time.Minute},
		"github-actions.pull-request-target": {"repo:octo-org/octo-repo:ref:refs/heads/main", nil, map[string]string{"event_name": "pull_request_target"}, 5 * time.Minute},
		"github-actions.workflow-run":        {"repo:octo-org@123456/octo-repo@456789:ref:refs/heads/main", nil, map[string]string{"event_name": "workflow_run"}, 5 * time.Minute},
		"gitlab.branch":                      {"project_path:example-group/example-project:ref_type:branch:ref:main", nil, nil, time.Hour},
		"kubernetes.extended":                {"system:serviceaccount:payments:deployer", nil, nil, time.Hour},
		"spiffe.minimal":                     {"spiffe://example.org/payments/deployer", nil, nil, 5 * time.Minute},
		"google.workspace":                   {"Example User", nil, nil, time.Hour},
		"okta.org":                           {"Example User", []string{"Everyone", "leads"}, nil, time.Hour},
		"okta.no-groups":                     {"Example User", nil, nil, time.Hour},
		"entra.groups":                       {"Example User", []string{"aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"}, nil, time.Hour},
		"entra.overage":                      {"Example User", nil, nil, time.Hour},
		"entra.hasgroups":                    {"Example User", nil, nil, time.Hour},
	} {
		got, err := newVerifier(t, atNoon, at(i, presetFor(t, fixture))).Verify(t.Context(), i.Sign(i.Claims(fixture, "")))
		if err != nil {
			t.Errorf("%s: %v", fixture, err)
			continue
		}
		who := got.Principal
		if who.Name != want.name || !slices.Equal(who.Groups, want.groups) || (who.Groups == nil) != (want.groups == nil) {
			t.Errorf("%s: name %q, groups %v; want %q, %v", fixture, who.Name, who.Groups, want.name, want.groups)
		}
		if diff := cmp.Diff(want.cautions, who.Cautions); diff != "" {
			t.Errorf("%s: cautions (-want +got):\n%s", fixture, diff)
		}
		if life := got.ExpiresAt.Sub(noon.Add(30 * time.Second)).Truncate(time.Second); life != want.life {
			t.Errorf("%s: counts for %s, want %s", fixture, life, want.life)
		}
	}
}

// TestExpiresAtIsWhenVerifyRefuses holds ExpiresAt against Verify's own clock, to the nanosecond.
func TestExpiresAtIsWhenVerifyRefuses(t *testing.T) {
	i := unserved(t)
	for _, fixture := range identitytest.Fixtures() {
		p := at(i, presetFor(t, fixture))
		token := i.Sign(i.Claims(fixture, ""))
		first, err := newVerifier(t, atNoon, p).Verify(t.Context(), token)
		if err != nil {
			t.Fatalf("%s: %v", fixture, err)
		}
		before := func() time.Time { return first.ExpiresAt.Add(-time.Nanosecond) }
		if _, err := newVerifier(t, before, p).Verify(t.Context(), token); err != nil {
			t.Errorf("%s: refused before ExpiresAt: %v", fixture, err)
		}
		then := func() time.Time { return first.ExpiresAt }
		_, err = newVerifier(t, then, p).Verify(t.Context(), token)
		refused(t, err, token, cred.Unauthenticated, "TOKEN_EXPIRED", "TOKEN_TOO_OLD")
	}
}

// TestOktaGroupsAtTheLimit: Okta cuts the list off at 100 without a word.
func TestOktaGroupsAtTheLimit(t *testing.T) {
	i := unserved(t)
	v := newVerifier(t, atNoon, at(i, presetFor(t, "okta.org")))
	for n, known := range map[int]bool{0: true, 1: true, 99: true, 100: false, 101: false} {
		groups := make([]string, n)
		for k := range groups {
			groups[k] = fmt.Sprint("group-", k)
		}
		claims := i.Claims("okta.org", audience)
		claims["groups"] = groups
		got, err := v.Verify(t.Context(), i.Sign(claims))
		if err != nil || (got.Principal.Groups != nil) != known || known && len(got.Principal.Groups) != n {
			t.Errorf("%d groups: %d read, %v; want known %v", n, len(got.Principal.Groups), err, known)
		}
	}
}

// TestBundleKeys verifies a JWT-SVID with a key that a SPIFFE bundle marks as one for JWT-SVIDs, and not
// with one for X.509-SVIDs.
func TestBundleKeys(t *testing.T) {
	for use, good := range map[string]bool{"jwt-svid": true, "sig": true, "": true, "x509-svid": false} {
		i := unserved(t)
		jwk := i.JWK("ES256")
		jwk["kid"], jwk["use"] = "of the bundle", use
		if use == "" {
			delete(jwk, "use")
		}
		i.Publish(jwk)
		token := i.Sign(i.Claims("spiffe.minimal", audience), identitytest.WithAlg("ES256"), identitytest.WithHeader("kid", "of the bundle"), identitytest.WithHeader("typ", "JOSE"))
		_, err := newVerifier(t, atNoon, at(i, presetFor(t, "spiffe.minimal"))).Verify(t.Context(), token)
		if good && err != nil {
			t.Errorf("use %q: %v", use, err)
		} else if !good {
			refused(t, err, token, cred.Unauthenticated, "SIGNATURE_INVALID")
		}
		if n := i.Discoveries(); n != 0 {
			t.Errorf("use %q: %d discoveries, and jwks_url needs none", use, n)
		}
	}
}
