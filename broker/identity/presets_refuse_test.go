package identity_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

// refusal is a genuine, signed token of a claim set with a few changes, and why it must be refused.
type refusal struct {
	name    string
	fixture string
	set     map[string]any // nil removes
	later   time.Duration  // than noon, when the token was made
	reason  string
	claim   string
}

const (
	far   = 24 * time.Hour
	ci    = 10*time.Minute + 31*time.Second // just too old for who can ask for a new token at any time
	start = time.Hour + 31*time.Second      // just too old for who gets one token when it starts
)

// presetRefusals has for each preset: another issuer, another audience, the service's default one, a
// token that its exp would allow for hours, and the preset's own traps.
var presetRefusals = []refusal{
	{"another organisation's issuer", "github-actions.push", set("iss", "https://token.actions.githubusercontent.com/other-enterprise"), 0, "UNKNOWN_ISSUER", "iss"},
	{"another vault's audience", "github-actions.push", set("aud", "https://vault.example.com"), 0, "WRONG_AUDIENCE", "aud"},
	{"the default audience", "github-actions.push", set("aud", "https://github.com/octo-org"), 0, "WRONG_AUDIENCE", "aud"},
	{"hours before exp", "github-actions.six-hours", nil, ci, "TOKEN_TOO_OLD", "iat"},
	{"past exp", "github-actions.push", nil, 331 * time.Second, "TOKEN_EXPIRED", "exp"},
	{"no jti", "github-actions.push", set("jti", nil), 0, "MISSING_CLAIM", "jti"},
	{"an empty jti", "github-actions.push", set("jti", ""), 0, "CLAIM_INVALID", "jti"},
	{"a jti that is a number", "github-actions.push", set("jti", 7), 0, "CLAIM_INVALID", "jti"},
	{"events in a list", "github-actions.push", set("event_name", []string{"push", "workflow_run"}), 0, "CLAIM_INVALID", "event_name"},
	{"GHES, by github.com's issuer", "github-actions.ghes", set("iss", "https://token.actions.githubusercontent.com"), 0, "UNKNOWN_ISSUER", "iss"},

	{"another instance", "gitlab.branch", set("iss", "https://gitlab.example.org"), 0, "UNKNOWN_ISSUER", "iss"},
	{"the instance as the audience", "gitlab.branch", set("aud", "https://gitlab.com"), 0, "WRONG_AUDIENCE", "aud"},
	{"a second audience", "gitlab.branch", set("aud", []string{audience, "https://vault.example.com"}), 0, "WRONG_AUDIENCE", "aud"},
	{"a job of many hours", "gitlab.branch", set("exp", noon.Add(far).Unix()), start, "TOKEN_TOO_OLD", "iat"},
	{"before its nbf", "gitlab.branch", set("nbf", noon.Add(time.Minute).Unix()), 0, "TOKEN_NOT_YET_VALID", "nbf"},

	{"another issuer", "buildkite.default", set("iss", "https://buildkite.com"), 0, "UNKNOWN_ISSUER", "iss"},
	{"the default audience", "buildkite.default", set("aud", "https://buildkite.com/example-org"), 0, "WRONG_AUDIENCE", "aud"},
	{"a long --lifetime", "buildkite.with-ids", set("exp", noon.Add(far).Unix()), ci, "TOKEN_TOO_OLD", "iat"},

	{"the issuer of all organisations", "circleci.v2", set("iss", "https://oidc.circleci.com"), 0, "UNKNOWN_ISSUER", "iss"},
	{"another organisation's issuer", "circleci.v2", set("iss", "https://oidc.circleci.com/org/99999999-2222-4333-8444-555555555555"), 0, "UNKNOWN_ISSUER", "iss"},
	{"the default audience", "circleci.v1", set("aud", circleOrg), 0, "WRONG_AUDIENCE", "aud"},
	{"rerun with SSH", "circleci.v1", set("oidc.circleci.com/ssh-rerun", true), 0, "EVENT_REFUSED", "oidc.circleci.com/ssh-rerun"},
	{"rerun with SSH, as text", "circleci.v2", set("oidc.circleci.com/ssh-rerun", "true"), 0, "EVENT_REFUSED", "oidc.circleci.com/ssh-rerun"},
	{"hours before exp", "circleci.v2", set("exp", noon.Add(far).Unix()), start, "TOKEN_TOO_OLD", "iat"},

	{"another cluster", "kubernetes.projected", set("iss", "https://oidc.eks.eu-central-1.amazonaws.com/id/OTHER"), 0, "UNKNOWN_ISSUER", "iss"},
	{"the API server's token, with a year of exp", "kubernetes.extended", set("aud", []string{"https://kubernetes.default.svc"}), 0, "WRONG_AUDIENCE", "aud"},
	{"good for the API server too", "kubernetes.extended", set("aud", []string{audience, "https://kubernetes.default.svc"}), 0, "WRONG_AUDIENCE", "aud"},
	{"a year before exp, past warnafter", "kubernetes.extended", nil, 3607*time.Second + 30*time.Second, "TOKEN_EXPIRED", "kubernetes.io.warnafter"},
	{"a year before exp, without warnafter", "kubernetes.projected", set("exp", noon.Add(365*far).Unix()), start, "TOKEN_TOO_OLD", "iat"},
	{"warnafter that is a text", "kubernetes.extended", set("kubernetes.io", map[string]any{"warnafter": "never"}), 0, "CLAIM_INVALID", "kubernetes.io.warnafter"},
	{"a legacy token without end", "kubernetes.projected", set("exp", nil), 0, "MISSING_CLAIM", "exp"},

	{"another workspace", "bitbucket.step", set("iss", "https://api.bitbucket.org/2.0/workspaces/other/pipelines-config/identity/oidc"), 0, "UNKNOWN_ISSUER", "iss"},
	{"the default audience", "bitbucket.step", set("aud", "ari:cloud:bitbucket::workspace/922e118c-f34f-4226-a897-0e0afbec553d"), 0, "WRONG_AUDIENCE", "aud"},
	{"hours before exp", "bitbucket.deployment", set("exp", noon.Add(far).Unix()), start, "TOKEN_TOO_OLD", "iat"},

	{"another organisation", "azure-devops.pipeline", set("iss", "https://vstoken.dev.azure.com/99999999-f0b0-4635-a98c-5866526961b6"), 0, "UNKNOWN_ISSUER", "iss"},
	{"another audience", "azure-devops.pipeline", set("aud", audience), 0, "WRONG_AUDIENCE", "aud"},
	{"hours before exp", "azure-devops.connection", set("exp", noon.Add(far).Unix()), ci, "TOKEN_TOO_OLD", "iat"},

	{"another account", "aws-workload.role", set("iss", "https://99999999-1111-4222-8333-444444444444.tokens.sts.global.api.aws"), 0, "UNKNOWN_ISSUER", "iss"},
	{"ten audiences", "aws-workload.role", set("aud", []string{audience, "two", "three"}), 0, "WRONG_AUDIENCE", "aud"},
	{"an hour before exp", "aws-workload.lambda", nil, ci, "TOKEN_TOO_OLD", "iat"},

	{"another issuer", "spiffe.spire", set("iss", "https://oidc.spire.example.net"), 0, "UNKNOWN_ISSUER", "iss"},
	{"no issuer, an unknown trust domain", "spiffe.minimal", set("sub", "spiffe://example.net/payments/deployer"), 0, "UNKNOWN_TRUST_DOMAIN", "sub"},
	{"our issuer, a foreign trust domain", "spiffe.spire", set("sub", "spiffe://example.net/payments/deployer"), 0, "WRONG_TRUST_DOMAIN", "sub"},
	{"our issuer, no SPIFFE ID", "spiffe.spire", set("sub", "system:serviceaccount:payments:deployer"), 0, "CLAIM_INVALID", "sub"},
	{"the trust domain itself", "spiffe.spire", set("sub", "spiffe://example.org"), 0, "CLAIM_INVALID", "sub"},
	{"a trust domain in capitals", "spiffe.spire", set("sub", "spiffe://Example.org/payments"), 0, "CLAIM_INVALID", "sub"},
	{"a path that climbs", "spiffe.spire", set("sub", "spiffe://example.org/payments/../admin"), 0, "CLAIM_INVALID", "sub"},
	{"neither iss nor SPIFFE ID", "spiffe.minimal", set("sub", "deployer"), 0, "MISSING_CLAIM", "iss"},
	{"no exp", "spiffe.minimal", set("exp", nil), 0, "MISSING_CLAIM", "exp"},
	{"no aud", "spiffe.minimal", set("aud", nil), 0, "MISSING_CLAIM", "aud"},
	{"another service's audience", "spiffe.minimal", set("aud", []string{"reports"}), 0, "WRONG_AUDIENCE", "aud"},
	{"hours before exp", "spiffe.spire", set("exp", noon.Add(far).Unix()), start, "TOKEN_TOO_OLD", "iat"},
	{"no iat and hours before exp", "spiffe.minimal", set("exp", noon.Add(start).Unix()), 0, "TOKEN_TOO_OLD", "iat"},

	{"the issuer without its scheme", "google.workspace", set("iss", "accounts.google.com"), 0, "UNKNOWN_ISSUER", "iss"},
	{"another application", "google.workspace", set("aud", "other.apps.googleusercontent.com"), 0, "WRONG_AUDIENCE", "aud"},
	{"an address that nobody verified", "google.workspace", set("email_verified", false), 0, "EVENT_REFUSED", "email_verified"},
	{"an address that nobody verified, as text", "google.workspace", set("email_verified", "false"), 0, "EVENT_REFUSED", "email_verified"},
	{"hours before exp", "google.workspace", set("exp", noon.Add(far).Unix()), start, "TOKEN_TOO_OLD", "iat"},

	{"another authorization server", "okta.org", set("iss", "https://example.okta.com/oauth2/default"), 0, "UNKNOWN_ISSUER", "iss"},
	{"an access token of the default server", "okta.custom-server", set("aud", "api://default"), 0, "WRONG_AUDIENCE", "aud"},
	{"hours before exp", "okta.org", set("exp", noon.Add(far).Unix()), start, "TOKEN_TOO_OLD", "iat"},
	{"a sign-in that is to come", "okta.org", set("auth_time", noon.Add(time.Minute).Unix()), 0, "TOKEN_NOT_YET_VALID", "auth_time"},
	{"a sign-in that is no time", "okta.org", set("auth_time", "yesterday"), 0, "CLAIM_INVALID", "auth_time"},

	{"another directory", "entra.groups", set("iss", "https://login.microsoftonline.com/99999999-3333-4444-8555-666666666666/v2.0"), 0, "UNKNOWN_ISSUER", "iss"},
	{"version 1", "entra.groups", set("iss", "https://sts.windows.net/"+tenant+"/"), 0, "UNKNOWN_ISSUER", "iss"},
	{"another application", "entra.groups", set("aud", "00000003-0000-0000-c000-000000000000"), 0, "WRONG_AUDIENCE", "aud"},
	{"hours before exp", "entra.groups", set("exp", noon.Add(far).Unix()), start, "TOKEN_TOO_OLD", "iat"},

	{"another realm", "generic.keycloak", set("iss", "https://idp.example.com/realms/other"), 0, "UNKNOWN_ISSUER", "iss"},
	{"another client", "generic.keycloak", set("aud", "account"), 0, "WRONG_AUDIENCE", "aud"},
	{"hours before exp", "generic.keycloak", set("exp", noon.Add(far).Unix()), start, "TOKEN_TOO_OLD", "iat"},
}

