package cred

import (
	"maps"
	"slices"
	"strconv"
)

// PrincipalKind says what sort of caller a principal is.
type PrincipalKind string

// The kinds of principal.
const (
	KindWorkload PrincipalKind = "workload" // a CI job or a service
	KindPerson   PrincipalKind = "person"   // somebody who signed in
	KindAgent    PrincipalKind = "agent"    // a program that acts for a person, see Actor
	KindProxy    PrincipalKind = "proxy"    // a companion proxy, known by its client certificate
)

// Principal is an identity that has been verified. Issuer and Subject together identify it; Name is
// for people to read and decides nothing.
type Principal struct {
	Provider string         `json:"provider"` // the configured identity provider's name
	Issuer   string         `json:"issuer"`   // the token's iss
	Subject  string         `json:"subject"`  // the token's sub
	Name     string         `json:"name,omitempty"`
	Kind     PrincipalKind  `json:"kind,omitempty"`
	Groups   []string       `json:"groups,omitzero"`  // nil: unknown, which is not none
	Claims   map[string]any `json:"claims,omitempty"` // JSON values: string, float64, bool, nil, []any, map[string]any
	Actor    *Principal     `json:"actor,omitempty"`  // who acts for this principal (RFC 8693, section 4.1)

	// Cautions are claims with a value that makes the identity doubtful, such as GitHub's event_name
	// pull_request_target: only a rule that names the value may allow anything.
	Cautions map[string]string `json:"cautions,omitempty"`
}

// Same reports whether two principals are the same identity, whatever else their tokens say.
func (p Principal) Same(q Principal) bool {
	return p.Issuer == q.Issuer && p.Subject == q.Subject && p.Provider == q.Provider
}

// Clone returns a copy whose maps and slices the caller may change at their top level.
func (p Principal) Clone() Principal {
	p.Groups = slices.Clone(p.Groups)
	p.Claims = maps.Clone(p.Claims)
	p.Cautions = maps.Clone(p.Cautions)
	if p.Actor != nil {
		a := p.Actor.Clone()
		p.Actor = &a
	}
	return p
}

// principal writes what encoding/json makes of a Principal.
func (w *jsonWriter) principal(name string, p Principal) {
	w.b = append(w.b, name...)
	w.text(`{"provider":`, p.Provider)
	w.text(`,"issuer":`, p.Issuer)
	w.text(`,"subject":`, p.Subject)
	w.textIf(`,"name":`, p.Name)
	w.textIf(`,"kind":`, string(p.Kind))
	if p.Groups != nil {
		w.texts(`,"groups":`, p.Groups)
	}
	if len(p.Claims) > 0 {
		w.b = append(w.b, `,"claims":`...)
		w.any(p.Claims)
	}
	if p.Actor != nil {
		w.principal(`,"actor":`, *p.Actor)
	}
	w.textMapIf(`,"cautions":`, p.Cautions)
	w.b = append(w.b, '}')
}

// ClaimText returns a claim's value as configuration spells it; lists and objects have no such form.
// What is absent and what is null read the same here: ask for its presence where that counts.
func ClaimText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case nil:
		return "null", true
	}
	return "", false
}
