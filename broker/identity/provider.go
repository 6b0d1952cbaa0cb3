package identity

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// What a Provider's zero fields mean.
const (
	DefaultSkew           = 30 * time.Second
	DefaultWorkloadMaxAge = 10 * time.Minute
	DefaultPersonMaxAge   = time.Hour
)

// MaxSkew is the widest tolerance that still means clocks, not lifetimes.
const MaxSkew = 5 * time.Minute

// Provider is a source of ID tokens as the configuration describes it. Name, Audiences, and Issuer
// or TrustDomain are required.
type Provider struct {
	Name   string // what policies and the log call it
	Issuer string // the token's iss, byte for byte, and where discovery starts

	// TrustDomain makes this a source of JWT-SVIDs: sub must be a SPIFFE ID in the domain, iss and
	// iat may be absent, and principals bear spiffe://TRUSTDOMAIN as their issuer. Where Issuer is
	// set too, an iss that is there must be it.
	TrustDomain string

	// JWKSURL is where the keys are: a JWK set, or the SPIFFE bundle of TrustDomain. Empty means
	// that the discovery document of Issuer names it.
	JWKSURL string

	// Audiences are the aud values that mean us. A token with one audience must have one of them; a
	// token with several must have nothing but them, for else it is also good elsewhere.
	Audiences []string

	// RefuseAudiences are audiences of tokens that are meant for somebody else, so that Audiences may
	// not hold them; * stands for any characters.
	RefuseAudiences []string

	// Algorithms are the JWS algorithms to accept; empty means every asymmetric one of RFC 7518
	// section 3.1 and EdDSA of RFC 8037. HMAC and "none" are never accepted.
	Algorithms []string

	// MaxAge is the greatest age of a token, counted from its iat. Zero means DefaultWorkloadMaxAge
	// or DefaultPersonMaxAge. It bounds tokens whose exp is far away: GitHub's has been seen six
	// hours ahead.
	MaxAge time.Duration

	// EndClaim is a time after which a token does not count, whatever its exp says; a token may lack
	// it.
	EndClaim Path

	// Skew is how far clocks may differ, for exp, nbf, iat and MaxAge; zero means DefaultSkew.
	Skew time.Duration

	Kind cred.PrincipalKind // KindWorkload, KindPerson or KindAgent; empty means KindPerson

	// GroupsClaim names the top-level claim that lists groups; empty means that groups are unknown.
	GroupsClaim string

	// GroupsLimit is the length at which the issuer cuts the list of groups off without a word. A
	// list that is so long tells of no group for sure, and makes groups unknown. Zero means that the
	// issuer does no such thing.
	GroupsLimit int

	// NameClaim names the top-level claim to show to people; empty means name, email or
	// preferred_username for a person and sub for a workload.
	NameClaim string

	// RefuseClaims lists claim values with which a genuine token is refused all the same. A list
	// claim is refused if any of its elements is listed; a claim that is absent is not refused.
	RefuseClaims map[string][]string

	// CautionClaims lists claim values that make a genuine identity doubtful: the principal carries
	// them as Cautions, and only a rule that names the value may allow anything. Such a claim may
	// be absent, and must be a plain value where it is not.
	CautionClaims map[string][]string

	// Immutable names the claims that keep their value for as long as a caller is the same one,
	// where its subject can come to mean another. SameCaller compares them.
	Immutable []Path

	// OneTime says that a token counts once, by its jti, which every token must then have.
	OneTime bool

	// Client makes the requests to the issuer; nil means one of our own, with CAFile as its only
	// roots if that is set (a PEM file). Redirects are never followed.
	Client *http.Client
	CAFile string

	// AllowPlain permits http for an issuer on a loopback address, for development.
	AllowPlain bool
}

// withDefaults returns the provider with its zero fields filled in, sharing nothing that the caller
// could change.
func (p Provider) withDefaults() Provider {
	if p.Kind == "" {
		p.Kind = cred.KindPerson
	}
	if p.MaxAge == 0 {
		p.MaxAge = DefaultPersonMaxAge
		if p.Kind == cred.KindWorkload {
			p.MaxAge = DefaultWorkloadMaxAge
		}
	}
	if p.Skew == 0 {
		p.Skew = DefaultSkew
	}
	p.Audiences = slices.Clone(p.Audiences)
	p.EndClaim = slices.Clone(p.EndClaim)
	p.Algorithms = slices.Clone(p.Algorithms)
	if len(p.Algorithms) == 0 {
		p.Algorithms = slices.Clone(asymmetric)
	}
	p.RefuseClaims = cloneLists(p.RefuseClaims)
	p.CautionClaims = cloneLists(p.CautionClaims)
	p.Immutable = slices.Clone(p.Immutable)
	for i, path := range p.Immutable {
		p.Immutable[i] = slices.Clone(path)
	}
	return p
}

func cloneLists(lists map[string][]string) map[string][]string {
	out := make(map[string][]string, len(lists))
	for claim, values := range lists {
		out[claim] = slices.Clone(values)
	}
	return out
}

// urlProblem says what is wrong with a URL that keys may come from, or nothing: it must be https, or
// http on a loopback address where plain is allowed, with a host and without user information.
func urlProblem(raw string, plain bool) string {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return "is missing"
	case err != nil || u.Hostname() == "" || u.User != nil || u.Opaque != "":
		return "must be a URL with a host and without user information"
	case u.Scheme == "https" || u.Scheme == "http" && plain && isLoopback(u.Hostname()):
		return ""
	}
	return "must be https; http needs allow_plain and a loopback address"
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
