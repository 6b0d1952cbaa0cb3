package identity

import (
	"github.com/daypass-io/daypass/cred"
)

// maxNameBytes bounds the name that people see.
const maxNameBytes = 256

// principal makes the identity of claims that have been verified.
func (p *Provider) principal(claims map[string]any) (cred.Principal, error) {
	groups, err := p.groups(claims)
	if err != nil {
		return cred.Principal{}, err
	}
	cautions, err := p.cautions(claims)
	if err != nil {
		return cred.Principal{}, err
	}
	subject := claims["sub"].(string) // checkClaims required it
	return cred.Principal{
		Provider: p.Name, Issuer: p.PrincipalIssuer(), Subject: subject, Kind: p.Kind,
		Name: p.displayName(claims, subject), Groups: groups, Claims: claims,
		Cautions: cautions,
	}, nil
}

// groups reads the groups claim. Nil means unknown; an empty list means that the issuer says there
// are none. Entra ID replaces a list that is too long by a reference in _claim_names (a distributed
// claim, OpenID Connect Core section 5.6.2); that makes groups unknown, and the reference is never
// followed, because it is an address out of a token. A list that may have been cut off makes groups
// unknown too.
func (p *Provider) groups(claims map[string]any) ([]string, error) {
	value := claims[p.GroupsClaim]
	if p.GroupsClaim == "" || value == nil || elsewhere(claims, p.GroupsClaim) {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, malformed(p.GroupsClaim, "a list of strings, as this provider's groups are read from it")
	}
	if p.GroupsLimit > 0 && len(list) >= p.GroupsLimit {
		return nil, nil
	}
	groups := make([]string, len(list))
	for i, one := range list {
		if groups[i], ok = one.(string); !ok {
			return nil, malformed(p.GroupsClaim, "a list of strings, as this provider's groups are read from it")
		}
	}
	return groups, nil
}

// elsewhere reports whether a claim is said to stand somewhere else. A _claim_names that can't be
// read says so of every claim.
func elsewhere(claims map[string]any, claim string) bool {
	value, present := claims["_claim_names"]
	if !present {
		return false
	}
	names, ok := value.(map[string]any)
	_, named := names[claim]
	return named || !ok
}

// displayName returns what people are shown. It decides nothing, but it must not deceive: an
// address that the issuer calls unverified is not shown, nor is text that hides what it says.
func (p *Provider) displayName(claims map[string]any, subject string) string {
	candidates := []string{p.NameClaim}
	switch {
	case p.NameClaim != "":
	case p.Kind == cred.KindPerson:
		candidates = []string{"name", "email", "preferred_username"}
	default:
		return subject
	}
	for _, claim := range candidates {
		if claim == "email" && unverified(claims["email_verified"]) {
			continue
		}
		if s, ok := claims[claim].(string); ok && s != "" && len(s) <= maxNameBytes && printable(s) {
			return s
		}
	}
	return subject
}

// unverified reports whether email_verified says no; some issuers send it as a string.
func unverified(value any) bool { return value == false || value == "false" }
