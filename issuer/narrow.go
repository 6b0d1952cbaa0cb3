package issuer

import (
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
				err = badParam(name, ok)
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

func badParam(name string, given bool) error {
	e := &cred.Error{
		Kind: cred.Invalid, Op: "issuer.narrow", Reason: "PARAM_MISSING", Claim: name,
		Public: fmt.Sprintf("this target needs the parameter %s; send it with --param %s=VALUE", name, name),
	}
	if given {
		e.Reason = "PARAM_INVALID"
		e.Public = fmt.Sprintf("the parameter %s must be made of letters, digits, \".\", \"_\" and \"-\", and begin with a letter or digit", name)
	}
	return e
}
