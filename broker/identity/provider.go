package identity

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// What a Provider's zero fields mean.
const (
	DefaultSkew           = 30 * time.Second
	DefaultWorkloadMaxAge = 10 * time.Minute
	DefaultPersonMaxAge   = time.Hour
)

// maxSkew is the widest tolerance that still means clocks, not lifetimes.
const maxSkew = 5 * time.Minute

// Provider is a source of ID tokens as the configuration describes it. Name, Issuer and Audiences
// are required.
type Provider struct {
	Name   string // what policies and the log call it
	Issuer string // the token's iss, byte for byte, and where discovery starts

	// Audiences are the aud values that mean us. A token with one audience must have one of them; a
	// token with several must have nothing but them, for else it is also good elsewhere.
	Audiences []string

	// Algorithms are the JWS algorithms to accept; empty means every asymmetric one of RFC 7518
	// section 3.1 and EdDSA of RFC 8037. HMAC and "none" are never accepted.
	Algorithms []string

	// MaxAge is the greatest age of a token, counted from its iat. Zero means DefaultWorkloadMaxAge
	// or DefaultPersonMaxAge. It bounds tokens whose exp is far away: GitHub's has been seen six
	// hours ahead.
	MaxAge time.Duration

	// Skew is how far clocks may differ, for exp, nbf, iat and MaxAge; zero means DefaultSkew.
	Skew time.Duration

	Kind cred.PrincipalKind // KindWorkload or KindPerson; empty means KindPerson

	// GroupsClaim names the top-level claim that lists groups; empty means that groups are unknown.
	GroupsClaim string

	// NameClaim names the top-level claim to show to people; empty means name, email or
	// preferred_username for a person and sub for a workload.
	NameClaim string

	// RefuseClaims lists claim values with which a genuine token is refused all the same. A list
	// claim is refused if any of its elements is listed; a claim that is absent is not refused.
	RefuseClaims map[string][]string

	// Client makes the requests to the issuer; nil means one of our own, with CAFile as its only
	// roots if that is set (a PEM file). Redirects are never followed.
	Client *http.Client
	CAFile string

	// AllowPlain permits http for an issuer on a loopback address, for development.
	AllowPlain bool
}

// Preset returns what daypass knows of a well-known issuer, to be completed with audiences, and
// whether it knows the name.
func Preset(name string) (Provider, bool) {
	switch name {
	case "github-actions":
		// https://docs.github.com/en/actions/reference/security/oidc. The two events run with the
		// base repository's identity while they may execute a fork's code.
		return Provider{
			Name: name, Issuer: "https://token.actions.githubusercontent.com",
			Kind: cred.KindWorkload, Algorithms: []string{"RS256"}, MaxAge: DefaultWorkloadMaxAge,
			RefuseClaims: map[string][]string{"event_name": {"pull_request_target", "workflow_run"}},
		}, true
	case "gitlab":
		// https://docs.gitlab.com/ci/secrets/id_token_authentication/. A job's token is minted when
		// the job starts and cannot be fetched again, so it may be as old as a job gets by default.
		return Provider{
			Name: name, Issuer: "https://gitlab.com",
			Kind: cred.KindWorkload, Algorithms: []string{"RS256"}, MaxAge: time.Hour,
		}, true
	}
	return Provider{}, false
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
	p.Algorithms = slices.Clone(p.Algorithms)
	if len(p.Algorithms) == 0 {
		p.Algorithms = slices.Clone(asymmetric)
	}
	refuse := make(map[string][]string, len(p.RefuseClaims))
	for claim, values := range p.RefuseClaims {
		refuse[claim] = slices.Clone(values)
	}
	p.RefuseClaims = refuse
	return p
}

// problems returns what is wrong with the provider's settings, each as a sentence that starts with
// the setting's name in the configuration file.
func (p Provider) problems() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if p.Name == "" {
		add("name is missing")
	}
	if err := checkURL(p.Issuer, p.AllowPlain); err != nil {
		add("issuer %s", err)
	} else if strings.ContainsAny(p.Issuer, "?#") {
		add("issuer %q has a query or a fragment, which OpenID Connect Discovery does not allow", p.Issuer)
	}
	if len(p.Audiences) == 0 || slices.Contains(p.Audiences, "") {
		add("audiences must list at least one value, and none that is empty")
	}
	for _, alg := range p.Algorithms {
		if !slices.Contains(asymmetric, alg) {
			add("algorithms has %q; possible are %s", alg, strings.Join(asymmetric, ", "))
		}
	}
	if p.Kind != "" && p.Kind != cred.KindWorkload && p.Kind != cred.KindPerson {
		add("kind is %q; possible are workload and person", p.Kind)
	}
	if p.MaxAge < 0 {
		add("max_age is negative")
	}
	if p.Skew < 0 || p.Skew > maxSkew {
		add("skew must be between 0 and %s", maxSkew)
	}
	if p.Client != nil && p.CAFile != "" {
		add("ca_file can't be used together with a client that is already made")
	}
	return all
}

// checkURL returns nil if a URL is one that keys may come from: https, or http on a loopback
// address where plain is allowed; with a host, without user information.
func checkURL(raw string, plain bool) error {
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("%q is not a URL", raw)
	}
	if u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return fmt.Errorf("%q must have a host and no user information", raw)
	}
	if u.Scheme == "https" || u.Scheme == "http" && plain && isLoopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%q must be an https URL; http is for loopback addresses in development alone", raw)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
