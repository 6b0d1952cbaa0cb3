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
	targets map[string]cred.Target
	rules   map[string]*targetRules // of each target, patterns expanded
	denials map[string][]denial     // of each target, in file order
	roles   map[string]expression
	groups  map[string]*group
	words   vocabulary
	text    []byte
	hash    string
}

// rule is a compiled Rule.
type rule struct {
	name      string
	who, when expression
	ttl       time.Duration // break-glass's cap worked in
	deliver   cred.Delivery // empty: as the target
	bind      []cred.Binding
	renewals  int
	windows   []window
	demand    *cred.Demand // nil: nobody is asked
	onCall    *schedule    // nil: being on call exempts nobody
	review    *ReviewOwed  // set for break-glass alone
}

// offer is what one rule allows of one target.
type offer struct {
	*rule
	parts                []part
	firstCheck, endCheck int  // its conditions among those of the target
	aboutProvider        bool // who has a condition on principal.provider or principal.issuer
}

// part is what belongs together of a rule's may: scopes, and the parameters for them.
type part struct {
	scopes []glob.Pattern
	params map[string]Param
}

// Text returns the canonical text of the set: what Hash is of, and what Parse reads back into an
// equal set. It does not depend on comments, layout, or the order of targets, groups and roles.
// Schedules stand in it with their shifts.
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
// whose expression fails, nobody has; nor has one a principal with cautions that the expression does
// not name. Of an agent and its user, both must have it.
func (s *Set) HasRole(who cred.Principal, role string) bool {
	e, ok := s.roles[role]
	if !ok || !e.holds(s.input(&who, &cred.Request{}, time.Time{})) || len(e.uncautioned(who)) > 0 {
		return false
	}
	return who.Actor == nil || s.HasRole(*who.Actor, role)
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
