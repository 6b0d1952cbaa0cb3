package cred

import "strings"

// SamePerson reports whether two principals are the same human: the same identity, or two whose
// issuers have verified the same e-mail address. An address that was not verified says nothing here,
// else an approver could take a colleague's voice by writing the colleague's address into a profile.
func (p Principal) SamePerson(q Principal) bool {
	return p.sameIdentity(q) || sameMail(p.verifiedMail(), q.verifiedMail())
}

// Involves reports whether a person is, or may be, the principal or one who acts for it. Here an
// address counts also where nobody verified it: who shows a false one only makes their own request
// harder to approve.
func (p Principal) Involves(q Principal) bool {
	return p.sameIdentity(q) || sameMail(p.mail(), q.mail()) || p.Actor != nil && p.Actor.Involves(q)
}

// isPerson reports whether it is a person who speaks for themselves.
func (p Principal) isPerson() bool {
	return p.Kind == KindPerson && p.Subject != "" && p.Actor == nil
}

func (p Principal) sameIdentity(q Principal) bool {
	return p.Issuer == q.Issuer && p.Subject == q.Subject
}

func (p Principal) mail() string {
	mail, _ := p.Claims["email"].(string)
	return strings.TrimSpace(mail)
}

// verifiedMail returns the address that the issuer has verified (OpenID Connect Core 1.0, section
// 5.1). Some issuers write the boolean as a string.
func (p Principal) verifiedMail() string {
	text, _ := p.Claims["email_verified"].(string)
	if p.Claims["email_verified"] == true || strings.EqualFold(text, "true") {
		return p.mail()
	}
	return ""
}

func sameMail(a, b string) bool { return a != "" && strings.EqualFold(a, b) }
