package identity_test

import (
	"testing"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

// TestWhoseSVID has two trust domains and an OIDC issuer, each with keys of its own, and JWT-SVIDs with
// and without iss. Where no issuer is configured, iss does not count; who signed it always does.
func TestWhoseSVID(t *testing.T) {
	with, bundle, plain := unserved(t), unserved(t), second(t)
	v := newVerifier(
		t, atNoon,
		identity.Provider{Name: "with-issuer", TrustDomain: "example.org", Issuer: with.URL(), Audiences: []string{audience}, Client: with.Client()},
		identity.Provider{Name: "bundle", TrustDomain: "example.net", JWKSURL: "https://bundle.example.net/jwks", Audiences: []string{audience}, Client: bundle.Client()},
		identity.Provider{Name: "plain", Issuer: plain.URL(), Audiences: []string{audience}, Client: plain.Client()},
	)
	for name, test := range map[string]struct {
		signer   *identitytest.Issuer
		sub      string
		iss      any // nil: none
		provider string
		reason   string
	}{
		"with its iss":                     {with, "spiffe://example.org/a", with.URL(), "with-issuer", ""},
		"without iss":                      {with, "spiffe://example.org/a", nil, "with-issuer", ""},
		"with the domain as iss":           {with, "spiffe://example.org/a", "spiffe://example.org", "with-issuer", ""},
		"with another iss":                 {with, "spiffe://example.org/a", "https://other.example.org", "", "UNKNOWN_ISSUER"},
		"with the other's domain":          {with, "spiffe://example.net/a", with.URL(), "", "WRONG_TRUST_DOMAIN"},
		"for the other's domain, no iss":   {with, "spiffe://example.net/a", nil, "", "SIGNATURE_INVALID"},
		"bundle without iss":               {bundle, "spiffe://example.net/a", nil, "bundle", ""},
		"bundle with any iss":              {bundle, "spiffe://example.net/a", "https://spire.example.net", "bundle", ""},
		"bundle with the first's iss":      {bundle, "spiffe://example.net/a", with.URL(), "", "WRONG_TRUST_DOMAIN"},
		"bundle for the first's domain":    {bundle, "spiffe://example.org/a", nil, "", "SIGNATURE_INVALID"},
		"an OIDC issuer without iss":       {plain, "spiffe://example.net/a", nil, "", "SIGNATURE_INVALID"},
		"an OIDC issuer with a SPIFFE sub": {plain, "spiffe://example.net/a", plain.URL(), "plain", ""},
		"iss that is no text":              {bundle, "spiffe://example.net/a", 7, "", "CLAIM_INVALID"},
	} {
		claims := test.signer.Claims("spiffe.minimal", audience)
		claims["sub"], claims["iat"] = test.sub, noon.Unix()
		if test.iss != nil {
			claims["iss"] = test.iss
		}
		token := test.signer.Sign(claims)
		got, err := v.Verify(t.Context(), token)
		if test.reason != "" {
			t.Run(name, func(t *testing.T) { refused(t, err, token, cred.Unauthenticated, test.reason) })
			continue
		}
		if err != nil || got.Principal.Provider != test.provider || got.Principal.Subject != test.sub {
			t.Errorf("%s: %+v, %v; want provider %q", name, got.Principal, err, test.provider)
		}
	}
}

// second returns an issuer of another URL than unserved's.
func second(t *testing.T) *identitytest.Issuer {
	t.Helper()
	i, err := identitytest.Unserved("https://second.example.com")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	i.SetNow(atNoon)
	return i
}

// TestTrustDomainsAreConfiguredOnce: no two providers may claim one trust domain or one issuer.
func TestTrustDomainsAreConfiguredOnce(t *testing.T) {
	one := identity.Provider{Name: "one", TrustDomain: "example.org", Issuer: "https://a.example.org", Audiences: []string{audience}}
	for name, two := range map[string]identity.Provider{
		"the same domain": {Name: "two", TrustDomain: "example.org", JWKSURL: "https://b.example.org", Audiences: []string{audience}},
		"the same issuer": {Name: "two", Issuer: "https://a.example.org", Audiences: []string{audience}},
	} {
		if _, err := identity.New([]identity.Provider{one, two}, atNoon); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
