package identity

import (
	"slices"

	"github.com/daypass-io/daypass/cred"
)

// google is for https://developers.google.com/identity/openid-connect/openid-connect. An account whose
// address nobody verified may bear any address, so its tokens are refused. There is no groups claim.
func google() preset {
	return preset{
		name: "google",
		provider: Provider{
			Name: "google", Issuer: "https://accounts.google.com",
			Kind: cred.KindPerson, Algorithms: []string{"RS256"}, MaxAge: DefaultPersonMaxAge,
			RefuseClaims: map[string][]string{"email_verified": {"false"}},
		},
	}
}

// okta is for an org's authorization server, or a custom one such as /oauth2/default. It cuts the list
// of groups off at 100 (https://developer.okta.com/docs/reference/rate-limits/ and Vault's page on
// Okta).
func okta() preset {
	return preset{
		name: "okta",
		provider: Provider{
			Name: "okta", Kind: cred.KindPerson, Algorithms: []string{"RS256"}, MaxAge: DefaultPersonMaxAge,
			GroupsClaim: "groups", GroupsLimit: 100,
		},
	}
}

// consumers is the tenant of personal Microsoft accounts.
const consumers = "9188040d-6c67-4c5b-b112-36a304b66dad"

// entra is for https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference. sub
// differs between applications, so oid and tid say who somebody is. Above 200 groups the token has a
// reference in their place, which makes them unknown.
func entra() preset {
	return preset{
		name: "entra", keys: []string{"tenant"},
		provider: Provider{
			Name: "entra", Kind: cred.KindPerson, Algorithms: []string{"RS256"}, MaxAge: DefaultPersonMaxAge,
			GroupsClaim: "groups", Immutable: []Path{{"tid"}, {"oid"}},
		},
		issuer: func(at Place) (string, []Problem) {
			if slices.Contains([]string{"common", "organizations", "consumers", consumers}, at.Tenant) {
				return "", []Problem{{"tenant", "stands for accounts of any directory, so its tokens may be anybody's", "set the UUID of your own directory"}}
			}
			return uuidIn("tenant", at.Tenant, "https://login.microsoftonline.com/", "/v2.0")
		},
		shared: entraShared(),
	}
}

// entraShared lists the issuers of accounts of any directory.
func entraShared() []string {
	var all []string
	for _, tenant := range []string{"common", "organizations", "consumers", consumers} {
		all = append(all, "https://login.microsoftonline.com/"+tenant+"/v2.0")
	}
	return all
}
