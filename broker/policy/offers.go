package policy

import (
	"maps"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
)

// Offer is what a caller may ask for of one target.
type Offer struct {
	Target cred.Target
	Scopes []string // sorted; patterns as the rules have them
	MaxTTL time.Duration
}

// Offers returns what at least one rule may allow a caller, in the order of the targets' names.
// Conditions on the request, which is not known yet, are taken to hold; those on the time are not.
func (s *Set) Offers(who cred.Principal, now time.Time) []Offer {
	var all []Offer
	for _, name := range slices.Sorted(maps.Keys(s.rules)) {
		target := s.targets[name]
		in := s.input(&who, &cred.Request{Target: name}, now)
		in.target = &target
		if o, ok := s.offer(in); ok {
			all = append(all, o)
		}
	}
	if who.Actor == nil {
		return all
	}
	return offeredToBoth(all, s.Offers(*who.Actor, now))
}

// offer puts together what all the rules for one target may allow.
func (s *Set) offer(in *input) (out Offer, ok bool) {
	if slices.ContainsFunc(s.denials[in.want.Target], func(d denial) bool { return d.deniesAll(in) }) {
		return out, false
	}
	out.Target = *in.target
	for _, o := range s.rulesFor(in.want.Target).offers {
		_, open := openUntil(o.windows, in.now)
		if !open || !o.who.mayHold(in) || !o.when.mayHold(in) || len(o.cautions(in.who.Principal)) > 0 {
			continue
		}
		ok = true
		out.MaxTTL = max(out.MaxTTL, o.ttl)
		for _, p := range o.parts {
			for _, g := range p.scopes {
				out.Scopes = append(out.Scopes, string(g))
			}
		}
	}
	slices.Sort(out.Scopes)
	out.Scopes = slices.Compact(out.Scopes)
	return out, ok
}

func (e expression) mayHold(in *input) bool {
	for _, c := range e {
		if !c.aboutRequest && c.truth(in) != isTrue {
			return false
		}
	}
	return true
}

// deniesAll reports whether a deny rule refuses whatever is asked of the target.
func (d denial) deniesAll(in *input) bool {
	for _, c := range slices.Concat(d.who, d.when) {
		if c.aboutRequest || c.truth(in) == isFalse {
			return false
		}
	}
	return len(d.scopes) == 0
}

// offeredToBoth returns what a caller and the agent that acts for them are both offered.
func offeredToBoth(caller, agent []Offer) []Offer {
	var all []Offer
	for _, a := range caller {
		i := slices.IndexFunc(agent, func(b Offer) bool { return b.Target.Name == a.Target.Name })
		if i < 0 {
			continue
		}
		b := agent[i]
		a.MaxTTL = min(a.MaxTTL, b.MaxTTL)
		a.Scopes = union(within(a.Scopes, b.Scopes), within(b.Scopes, a.Scopes))
		all = append(all, a)
	}
	return all
}

// within returns the patterns that match nothing but what one of others matches.
func within(patterns, others []string) []string {
	return slices.DeleteFunc(slices.Clone(patterns), func(p string) bool {
		return !slices.ContainsFunc(others, func(o string) bool { return glob.Pattern(o).Match(p) })
	})
}

// RulesFor returns the names of the rules that allow anything of a target, sorted.
func (s *Set) RulesFor(target string) []string {
	var names []string
	if t := s.rules[target]; t != nil {
		for _, o := range t.offers {
			names = append(names, o.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
