package policy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// withActor narrows what the caller may have to what the agent that acts for them may have too. The
// parameters that the agent's rule fills in must be within the caller's, and the other way about.
func (s *Set) withActor(d Decision, q *question) Decision {
	target := q.want.Target
	agent := s.decide(&question{q.who.Actor, q.want, q.now, d.Params})
	if !agent.Allowed {
		return d.refusedToAgent(target, agent)
	}
	if !maps.Equal(agent.Params, d.Params) {
		d = s.decideAlone(&question{q.who, q.want, q.now, agent.Params})
		if !d.Allowed {
			return d
		}
		if !maps.Equal(agent.Params, d.Params) {
			return d.refusedToAgent(target, Decision{
				Rule: agent.Rule, Reason: ReasonParamNotAllowed, Visible: true, Private: Finding{agent.Rule, ReasonParamNotAllowed, ""},
				Public: fmt.Sprintf("rules %q and %q fill in different parameters; send them", d.Rule, agent.Rule),
			})
		}
	}
	return d.and(agent)
}

// refusedToAgent is the answer where the agent may not have what the caller may.
func (d Decision) refusedToAgent(target string, agent Decision) Decision {
	out := Decision{PolicyHash: d.PolicyHash, Visible: true, Private: agent.Private}
	if !agent.Visible {
		out.Rule, out.Reason = d.Rule, ReasonAgentNotAllowed
		out.Condition = "no rule allows it to the agent that acts for you"
		out.Public = fmt.Sprintf("rule %q allows you target %q, and no rule allows it to the agent that acts for you", d.Rule, target)
		return out
	}
	out.Rule, out.Reason, out.Condition = agent.Rule, agent.Reason, agent.Condition
	out.Public = "for the agent that acts for you, " + agent.Public
	return out
}

// and returns what two decisions both allow, of which the first is the caller's and the other its
// agent's.
func (d Decision) and(agent Decision) Decision {
	demand, ok := bothDemands(d.Demand, agent.Demand)
	if !ok {
		return d.refusedToAgent(d.Target.Name, Decision{
			Rule: agent.Rule, Reason: ReasonDemandsConflict, Visible: true, Private: Finding{agent.Rule, ReasonDemandsConflict, ""},
			Public: fmt.Sprintf("rules %q and %q each ask for the approval of one of several groups, which can't be asked as one question", d.Rule, agent.Rule),
		})
	}
	d.ActorRule = agent.Rule
	d.Demand = demand
	d.TTL, d.Renewals = min(d.TTL, agent.TTL), min(d.Renewals, agent.Renewals)
	d.Until = earlier(d.Until, agent.Until)
	d.Review = bothReviews(d.Review, agent.Review)
	d.NoticeGroups = union(d.NoticeGroups, agent.NoticeGroups)
	if agent.Deliver == cred.DeliverProxy {
		d.Deliver = cred.DeliverProxy
	}
	switch {
	case demand != nil:
		d.Exempt = ""
	case agent.Exempt == exemptBreakGlass || d.Exempt == "":
		d.Exempt = agent.Exempt
	}
	return d
}

// bothDemands returns a demand that is met only where both are, nil where neither asks for anything;
// ok is false where two lists of alternatives meet, which no demand can say.
func bothDemands(a, b *cred.Demand) (both *cred.Demand, ok bool) {
	if a == nil || b == nil {
		if a == nil {
			a = b
		}
		return a, true
	}
	if len(a.AnyOf) > 0 && len(b.AnyOf) > 0 && !slices.Equal(a.AnyOf, b.AnyOf) {
		return nil, false
	}
	out := *a
	if len(out.AnyOf) == 0 {
		out.AnyOf = b.AnyOf
	}
	out.AllOf = slices.Clone(a.AllOf)
	for _, q := range b.AllOf {
		if i := slices.IndexFunc(out.AllOf, func(o cred.Quorum) bool { return o.Group == q.Group }); i >= 0 {
			out.AllOf[i].Count = max(out.AllOf[i].Count, q.Count) // the same people may agree to both
		} else {
			out.AllOf = append(out.AllOf, q)
		}
	}
	out.Within = min(a.Within, b.Within)
	out.Remind, out.Fresh = shorter(a.Remind, b.Remind), shorter(a.Fresh, b.Fresh)
	return &out, true
}

// shorter returns the shorter of two durations, of which zero is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// bothReviews returns the review that is owed where one of two is.
func bothReviews(a, b *ReviewOwed) *ReviewOwed {
	if a == nil || b == nil {
		if a == nil {
			a = b
		}
		return a
	}
	return &ReviewOwed{Groups: union(a.Groups, b.Groups), Within: min(a.Within, b.Within)}
}

// union returns what is in one of two lists, sorted; nil where both are empty.
func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}