// set is a change of one claim.
func set(name string, value any) map[string]any { return map[string]any{name: value} }

func TestPresetsRefuse(t *testing.T) {
	i := unserved(t)
	refusals := map[string]int{}
	for _, r := range presetRefusals {
		t.Run(r.fixture+"/"+r.name, func(t *testing.T) {
			p := presetFor(t, r.fixture)
			refusals[p.Name]++
			claims := i.Claims(r.fixture, "")
			if _, err := newVerifier(t, atNoon, at(i, p)).Verify(t.Context(), i.Sign(claims)); err != nil {
				t.Fatalf("refused without the change: %v", err)
			}
			for name, value := range r.set {
				claims[name] = value
				if value == nil {
					delete(claims, name)
				}
			}
			later := func() time.Time { return noon.Add(r.later) }
			token := i.Sign(claims)
			_, err := newVerifier(t, later, at(i, p)).Verify(t.Context(), token)
			if e := refused(t, err, token, cred.Unauthenticated, r.reason); e.Claim != r.claim {
				t.Errorf("claim %q, want %q", e.Claim, r.claim)
			}
		})
	}
	for _, name := range identity.Presets() {
		if refusals[name] < 3 {
			t.Errorf("preset %s has %d refusals", name, refusals[name])
		}
	}
}

