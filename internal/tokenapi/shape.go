package tokenapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// The parameters that targets of token endpoints have in common.
const (
	ParamScope        = "scope"         // the scopes that a grant may name, separated by spaces; empty: those of the rule
	ParamDefaultScope = "default_scope" // those of a grant that names none
	ParamUsername     = "username"      // of a credential of type user_password, whose password is the token
)

// Scopes returns what to ask for, sorted: the grant's scopes, or those that the target sets for a grant
// that names none. With neither it refuses: a server that is asked for no scope gives its default,
// which may be all that the client has (RFC 6749, section 3.3).
func Scopes(op string, granted []string, params map[string]string) ([]string, error) {
	asked := slices.Clone(granted)
	if len(asked) == 0 {
		asked = strings.Fields(params[ParamDefaultScope])
	}
	if len(asked) == 0 {
		return nil, Refuse(op, "SCOPE_MISSING", "this target needs a scope, since a token without one may do all that the broker may; ask with --scope SCOPE")
	}
	bound := strings.Fields(params[ParamScope])
	for _, s := range asked {
		if !scopeToken(s) {
			return nil, Refuse(op, "SCOPE_INVALID", "a scope for this target must be one word without spaces, quotes and backslashes")
		}
		if len(bound) > 0 && !slices.Contains(bound, s) {
			return nil, &cred.Error{
				Kind: cred.Invalid, Op: op, Reason: "SCOPE_NOT_OF_TARGET", Claim: "scope",
				Public: fmt.Sprintf("the scope %s is not one of those that this target is set up for: %s", s, strings.Join(bound, ", ")),
			}
		}
	}
	slices.Sort(asked)
	return slices.Compact(asked), nil
}

// scopeToken reports whether a text is one scope and no more: RFC 6749, section 3.3. A space in it
// would make two of what policy took for one.
func scopeToken(s string) bool {
	const maxScope = 256
	return s != "" && len(s) <= maxScope && !strings.ContainsFunc(s, func(r rune) bool {
		return r < '!' || r > '~' || r == '"' || r == '\\'
	})
}

// CheckParams refuses a target's parameter that is not among those known.
func CheckParams(op string, params map[string]string, known []string) error {
	for name := range params {
		if !slices.Contains(known, name) {
			return Refuse(op, "PARAM_UNKNOWN", fmt.Sprintf("the target has the parameter %q, which its issuer does not know", name))
		}
	}
	return nil
}

// Shape says what is made of an access token for a target: a bearer token, or the password of a fixed
// user.
func Shape(op string, from cred.CredentialSource) (func(cred.Secret) cred.Credential, error) {
	name, fixed := "token", map[string]cred.Secret{}
	switch from.Type {
	case "", cred.Bearer:
	case cred.UserPassword:
		if from.Params[ParamUsername] == "" {
			return nil, Refuse(op, "FIELD_MISSING", `a target of type user_password needs the parameter "username" here: a token has none`)
		}
		name, fixed["username"] = "password", cred.SecretString(from.Params[ParamUsername])
	default:
		return nil, Refuse(op, "FIELD_MISSING", fmt.Sprintf("a token can't make a credential of type %s; the target's type must be bearer or user_password", from.Type))
	}
	for ours, theirs := range from.Fields {
		if theirs != "access_token" {
			return nil, Refuse(op, "FIELD_MISSING", fmt.Sprintf("a token answer has no field %q for the target; it has access_token", theirs))
		}
		name = ours
	}
	kind := from.Type
	if kind == "" {
		kind = cred.Bearer
	}
	return func(access cred.Secret) cred.Credential {
		c := cred.Credential{Type: kind, Fields: map[string]cred.Secret{name: access}}
		for n, v := range fixed {
			c.Fields[n] = v
		}
		return c
	}, nil
}

// Refuse is the Invalid of a target or grant that can't be served.
func Refuse(op, reason, public string) error {
	return &cred.Error{Kind: cred.Invalid, Op: op, Reason: reason, Public: public}
}
