package token

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// wireClaims is the JSON of a grant token. It is read case-sensitively. Members that are not here
// are ignored (RFC 7519, section 4); inside act, cnf and daypass, where one that is missed could
// widen what the token allows, they are refused.
type wireClaims struct {
	Issuer       string         `json:"iss"`
	Subject      string         `json:"sub"`
	Audience     jsontext.Value `json:"aud"`
	ClientID     string         `json:"client_id"`
	IssuedAt     *int64         `json:"iat"`
	NotBefore    *int64         `json:"nbf"`
	ExpiresAt    *int64         `json:"exp"`
	ID           string         `json:"jti"`
	Scope        string         `json:"scope,omitzero"`
	Actor        jsontext.Value `json:"act,omitzero"`
	Confirmation jsontext.Value `json:"cnf,omitzero"`
	Grant        jsontext.Value `json:"daypass"`
}

// lastSecond is the end of the year 9999, up to which a time can be written in RFC 3339.
const lastSecond = 253402300799

func writeClaims(c Claims) ([]byte, error) {
	if len(c.Audience) != 1 {
		return nil, errors.New("a grant token has exactly one audience")
	}
	w := wireClaims{
		Issuer: c.Issuer, Subject: c.Subject, ClientID: c.ClientID, ID: c.ID,
		IssuedAt: seconds(c.IssuedAt), NotBefore: seconds(c.NotBefore), ExpiresAt: seconds(c.ExpiresAt),
		Scope: strings.Join(c.Scopes, " "),
	}
	var errs [4]error
	w.Audience, errs[0] = json.Marshal(c.Audience[0])
	w.Grant, errs[1] = json.Marshal(c.Grant, json.Deterministic(true))
	if c.Actor != nil {
		w.Actor, errs[2] = json.Marshal(c.Actor)
	}
	if c.Confirmation != nil {
		w.Confirmation, errs[3] = json.Marshal(c.Confirmation)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return json.Marshal(w)
}

// seconds rounds down, so that no token outlives its grant.
func seconds(t time.Time) *int64 {
	s := t.Unix()
	return &s
}

// readClaims reads what jws.Parse has found to be unambiguous. It checks all that holds at any
// time and for any audience.
func readClaims(payload []byte) (Claims, error) {
	var w wireClaims
	if err := json.Unmarshal(payload, &w); err != nil {
		return Claims{}, malformed("", "has a claim of the wrong type")
	}
	c := Claims{Issuer: w.Issuer, Subject: w.Subject, ClientID: w.ClientID, ID: w.ID}
	for _, required := range []struct{ name, value string }{
		{"iss", w.Issuer}, {"sub", w.Subject}, {"client_id", w.ClientID}, {"jti", w.ID},
	} {
		if required.value == "" {
			return Claims{}, missing(required.name)
		}
	}
	for _, read := range []func(*Claims, wireClaims) error{readTimes, readAudience, readScopes, readActor, readConfirmation, readGrant} {
		if err := read(&c, w); err != nil {
			return Claims{}, err
		}
	}
	return c, nil
}

func readTimes(c *Claims, w wireClaims) error {
	for _, t := range []struct {
		name string
		from *int64
		to   *time.Time
	}{{"iat", w.IssuedAt, &c.IssuedAt}, {"nbf", w.NotBefore, &c.NotBefore}, {"exp", w.ExpiresAt, &c.ExpiresAt}} {
		if t.from == nil {
			return missing(t.name)
		}
		if *t.from <= 0 || *t.from > lastSecond {
			return malformed(t.name, "has a time that is out of range")
		}
		*t.to = time.Unix(*t.from, 0).UTC()
	}
	if !c.ExpiresAt.After(c.NotBefore) || !c.ExpiresAt.After(c.IssuedAt) {
		return malformed("exp", "ends before it begins")
	}
	return nil
}

// readAudience takes a string or an array of one (RFC 7519, section 4.1.3). A token for several
// audiences could be spent by one of them at another.
func readAudience(c *Claims, w wireClaims) error {
	if w.Audience == nil {
		return missing("aud")
	}
	var one string
	if json.Unmarshal(w.Audience, &one) == nil {
		c.Audience = []string{one}
	} else if json.Unmarshal(w.Audience, &c.Audience) != nil {
		return malformed("aud", "has a claim of the wrong type")
	}
	if len(c.Audience) != 1 {
		return refuse("WRONG_AUDIENCE", "aud", "this grant token is not for exactly one audience; ask the broker for a token for this target alone")
	}
	if c.Audience[0] == "" {
		return missing("aud")
	}
	return nil
}

func readScopes(c *Claims, w wireClaims) error {
	if w.Scope == "" {
		return nil
	}
	c.Scopes = strings.Split(w.Scope, " ")
	if !slices.ContainsFunc(c.Scopes, func(s string) bool { return !isScope(s) }) {
		return nil
	}
	return malformed("scope", "has a scope that is not well formed")
}

// isScope implements scope-token of RFC 6749, section 3.3.
func isScope(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return s != ""
}

func readActor(c *Claims, w wireClaims) error {
	if w.Actor == nil {
		return nil
	}
	if err := readStrictly(w.Actor, &c.Actor); err != nil || c.Actor == nil {
		return malformed("act", "names an actor that can't be read")
	}
	for a := c.Actor; a != nil; a = a.Actor {
		if a.Subject == "" {
			return missing("act.sub")
		}
	}
	return nil
}

func readConfirmation(c *Claims, w wireClaims) error {
	if w.Confirmation == nil {
		return nil
	}
	err := readStrictly(w.Confirmation, &c.Confirmation)
	if err != nil || c.Confirmation == nil || *c.Confirmation == (Confirmation{}) {
		return unknownRestriction("cnf", "this grant token is bound to a key in a way that is not known here")
	}
	return nil
}

func readGrant(c *Claims, w wireClaims) error {
	if w.Grant == nil {
		return missing("daypass")
	}
	if err := readStrictly(w.Grant, &c.Grant); err != nil {
		return unknownRestriction("daypass", "this grant token has a restriction that is not known here")
	}
	if c.Grant.ID == "" {
		return missing("daypass.grant")
	}
	if c.Grant.Target == "" {
		return missing("daypass.target")
	}
	if t, ours := strings.CutPrefix(c.Audience[0], audiencePrefix); ours && t != c.Grant.Target {
		return refuse("WRONG_AUDIENCE", "aud", "this grant token names one target as its audience and another as its grant's; ask the broker for a fresh one")
	}
	return nil
}

func readStrictly(raw jsontext.Value, to any) error {
	return json.Unmarshal(raw, to, json.RejectUnknownMembers(true))
}

func missing(claim string) error {
	return refuse("MISSING_CLAIM", claim, "this grant token has no "+claim+"; ask the broker for a fresh one")
}

func malformed(claim, what string) error {
	return refuse("TOKEN_MALFORMED", claim, "this grant token "+what+"; ask the broker for a fresh one")
}

// unknownRestriction is Denied, not Unauthenticated: who the caller is is not in doubt.
func unknownRestriction(claim, what string) error {
	return &cred.Error{
		Kind: cred.Denied, Op: "token.verify", Reason: "UNKNOWN_RESTRICTION", Claim: claim,
		Public: what + ", so it is refused; this side may have to be updated",
	}
}
