package oauth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// scopesOf returns what to ask for: the grant's scopes, or those that the target sets for a grant
// that names none. With neither it refuses: a server that is asked for no scope gives its default,
// which may be all that the client has (RFC 6749, section 3.3).
func (cfg *Config) scopesOf(granted []string, params map[string]string) ([]string, error) {
	if cfg.NoScopes {
		return nil, nil
	}
	asked := slices.Clone(granted)
	if len(asked) == 0 {
		asked = strings.Fields(params[paramDefaultScope])
	}
	if len(asked) == 0 {
		return nil, refuse("SCOPE_MISSING", "this target needs a scope, since a token without one may do all that the broker may; ask with --scope SCOPE")
	}
	bound := strings.Fields(params[paramScope])
	for _, s := range asked {
		if !scopeToken(s) {
			return nil, refuse("SCOPE_INVALID", "a scope for this target must be one word without spaces, quotes and backslashes")
		}
		if len(bound) > 0 && !slices.Contains(bound, s) {
			return nil, &cred.Error{
				Kind: cred.Invalid, Op: "oauth.issue", Reason: "SCOPE_NOT_OF_TARGET", Claim: "scope",
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

// compareScopes tells what an answer's scope has more and less than was asked. An answer without a
// scope means what was asked (RFC 6749, section 5.1).
func compareScopes(asked []string, answer *string) (more, less []string) {
	if answer == nil {
		return nil, nil
	}
	got := strings.Fields(*answer)
	for _, s := range got {
		if !slices.Contains(asked, s) {
			more = append(more, s)
		}
	}
	for _, s := range asked {
		if !slices.Contains(got, s) {
			less = append(less, s)
		}
	}
	return more, less
}