// TestPresetsRefuseOtherAlgorithms signs each claim set with a real key of an algorithm that its preset
// does not list.
func TestPresetsRefuseOtherAlgorithms(t *testing.T) {
	i := unserved(t)
	for _, fixture := range identitytest.Fixtures() {
		p := presetFor(t, fixture)
		for _, alg := range []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"} {
			token := i.Sign(i.Claims(fixture, ""), identitytest.WithAlg(alg))
			_, err := newVerifier(t, atNoon, at(i, p)).Verify(t.Context(), token)
			if allows(p, alg) {
				if err != nil {
					t.Errorf("%s with %s: %v", fixture, alg, err)
				}
				continue
			}
			refused(t, err, token, cred.Unauthenticated, "TOKEN_ALGORITHM")
		}
	}
}

// allows says by the services' documents which algorithms each signs with.
func allows(p identity.Provider, alg string) bool {
	switch p.Name {
	case "generic":
		return true
	case "spiffe":
		return alg != "EdDSA"
	case "aws-workload":
		return alg == "RS256" || alg == "ES384"
	case "kubernetes":
		return alg == "RS256" || alg == "ES256"
	}
	return alg == "RS256"
}

// TestTypeJOSEIsForSVIDsAlone: JWT-SVID section 2.3 allows it, nobody else sends it.
func TestTypeJOSEIsForSVIDsAlone(t *testing.T) {
	i := unserved(t)
	for fixture, typ := range map[string]string{"spiffe.spire": "at+jwt", "gitlab.branch": "JOSE"} {
		token := i.Sign(i.Claims(fixture, ""), identitytest.WithHeader("typ", typ))
		_, err := newVerifier(t, atNoon, at(i, presetFor(t, fixture))).Verify(t.Context(), token)
		refused(t, err, token, cred.Unauthenticated, "WRONG_TYPE")
	}
}

// TestOneTimeNeedsAnID makes each provider's tokens count once.
func TestOneTimeNeedsAnID(t *testing.T) {
	i := unserved(t)
	for _, fixture := range []string{"gitlab.branch", "okta.org", "circleci.v1", "spiffe.minimal"} {
		p := at(i, presetFor(t, fixture))
		p.OneTime = true
		v := newVerifier(t, atNoon, p)
		claims := i.Claims(fixture, "")
		claims["jti"] = fmt.Sprint("id of ", fixture)
		got, err := v.Verify(t.Context(), i.Sign(claims))
		if err != nil || !got.OneTime || got.ID != claims["jti"] {
			t.Errorf("%s: one time %v, ID %q, %v", fixture, got.OneTime, got.ID, err)
		}
		delete(claims, "jti")
		token := i.Sign(claims)
		_, err = v.Verify(t.Context(), token)
		if e := refused(t, err, token, cred.Unauthenticated, "MISSING_CLAIM"); e.Claim != "jti" {
			t.Errorf("%s: claim %q, want jti", fixture, e.Claim)
		}
	}
}
