package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
)

// The roles that the configuration can give.
const (
	RoleAuditor  = "auditor"  // reads the log and every grant
	RoleSecurity = "security" // as auditor, and revokes and rotates
)

// Set is a compiled rule set. It is immutable and safe for concurrent use.
type Set struct {
	targets  map[string]cred.Target
	byTarget map[string][]offer // the rules of each target, in file order, patterns expanded
	roles    map[string]expression
	text     []byte
	hash     string
}

// rule is a compiled Rule.
type rule struct {
	name      string
	who, when expression
	ttl       time.Duration
}

// offer is what one rule allows of one target.
type offer struct {
	*rule
	scopes []glob.Pattern // of every part of the rule that names the target
}

// Text returns the canonical text of the set: what Hash is of, and what Parse reads back into an
// equal set. It does not depend on comments, layout, or the order of targets and roles.
func (s *Set) Text() []byte { return slices.Clone(s.text) }

// Hash returns the SHA-256 of Text in lower-case hex.
func (s *Set) Hash() string { return s.hash }

// Target returns a target by its name.
func (s *Set) Target(name string) (cred.Target, bool) {
	t, ok := s.targets[name]
	return t, ok
}

// Targets returns all targets in the order of their names.
func (s *Set) Targets() []cred.Target {
	all := make([]cred.Target, 0, len(s.targets))
	for _, t := range s.targets {
		all = append(all, t)
	}
	slices.SortFunc(all, byName)
	return all
}

// HasRole reports whether a principal has a role. A role that the configuration does not give, or
// whose expression fails, nobody has.
func (s *Set) HasRole(who cred.Principal, role string) bool {
	e, ok := s.roles[role]
	return ok && e.holds(&input{who: &who})
}

// grants reports whether an offer holds for an input and covers its scopes.
func (o offer) grants(in *input) bool {
	return len(o.missing(in.want.Scopes)) == 0 && o.who.holds(in) && o.when.holds(in)
}

// missing returns the scopes that an offer does not cover.
func (o offer) missing(scopes []string) []string {
	var out []string
	for _, scope := range scopes {
		if !slices.ContainsFunc(o.scopes, func(g glob.Pattern) bool { return g.Match(scope) }) {
			out = append(out, scope)
		}
	}
	return out
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
