package identity_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

const audience = "https://daypass.example.com"

// noon is a fixed instant for tests that need no other.
var noon = time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC)

// provider returns settings for an issuer that Unserved made.
func provider(i *identitytest.Issuer) identity.Provider {
	return identity.Provider{Name: "example", Issuer: i.URL(), Audiences: []string{audience}, Client: i.Client()}
}

// unserved returns an issuer without a network, at noon.
func unserved(t testing.TB) *identitytest.Issuer {
	t.Helper()
	i, err := identitytest.Unserved("https://issuer.example.com")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	i.SetNow(func() time.Time { return noon })
	return i
}

func newVerifier(t testing.TB, now func() time.Time, providers ...identity.Provider) *identity.Verifier {
	t.Helper()
	v, err := identity.New(providers, now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func atNoon() time.Time { return noon }

// refused fails the test unless err is a refusal of the kind and for one of the reasons, with a
// sentence that does not hold the token.
func refused(t testing.TB, err error, token string, kind cred.Kind, reasons ...string) *cred.Error {
	t.Helper()
	e, ok := err.(*cred.Error)
	if !ok {
		t.Fatalf("got %v, want a *cred.Error", err)
	}
	if e.Kind != kind || len(reasons) > 0 && !slices.Contains(reasons, e.Reason) {
		t.Fatalf("got kind %v, reason %q (%v), want %v, one of %q", e.Kind, e.Reason, e, kind, reasons)
	}
	if e.Reason == "" || e.Public == "" || len(e.Public) > 1000 {
		t.Errorf("reason %q and public text %q do not help the caller", e.Reason, e.Public)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 40 && strings.Contains(e.Error(), part[:40]) {
			t.Errorf("the error %q holds a part of the token", e)
		}
	}
	return e
}

func TestForgedTokensAreRefused(t *testing.T) {
	i := unserved(t)
	forged, err := i.Forge(audience)
	if err != nil {
		t.Fatal(err)
	}
	if len(forged) < 200 {
		t.Fatalf("there are only %d forged tokens", len(forged))
	}
	p := provider(i)
	p.MaxAge = 24 * time.Hour
	v := newVerifier(t, atNoon, p)
	names := map[string]bool{}
	for _, f := range forged {
		if names[f.Name] {
			t.Errorf("the name %q is used twice", f.Name)
		}
		names[f.Name] = true
		t.Run(f.Name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), f.Token)
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			refused(t, err, f.Token, f.Kind, f.Reasons...)
			if !cmp.Equal(got, identity.Verified{}) {
				t.Errorf("the refusal comes with %+v", got)
			}
		})
	}
	if n := i.Fetches(); n != 1 {
		t.Errorf("the forged tokens made the verifier fetch the keys %d times within one instant, want 1", n)
	}
	if n := i.Discoveries(); n != 1 {
		t.Errorf("the forged tokens made %d discoveries, want 1", n)
	}
	t.Logf("%d forged tokens", len(forged))
}

func TestSiblingsPass(t *testing.T) {
	i := unserved(t)
	v := newVerifier(t, atNoon, provider(i))
	for _, g := range i.Siblings(audience) {
		got, err := v.Verify(t.Context(), g.Token)
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
		} else if got.Principal.Issuer != i.URL() || got.Principal.Provider != "example" || got.Principal.Subject == "" || got.Principal.Subject != got.Principal.Claims["sub"] {
			t.Errorf("%s: wrong principal %+v", g.Name, got)
		}
	}
}

func TestPrincipalOfGitHubJob(t *testing.T) {
	i := unserved(t)
	p, _ := identity.Preset("github-actions")
	p.Issuer, p.Audiences, p.Client = i.URL(), []string{audience}, i.Client()
	v := newVerifier(t, atNoon, p)
	for _, job := range []struct {
		job identitytest.GitHubJob
		sub string
	}{
		{identitytest.GitHubJob{}, "repo:example-org/example-repo:ref:refs/heads/main"},
		{identitytest.GitHubJob{Immutable: true}, "repo:example-org@100200/example-repo@300400500:ref:refs/heads/main"},
		{identitytest.GitHubJob{Event: "pull_request", Ref: "refs/pull/27/merge"}, "repo:example-org/example-repo:pull_request"},
		{identitytest.GitHubJob{Environment: "eu:prod", Life: 6 * time.Hour}, "repo:example-org/example-repo:environment:eu%3Aprod"},
	} {
		claims := i.GitHubClaims(audience, job.job)
		got, err := v.Verify(t.Context(), i.Sign(claims))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range claims {
			if n, ok := value.(int64); ok {
				claims[name] = float64(n)
			}
		}
		want := cred.Principal{Provider: "github-actions", Issuer: i.URL(), Subject: job.sub, Name: job.sub, Kind: cred.KindWorkload, Claims: claims}
		if diff := cmp.Diff(want, got.Principal); diff != "" {
			t.Errorf("principal (-want +got):\n%s", diff)
		}
	}
}

