package issuer

import (
	"errors"
	"fmt"
	"maps"
	"regexp"

	"github.com/daypass-io/daypass/cred"
)

var (
	placeholder = regexp.MustCompile(`\{([A-Za-z0-9_-]{1,64})\}`)
	// plain is what may stand for a placeholder: one part of a path and no more, whatever the source
	// makes of it.
	plain = regexp.MustCompile(`^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,127})$`)
)

// Narrow returns a credential's source with each {NAME} in its path and in its parameters replaced by
// the grant's parameter of that name: what a caller asked for within the bounds of a rule. The error
// is Invalid for a parameter that is missing, or is not made of letters, digits, ".", "_" and "-".
func Narrow(from cred.CredentialSource, params map[string]string) (cred.CredentialSource, error) {
	var err error
	fill := func(text string) string {
		return placeholder.ReplaceAllStringFunc(text, func(match string) string {
			name := match[1 : len(match)-1]
			value, ok := params[name]
			if !ok || !plain.MatchString(value) {
				err = unfit(name, ok)
			}
			return value
		})
	}
	from.Path = fill(from.Path)
	filled := maps.Clone(from.Params)
	for name, value := range filled {
		filled[name] = fill(value)
	}
	from.Params = filled
	if err != nil {
		return cred.CredentialSource{}, err
	}
	return from, nil
}

// Placeholders returns the names of the parameters that a text takes from the grant.
func Placeholders(text string) []string {
	var names []string
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

func unfit(name string, given bool) error {
	if given {
		return BadParam("issuer.narrow", name, errors.New(`must be made of letters, digits, ".", "_" and "-", and begin with a letter or digit`))
	}
	return MissingParam("issuer.narrow", name, "VALUE")
}

// BadParam is the Invalid of a grant's parameter. The rule that it breaks goes on after its name: "must
// be ...".
func BadParam(op, name string, rule error) error {
	return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "PARAM_INVALID", Claim: name, Public: fmt.Sprintf("the parameter %s %v", name, rule)}
}

// MissingParam is the Invalid of a grant without a parameter that its target needs, with an example of one.
func MissingParam(op, name, example string) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: op, Reason: "PARAM_MISSING", Claim: name,
		Public: fmt.Sprintf("this target needs the parameter %s; send it with --param %s=%s", name, name, example),
	}
}

// BeyondTarget is the Denied of a grant's parameter that asks for more than its target has.
func BeyondTarget(op, name string) error {
	return &cred.Error{
		Kind: cred.Denied, Op: op, Reason: "BEYOND_TARGET", Claim: name,
		Public: fmt.Sprintf("the parameter %s asks for more than this target has; ask for less", name),
	}
}
