package identity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
)

// Problem is something that is wrong with a provider's settings.
type Problem struct {
	Key     string // of the configuration file's identity_providers, e.g. "issuer"; empty: of no one key
	Message string // goes on after the key, e.g. "must be an https URL"
	Hint    string // what to do; may be empty
}

// String returns the problem as one sentence.
func (p Problem) String() string {
	s := strings.TrimSpace(p.Key + " " + p.Message)
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Problems returns all that is wrong with the provider's settings.
func (p Provider) Problems() []Problem {
	var all []Problem
	add := func(key, format string, args ...any) {
		all = append(all, Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if p.Name == "" {
		add("name", "is missing")
	}
	all = append(all, p.sourceProblems()...)
	all = append(all, p.audienceProblems()...)
	for _, alg := range p.Algorithms {
		if !slices.Contains(asymmetric, alg) {
			add("algorithms", "has %q; possible are %s", alg, strings.Join(asymmetric, ", "))
		}
	}
	if !slices.Contains([]cred.PrincipalKind{"", cred.KindWorkload, cred.KindPerson, cred.KindAgent}, p.Kind) {
		add("kind", "is %q; possible are workload, person and agent", p.Kind)
	}
	if p.MaxAge < 0 {
		add("max_age", "is negative")
	}
	if p.Skew < 0 || p.Skew > MaxSkew {
		add("skew", "must be between 0 and %s", MaxSkew)
	}
	if p.Client != nil && p.CAFile != "" {
		add("ca_file", "can't be used together with a client that is already made")
	}
	return all
}

// sourceProblems returns what is wrong with where tokens and keys come from.
func (p Provider) sourceProblems() []Problem {
	var all []Problem
	if p.Issuer != "" || p.TrustDomain == "" {
		if message := urlProblem(p.Issuer, p.AllowPlain); message != "" {
			all = append(all, Problem{Key: "issuer", Message: message})
		} else if strings.ContainsAny(p.Issuer, "?#") {
			all = append(all, Problem{Key: "issuer", Message: "must have no query and no fragment, which OpenID Connect Discovery does not allow"})
		}
	}
	if p.JWKSURL != "" {
		if message := urlProblem(p.JWKSURL, p.AllowPlain); message != "" {
			all = append(all, Problem{Key: "jwks_url", Message: message})
		}
	}
	if p.TrustDomain == "" {
		return all
	}
	if !validTrustDomain(p.TrustDomain) {
		all = append(all, Problem{Key: "trust_domain", Message: "must be a name of lower-case letters, digits, dots, dashes and underscores, at most 255", Hint: "such as example.org"})
	}
	if p.Issuer == "" && p.JWKSURL == "" {
		all = append(all, Problem{Message: "must have an issuer or a jwks_url, to know the trust domain's keys by"})
	}
	return all
}

// audienceProblems refuses audiences that are not ours alone. One that is the issuer itself means a
// token for the issuer's own API.
func (p Provider) audienceProblems() []Problem {
	if len(p.Audiences) == 0 || slices.Contains(p.Audiences, "") {
		return []Problem{{Key: "audiences", Message: "must list at least one value, and none that is empty"}}
	}
	var all []Problem
	for _, aud := range p.Audiences {
		foreign := aud == p.Issuer || slices.ContainsFunc(p.RefuseAudiences, func(pattern string) bool { return glob.Pattern(pattern).Match(aud) })
		if foreign {
			all = append(all, Problem{
				Key: "audiences", Message: fmt.Sprintf("has %q, which tokens have that are meant for the issuer's own API and not for this broker", aud),
				Hint: "request tokens for an audience of the broker's own, such as its URL",
			})
		}
	}
	return all
}