func TestRefusalNamesClaimAndWhatWasSeen(t *testing.T) {
	i := unserved(t)
	v := newVerifier(t, atNoon, provider(i))
	with := func(name string, value any) string {
		claims := i.PersonClaims(audience, "example-user")
		claims[name] = value
		return i.Sign(claims)
	}
	for _, test := range []struct{ token, claim, says string }{
		{with("aud", "elsewhere"), "aud", `"elsewhere"`},
		{with("aud", "elsewhere"), "aud", audience},
		{with("aud", []string{audience, "elsewhere"}), "aud", `"elsewhere"`},
		{with("iss", i.URL()+"/"), "iss", "last character"},
		{with("iss", "https://other.example.com"), "iss", "https://other.example.com"},
		{with("exp", noon.Add(-time.Hour).Unix()), "exp", "2026-11-20T11:00:00Z"},
		{with("nbf", noon.Add(time.Hour).Unix()), "nbf", "2026-11-20T13:00:00Z"},
		{with("iat", noon.Add(-2*time.Hour).Unix()), "iat", "1h0m0s"},
		{i.Sign(i.PersonClaims(audience, "example-user"), identitytest.WithHeader("typ", "at+jwt")), "typ", "at+jwt"},
	} {
		_, err := v.Verify(t.Context(), test.token)
		if e := refused(t, err, test.token, cred.Unauthenticated); e.Claim != test.claim || !strings.Contains(e.Public, test.says) {
			t.Errorf("claim %q, public %q; want claim %q and %q in the text", e.Claim, e.Public, test.claim, test.says)
		}
	}
}

func TestProviderAlgorithms(t *testing.T) {
	i := unserved(t)
	p := provider(i)
	p.Algorithms = []string{"ES256"}
	v := newVerifier(t, atNoon, p)
	if _, err := v.Verify(t.Context(), i.Sign(i.PersonClaims(audience, "a"), identitytest.WithAlg("ES256"))); err != nil {
		t.Errorf("the one algorithm that is allowed: %v", err)
	}
	token := i.Sign(i.PersonClaims(audience, "a"))
	_, err := v.Verify(t.Context(), token)
	refused(t, err, token, cred.Unauthenticated, "TOKEN_ALGORITHM")
}

func TestTwoIssuersDoNotVouchForEachOther(t *testing.T) {
	one, other := unserved(t), unserved(t)
	second, err := identitytest.Unserved("https://second.example.com")
	if err != nil {
		t.Fatal(err)
	}
	second.SetNow(atNoon)
	p, q := provider(one), provider(second)
	q.Name = "second"
	v := newVerifier(t, atNoon, p, q)
	claims := second.PersonClaims(audience, "a")
	if got, err := v.Verify(t.Context(), second.Sign(claims)); err != nil || got.Principal.Provider != "second" {
		t.Fatalf("the second issuer's token: %+v, %v", got, err)
	}
	claims["iss"] = one.URL()
	for _, signer := range []*identitytest.Issuer{second, other} {
		token := signer.Sign(claims)
		_, err := v.Verify(t.Context(), token)
		refused(t, err, token, cred.Unauthenticated, "SIGNATURE_INVALID")
	}
}

// TestPublishedKeyIsUsed makes sure that the forged token of a weak key fails for that reason: a
// strong key that is published in the same way is accepted.
func TestPublishedKeyIsUsed(t *testing.T) {
	i, helper := unserved(t), unserved(t)
	if err := helper.Rotate(); err != nil { // so that its kids are its own
		t.Fatal(err)
	}
	i.Publish(helper.JWK("RS256"))
	v := newVerifier(t, atNoon, provider(i))
	if _, err := v.Verify(t.Context(), helper.Sign(helper.PersonClaims(audience, "a"))); err != nil {
		t.Error(err)
	}
}
