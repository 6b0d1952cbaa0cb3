package policy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// DemandOf returns whose agreement a rule asks for where the target is what is asked. ok is false
// where there is no such rule for the target, or one that asks nobody.
func (s *Set) DemandOf(rule, target string) (demand cred.Demand, ok bool) {
	for _, o := range s.rulesFor(target).offers {
		if o.name == rule && o.demand != nil && o.review == nil {
			return o.asked(), true
		}
	}
	return demand, false
}

// asked returns the rule's demand, for the caller to keep.
func (r *rule) asked() cred.Demand {
	demand := *r.demand
	demand.AllOf, demand.AnyOf = slices.Clone(demand.AllOf), slices.Clone(demand.AnyOf)
	return demand
}

// noticed returns the groups that are told of break-glass on a target: those of every approval for it,
// and those that owe the review.
func (t *targetRules) noticed(review *ReviewOwed) []string {
	all := slices.Clone(review.Groups)
	for _, o := range t.offers {
		if o.demand != nil {
			all = append(all, o.demand.Groups()...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (c *compiler) approval(path string, r *rule, a *Approval) {
	if a == nil {
		return
	}
	if len(a.AllOf) == 0 && len(a.AnyOf) == 0 {
		c.refuse(path, "must have all_of or any_of", "")
	}
	r.demand = &cred.Demand{
		AllOf: c.quorums(path+".all_of", a.AllOf), AnyOf: c.quorums(path+".any_of", a.AnyOf),
		Within: a.Within, Remind: a.Remind, Fresh: a.Fresh,
	}
	c.duration(path+".within", a.Within, time.Minute, maxWithin)
	if a.Remind != 0 && (a.Remind < time.Minute || a.Remind >= a.Within) {
		c.refuse(path+".remind", "must be at least 1m, and less than within", "")
	}
	if a.Fresh != 0 {
		c.duration(path+".fresh", a.Fresh, time.Minute, MaxTTL)
	}
	if a.OnCall != "" {
		if r.onCall = c.schedules[a.OnCall]; r.onCall == nil {
			names := slices.Sorted(maps.Keys(c.schedules))
			c.refuse(path+".on_call", fmt.Sprintf("there is no schedule %q in on_call", a.OnCall), strictyaml.DidYouMean(a.OnCall, names))
		}
	}
}

func (c *compiler) quorums(path string, all []Quorum) []cred.Quorum {
	if len(all) > maxQuorums {
		c.refuse(path, fmt.Sprintf("lists more than %d groups", maxQuorums), "")
	}
	var out []cred.Quorum
	for i, q := range all {
		at := strictyaml.Index(path, i)
		c.group(at+".group", q.Group)
		if q.Count < 1 || q.Count > maxCount {
			c.refuse(at+".count", fmt.Sprintf("must be from 1 to %d", maxCount), "")
		}
		if slices.ContainsFunc(out, func(o cred.Quorum) bool { return o.Group == q.Group }) {
			c.refuse(at+".group", fmt.Sprintf("group %q is listed twice", q.Group), "ask for more of its people with count")
		}
		out = append(out, cred.Quorum{Group: q.Group, Count: q.Count})
	}
	return out
}

func (c *compiler) breakGlass(path string, r *rule, src Rule) {
	b := src.BreakGlass
	if b == nil {
		return
	}
	c.duration(path+".break_glass.max_ttl", b.MaxTTL, MinTTL, maxBreakGlass)
	if src.Renewals != 0 {
		c.refuse(path+".renewals", "is not for a rule with break_glass: its max_ttl is a hard bound", "")
	}
	if src.Approval != nil && src.Approval.OnCall != "" {
		c.refuse(path+".approval.on_call", "has no use beside break_glass, where nobody is asked", "put it into a rule of its own")
	}
	at := path + ".break_glass.review"
	if len(b.Review.Groups) == 0 {
		c.refuse(at+".groups", "lists no group, so that nobody can sign it off", "")
	}
	for i, g := range b.Review.Groups {
		c.group(strictyaml.Index(at+".groups", i), g)
	}
	c.duration(at+".within", b.Review.Within, time.Minute, maxReview)
	r.ttl = min(r.ttl, b.MaxTTL)
	r.review = &ReviewOwed{Groups: slices.Compact(slices.Sorted(slices.Values(b.Review.Groups))), Within: b.Review.Within}
}
