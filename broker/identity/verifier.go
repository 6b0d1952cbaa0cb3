package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/jws"
)

// maxTokenBytes bounds an ID token, and with it the claims that a Principal carries.
const maxTokenBytes = 16 << 10

// Verifier verifies the ID tokens of a fixed set of providers. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*source // by the token's iss, and a trust domain also by its URI
	now     func() time.Time
}

// source is a provider with the keys of its issuer.
type source struct {
	Provider
	keys keySource
}

// New returns a verifier for the providers. It makes no request: each issuer is discovered when its
// first token comes. The error is a *cred.Error of Kind Invalid that names every setting that is
// wrong. Each issuer and each name may occur once.
func New(providers []Provider, now func() time.Time) (*Verifier, error) {
	v := &Verifier{issuers: make(map[string]*source, len(providers)), now: now}
	names := make(map[string]bool, len(providers))
	var problems []string
	for i, p := range providers {
		at := fmt.Sprintf("identity provider %d (%q): ", i+1, p.Name)
		for _, problem := range p.Problems() {
			problems = append(problems, at+problem.String())
		}
		if names[p.Name] {
			problems = append(problems, at+"the name is configured twice")
		}
		names[p.Name] = true
		p = p.withDefaults()
		client, err := issuerClient(p)
		if err != nil {
			problems = append(problems, at+err.Error())
		}
		src := &source{Provider: p, keys: newKeySource(p, client, now)}
		for _, name := range p.IssuerNames() {
			if _, taken := v.issuers[name]; taken {
				problems = append(problems, at+fmt.Sprintf("the issuer %q is configured twice", name))
			}
			v.issuers[name] = src
		}
	}
	if len(problems) > 0 {
		return nil, &cred.Error{Kind: cred.Invalid, Op: "identity.new", Reason: "PROVIDER_INVALID", Public: strings.Join(problems, "; ")}
	}
	return v, nil
}

// Verify returns what an ID token proves. The error is a *cred.Error: Unauthenticated
// with a Reason and, where one claim is at fault, that Claim; Unavailable when the issuer's keys
// can't be had, so that nothing is known about the token.
//
// The claims are checked before the signature, since all must hold and a forged or stale token is
// then refused without a request to its issuer.
func (v *Verifier) Verify(ctx context.Context, idToken string) (Verified, error) {
	token, err := jws.Parse(idToken, maxTokenBytes)
	if err != nil {
		return Verified{}, err
	}
	src, err := v.lookUp(token)
	if err != nil {
		return Verified{}, err
	}
	if err := src.checkHeader(token.Header); err != nil {
		return Verified{}, err
	}
	life, err := src.checkClaims(token.Claims, v.now())
	if err != nil {
		return Verified{}, err
	}
	if err := src.checkSignature(ctx, token); err != nil {
		return Verified{}, err
	}
	return src.verified(token.Claims, life)
}

// lookUp finds the provider that a token says it is from. A JWT-SVID may have no iss, or one that
// means nothing to us; its sub then names the trust domain whose keys must have signed it.
func (v *Verifier) lookUp(token jws.Parsed) (*source, error) {
	id, isSVID := spiffeSubject(token.Claims)
	if _, present := token.Claims["iss"]; !present && isSVID {
		if src := v.issuers[id.issuer()]; src != nil {
			return src, nil
		}
		return nil, refuse("UNKNOWN_TRUST_DOMAIN", "sub", "the ID token is of the SPIFFE trust domain %q, which is not configured here", id.trustDomain)
	}
	iss, err := requiredString(token.Claims, "iss", maxIssuerBytes)
	if err != nil {
		return nil, err
	}
	if src, ok := v.issuers[iss]; ok {
		return src, nil
	}
	if src := v.issuers[id.issuer()]; isSVID && src != nil && src.Issuer == "" {
		return src, nil
	}
	return nil, refuse("UNKNOWN_ISSUER", "iss", "the ID token's issuer is %s, which is not configured here%s", shown(iss), v.almost(iss))
}

// almost returns a hint where an issuer differs from a configured one only as eyes overlook it.
func (v *Verifier) almost(iss string) string {
	for known := range v.issuers {
		if strings.EqualFold(strings.TrimRight(known, "/"), strings.TrimRight(iss, "/")) {
			return fmt.Sprintf("; %q is, and the two must be equal to the last character", known)
		}
	}
	return ""
}

// checkHeader refuses tokens of another kind than ID tokens, which the same issuer may well have
// signed (RFC 8725, section 3.11), and algorithms that the provider does not allow. A JWT-SVID may
// be of type JOSE (JWT-SVID, section 2.3).
func (p *Provider) checkHeader(h jws.Header) error {
	if h.Typ != "" && h.Typ != "JWT" && !(h.Typ == "JOSE" && p.TrustDomain != "") {
		return refuse("WRONG_TYPE", "typ", "the token's type is %s, so it is no ID token; send the ID token itself", shown(h.Typ))
	}
	if !slices.Contains(p.Algorithms, h.Alg) {
		return refuse("TOKEN_ALGORITHM", "alg", "the ID token is signed with %s; provider %q allows %s", shown(h.Alg), p.Name, strings.Join(p.Algorithms, ", "))
	}
	return nil
}
