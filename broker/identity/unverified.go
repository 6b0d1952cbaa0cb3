package identity

import "github.com/daypass-io/daypass/cred"

// Unverified returns the principal that claims would make if a token with them were genuine, for
// tools that show what a rule set says. Nothing is verified: no signature, no audience, no time. The
// errors are those of Verify about the claims themselves: MISSING_CLAIM, CLAIM_INVALID, EVENT_REFUSED.
func (p Provider) Unverified(claims map[string]any) (cred.Principal, error) {
	p = p.withDefaults()
	if err := p.checkSubject(claims); err != nil {
		return cred.Principal{}, err
	}
	if err := p.checkRefused(claims); err != nil {
		return cred.Principal{}, err
	}
	return p.principal(claims)
}
