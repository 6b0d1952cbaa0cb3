package oauth

import (
	"slices"
	"strings"

	"github.com/daypass-io/daypass/internal/tokenapi"
)

// scopesOf returns what to ask for; none where the service has no scopes.
func (cfg *Config) scopesOf(granted []string, params map[string]string) ([]string, error) {
	if cfg.NoScopes {
		return nil, nil
	}
	return tokenapi.Scopes("oauth.issue", granted, params)
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
