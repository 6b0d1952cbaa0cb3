package identity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/daypass-io/daypass/cred"
)

// Bounds of single claims, in bytes. OpenID Connect Core section 2 bounds sub to 255 characters;
// customised subjects of CI systems are longer.
const (
	maxSubjectBytes = 512
	maxIssuerBytes  = 1024
)

// checkClaims holds the claims against the provider's settings, in the order in which a caller can
// best mend them, and returns the times in them.
func (p *Provider) checkClaims(claims map[string]any, now time.Time) (lifetime, error) {
	if err := p.checkAudience(claims); err != nil {
		return lifetime{}, err
	}
	life, err := p.checkTimes(claims, now)
	if err != nil {
		return lifetime{}, err
	}
	if err := p.checkSubject(claims); err != nil {
		return lifetime{}, err
	}
	return life, p.checkRefused(claims)
}

func (p *Provider) checkAudience(claims map[string]any) error {
	audiences, err := audiencesOf(claims)
	if err != nil {
		return err
	}
	for _, aud := range audiences {
		if slices.Contains(p.Audiences, aud) {
			continue
		}
		if len(audiences) > 1 {
			return refuse("WRONG_AUDIENCE", "aud", "the ID token has %d audiences and %s is not one of this broker's, so it is also good elsewhere; request it for %s alone",
				len(audiences), shown(aud), p.wantedAudience())
		}
		return refuse("WRONG_AUDIENCE", "aud", "the ID token's audience is %s; request it for %s", shown(aud), p.wantedAudience())
	}
	return nil
}

// audiencesOf reads aud, which is a string or a list of them (RFC 7519, section 4.1.3).
func audiencesOf(claims map[string]any) ([]string, error) {
	switch aud := claims["aud"].(type) {
	case nil:
		return nil, missing("aud")
	case string:
		return []string{aud}, nil
	case []any:
		if len(aud) == 0 {
			return nil, missing("aud")
		}
		all := make([]string, len(aud))
		for i, value := range aud {
			s, ok := value.(string)
			if !ok {
				return nil, malformed("aud", "a list of strings")
			}
			all[i] = s
		}
		return all, nil
	}
	return nil, malformed("aud", "a string or a list of strings")
}

func (p *Provider) wantedAudience() string {
	quoted := make([]string, len(p.Audiences))
	for i, aud := range p.Audiences {
		quoted[i] = strconv.Quote(aud)
	}
	return strings.Join(quoted, " or ")
}

// requiredString reads a claim that must be a string of 1 to most bytes without control
// characters, since logs and terminals show it.
func requiredString(claims map[string]any, name string, most int) (string, error) {
	value, present := claims[name]
	if !present {
		return "", missing(name)
	}
	s, ok := value.(string)
	if !ok || s == "" || len(s) > most || !printable(s) {
		return "", malformed(name, fmt.Sprintf("a string of 1 to %d bytes without control characters", most))
	}
	return s, nil
}

// printable reports whether a string is what it looks like: UTF-8 without control characters and
// without the invisible ones that change how others are shown.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
	})
}

func missing(claim string) error {
	return refuse("MISSING_CLAIM", claim, "the ID token has no %s claim, which this broker requires", claim)
}

func malformed(claim, want string) error {
	return refuse("CLAIM_INVALID", claim, "the ID token's %s claim must be %s", claim, want)
}

// checkRefused refuses a genuine token whose claims have a value that the provider lists.
func (p *Provider) checkRefused(claims map[string]any) error {
	for claim, refused := range p.RefuseClaims {
		value, present := claims[claim]
		if !present {
			continue
		}
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		for _, one := range values {
			text, ok := cred.ClaimText(one)
			if !ok {
				return malformed(claim, "a plain value or a list of plain values")
			}
			if slices.Contains(refused, text) {
				return refuse("EVENT_REFUSED", claim, "the ID token's %s is %s, with which provider %q refuses every token", claim, shown(text), p.Name)
			}
		}
	}
	return nil
}

// cautions returns the claims whose value makes the identity doubtful. A rule names one value for a
// claim, so a claim with several at once is refused.
func (p *Provider) cautions(claims map[string]any) (map[string]string, error) {
	var found map[string]string
	for claim, doubtful := range p.CautionClaims {
		value, present := claims[claim]
		if !present {
			continue
		}
		text, ok := cred.ClaimText(value)
		if !ok {
			return nil, malformed(claim, "a plain value")
		}
		if slices.Contains(doubtful, text) {
			if found == nil {
				found = map[string]string{}
			}
			found[claim] = text
		}
	}
	return found, nil
}
