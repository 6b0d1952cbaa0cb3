package cred_test

import (
	"testing"

	"github.com/daypass-io/daypass/cred"
)

func mailed(provider, subject string, mail, verified any) cred.Principal {
	return cred.Principal{
		Provider: provider, Issuer: "https://" + provider + ".example.com", Subject: subject, Kind: cred.KindPerson,
		Claims: map[string]any{"email": mail, "email_verified": verified},
	}
}

// Whom two identities belong to is known for certain by verified addresses alone. For a request of
// one's own any address counts.
func TestOneHumanWithTwoIdentities(t *testing.T) {
	const mail = "ada@example.com"
	known := mailed("okta", "1", mail, true)
	for name, test := range map[string]struct {
		other     cred.Principal
		same, own bool
	}{
		"the same":                     {known, true, true},
		"without claims":               {cred.Principal{Issuer: known.Issuer, Subject: "1", Kind: cred.KindPerson}, true, true},
		"under another provider":       {cred.Principal{Provider: "okta-eu", Issuer: known.Issuer, Subject: "1", Kind: cred.KindPerson}, true, true},
		"another subject":              {cred.Principal{Issuer: known.Issuer, Subject: "2", Kind: cred.KindPerson}, false, false},
		"another issuer":               {cred.Principal{Issuer: "https://x.example.com", Subject: "1", Kind: cred.KindPerson}, false, false},
		"verified address":             {mailed("google", "g", mail, true), true, true},
		"in another case, with spaces": {mailed("google", "g", " ADA@Example.com ", true), true, true},
		"verified as a string":         {mailed("google", "g", mail, "True"), true, true},
		"another address":              {mailed("google", "g", "ida@example.com", true), false, false},
		"an address that begins so":    {mailed("google", "g", mail+".org", true), false, false},
		"not verified":                 {mailed("google", "g", mail, false), false, true},
		"not verified, as a string":    {mailed("google", "g", mail, "false"), false, true},
		"verified as a number":         {mailed("google", "g", mail, 1.0), false, true},
		"verified unknown":             {mailed("google", "g", mail, nil), false, true},
		"a list of addresses":          {mailed("google", "g", []any{mail}, true), false, false},
		"no address":                   {mailed("google", "g", "", true), false, false},
		"spaces for an address":        {mailed("google", "g", "  ", true), false, false},
	} {
		if known.SamePerson(test.other) != test.same || test.other.SamePerson(known) != test.same {
			t.Errorf("%s: the same person: %v", name, !test.same)
		}
		for _, pair := range [][2]cred.Principal{{known, test.other}, {test.other, known}} {
			g := cred.NewRequest("gr_1", pair[0], cred.Request{Target: "t"}, oneLead(), hour, instant)
			_, err := g.Judge(approve(g, pair[1], "leads"), instant)
			if own := reasonOf(err) == "OWN_REQUEST"; own != test.own || !own && err != nil {
				t.Errorf("%s: a request of one's own: %v, %v", name, own, err)
			}
		}
	}
	nobody := mailed("google", "g", "", true)
	if nobody.SamePerson(mailed("okta", "2", "", true)) || nobody.SamePerson(cred.Principal{}) {
		t.Error("two without an address are the same person")
	}
}
