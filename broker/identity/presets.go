package identity

import (
	"time"

	"github.com/daypass-io/daypass/cred"
)

// generic is the preset of all issuers that have none.
const generic = "generic"

// preset is what daypass knows of a kind of issuer.
type preset struct {
	name     string
	keys     []string // of Place, besides issuer
	needs    string   // one of keys that must be set; empty: none
	provider Provider

	// issuer returns the issuer at a place that does not name it outright; nil where the provider's
	// own is the only one, or where it must be named.
	issuer func(at Place) (string, []Problem)

	// shared lists issuers that stand for every customer of a service where there are narrower ones.
	shared []string
}

// presets returns all presets. Maximum ages follow from how a caller gets its token: ten minutes
// where it can ask for a new one at any time, an hour where it gets one token when it starts.
func presets() []preset {
	return []preset{
		githubActions(), gitlab(), buildkite(), circleci(), kubernetes(), bitbucket(), azureDevOps(), awsWorkload(), spiffe(),
		google(), okta(), entra(),
		{name: generic, keys: []string{"jwks_url"}},
	}
}

// kubernetes is for projected service account tokens
// (https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/). The API
// server gives its own audience's tokens a year, and says in warnafter when they were meant to end.
func kubernetes() preset {
	return preset{
		name: "kubernetes", keys: []string{"jwks_url"},
		provider: Provider{
			Name: "kubernetes", Kind: cred.KindWorkload, Algorithms: []string{"RS256", "ES256"}, MaxAge: time.Hour,
			RefuseAudiences: []string{"https://kubernetes.default", "https://kubernetes.default.*", "kubernetes.default", "kubernetes.default.*", "kubernetes", "api", "k3s", "rke2"},
			EndClaim:        Path{"kubernetes.io", "warnafter"},
			Immutable:       []Path{{"kubernetes.io", "namespace"}, {"kubernetes.io", "serviceaccount", "uid"}},
		},
	}
}

// awsWorkload is for tokens of sts:GetWebIdentityToken, whose issuer is the account's own
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html).
func awsWorkload() preset {
	return preset{
		name: "aws-workload",
		provider: Provider{
			Name: "aws-workload", Kind: cred.KindWorkload, Algorithms: []string{"RS256", "ES384"}, MaxAge: DefaultWorkloadMaxAge,
			Immutable: []Path{{"https://sts.amazonaws.com/", "aws_account"}},
		},
	}
}

// spiffe is for JWT-SVIDs (https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md), with the
// algorithms of its section 2.1.
func spiffe() preset {
	return preset{
		name: "spiffe", keys: []string{"trust_domain", "jwks_url"}, needs: "trust_domain",
		provider: Provider{
			Name: "spiffe", Kind: cred.KindWorkload, MaxAge: time.Hour,
			Algorithms: []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"},
		},
		issuer: func(_ Place) (string, []Problem) {
			return "", nil // a jwks_url does as well
		},
	}
}
