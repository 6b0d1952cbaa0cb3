package policy

import (
	"maps"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Offer is what a caller may ask for of one target.
type Offer struct {
	Target cred.Target
	Scopes []string // sorted; patterns as the rules have them
	MaxTTL time.Duration
}

// Offers returns what at least one rule may allow a caller, in the order of the targets' names.
// Conditions on the request, which is not known yet, are taken to hold.
func (s *Set) Offers(who cred.Principal, now time.Time) []Offer {
	var all []Offer
	for _, name := range slices.Sorted(maps.Keys(s.byTarget)) {
		target := s.targets[name]
		in := &input{who: &who, want: &cred.Request{Target: name}, target: &target, now: now}
		if o, ok := offerOf(in, s.byTarget[name]); ok {
			all = append(all, o)
		}
	}
	return all
}

// offerOf puts together what all the rules for one target may allow.
func offerOf(in *input, offers []offer) (out Offer, ok bool) {
	out.Target = *in.target
	for _, o := range offers {
		if !o.who.mayHold(in) || !o.when.mayHold(in) {
			continue
		}
		ok = true
		out.MaxTTL = max(out.MaxTTL, o.ttl)
		for _, g := range o.scopes {
			out.Scopes = append(out.Scopes, string(g))
		}
	}
	slices.Sort(out.Scopes)
	out.Scopes = slices.Compact(out.Scopes)
	return out, ok
}

func (e expression) mayHold(in *input) bool {
	for _, c := range e {
		if !c.aboutRequest && !c.holds(in) {
			return false
		}
	}
	return true
}
