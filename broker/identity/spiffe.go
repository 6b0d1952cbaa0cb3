package identity

import (
	"strings"
)

// Bounds of a SPIFFE ID, in bytes (SPIFFE-ID, sections 2.1 and 2.3).
const (
	maxSPIFFEBytes      = 2048
	maxTrustDomainBytes = 255
)

const spiffeScheme = "spiffe://"

// spiffeID is a workload's SPIFFE ID.
type spiffeID struct {
	trustDomain string
	path        string // begins with a slash
}

// issuer is what principals of the ID's trust domain bear as their issuer.
func (id spiffeID) issuer() string { return spiffeScheme + id.trustDomain }

// parseSPIFFE reads the SPIFFE ID of a workload, in the one spelling that SPIFFE-ID section 2 has for
// it: a trust domain in lower case, and a path of segments of letters, digits, dots, dashes and
// underscores, none of them empty, "." or "..". An ID without a path is a trust domain's own, and
// never a workload's.
func parseSPIFFE(s string) (spiffeID, bool) {
	rest, found := strings.CutPrefix(s, spiffeScheme)
	domain, path, hasPath := strings.Cut(rest, "/")
	if !found || !hasPath || len(s) > maxSPIFFEBytes || !validTrustDomain(domain) {
		return spiffeID{}, false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.ContainsFunc(segment, notInSegment) {
			return spiffeID{}, false
		}
	}
	return spiffeID{domain, "/" + path}, true
}

func notInSegment(r rune) bool { return notInDomain(r) && (r < 'A' || r > 'Z') }

func notInDomain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
}

func validTrustDomain(s string) bool {
	return s != "" && len(s) <= maxTrustDomainBytes && !strings.ContainsFunc(s, notInDomain)
}

// spiffeSubject returns the SPIFFE ID in a token's sub, where that is one.
func spiffeSubject(claims map[string]any) (spiffeID, bool) {
	sub, _ := claims["sub"].(string)
	return parseSPIFFE(sub)
}

// checkSubject requires a sub: of a JWT-SVID a SPIFFE ID in the provider's trust domain, of all others
// a text that can be shown.
func (p *Provider) checkSubject(claims map[string]any) error {
	if p.TrustDomain == "" {
		_, err := requiredString(claims, "sub", maxSubjectBytes)
		return err
	}
	if _, err := requiredString(claims, "sub", maxSPIFFEBytes); err != nil {
		return err
	}
	id, ok := spiffeSubject(claims)
	if !ok {
		return malformed("sub", "the SPIFFE ID of a workload, such as spiffe://"+p.TrustDomain+"/workload")
	}
	if id.trustDomain != p.TrustDomain {
		return refuse("WRONG_TRUST_DOMAIN", "sub", "the ID token is of the SPIFFE trust domain %q, and provider %q speaks for %q alone", id.trustDomain, p.Name, p.TrustDomain)
	}
	return nil
}

// PrincipalIssuer is what the provider's principals bear as their issuer: the token's iss, and for
// JWT-SVIDs, which may lack one, the trust domain's URI.
func (p Provider) PrincipalIssuer() string {
	if p.TrustDomain != "" {
		return spiffeID{trustDomain: p.TrustDomain}.issuer()
	}
	return p.Issuer
}

// IssuerNames are all iss by which tokens of the provider are found; no two providers may share one.
func (p Provider) IssuerNames() []string {
	if p.TrustDomain != "" && p.Issuer != "" {
		return []string{p.PrincipalIssuer(), p.Issuer}
	}
	return []string{p.PrincipalIssuer()}
}
