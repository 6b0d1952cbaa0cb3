package policy

import (
	"fmt"
	"math"
)

// refuse chooses what the log and what the caller learn of a refusal by no rule.
func (d Decision) refuse(in *input, rules *targetRules) Decision {
	private := Finding{Reason: ReasonNoRuleMatches}
	all, visible := rules.nearest(in)
	if all >= 0 {
		private = rules.offers[all].judge(in, rules).finding(in)
	}
	if visible < 0 {
		return d.hidden(in.want.Target, private)
	}
	nearest := rules.offers[visible].judge(in, rules)
	f := nearest.finding(in)
	d.Private, d.Visible = private, true
	d.Rule, d.Reason, d.Condition = f.Rule, f.Reason, f.Condition
	d.Public = fmt.Sprintf("rule %q does not allow target %q: %s", f.Rule, in.want.Target, f.Condition)
	switch more := len(nearest.failed) - 1; {
	case more == 1:
		d.Public += ", and one more condition fails"
	case more > 1:
		d.Public += fmt.Sprintf(", and %d more conditions fail", more)
	}
	if ask := nearest.ask(in); ask != "" {
		d.Public += "; " + ask
	}
	return d
}

// hidden is the answer to callers who may not know whether a target exists. It depends on nothing
// but the name that they sent.
func (d Decision) hidden(target string, private Finding) Decision {
	d.Private = private
	d.Reason = ReasonTargetUnknown
	d.Public = fmt.Sprintf(`there is no target %s that you may ask for; "daypass targets" lists yours`, shown(target))
	return d
}

// nearest returns the indices of the rule that comes nearest to matching, and of the nearest among
// those that the caller may know of; -1 where there is none. Nearest is the one with the fewest
// conditions that fail; of those where none does, one that covers scopes and parameters; and the
// earliest of equals.
func (t *targetRules) nearest(in *input) (all, visible int) {
	all, visible = -1, -1
	far, farVisible := math.MaxInt, math.MaxInt
	for i := range t.offers {
		d, seen := t.distance(&t.offers[i], in, far, farVisible)
		if d < far {
			all, far = i, d
		}
		if seen && d < farVisible {
			visible, farVisible = i, d
		}
	}
	return all, visible
}

// mayKnow reports whether a rule of the target is one that the caller may know of.
func (t *targetRules) mayKnow(in *input) bool {
	_, visible := t.nearest(in)
	return visible >= 0
}

// distance returns how far a rule is from matching, as nearest counts it, and whether the caller may
// know of the rule: where all conditions on who they are hold, or else where there is one on the
// provider and every such one holds. It stops early, and returns far and false, where the rule is at
// least as far as far, and as farVisible if it can be visible.
func (t *targetRules) distance(o *offer, in *input, far, farVisible int) (distance int, visible bool) {
	failed, whoFails, providerFails := 0, false, false
	checks := t.checks[o.firstCheck:o.endCheck]
	for i := range checks {
		c := &checks[i]
		if c.holds(in) {
			continue
		}
		failed++
		if !c.ofWhen {
			whoFails, providerFails = true, providerFails || c.aboutProvider
		}
		hidden := whoFails && (providerFails || !o.aboutProvider)
		if 2*failed >= far && (hidden || 2*failed >= farVisible) {
			return far, false
		}
	}
	visible = !whoFails || o.aboutProvider && !providerFails
	if failed == 0 && !o.coversAll(in) {
		return 1, visible
	}
	return 2 * failed, visible
}

func (v verdict) finding(in *input) Finding {
	first := v
	first.failed, first.lacks = v.failed[:min(1, len(v.failed))], v.lacks[:min(1, len(v.lacks))]
	return Finding{Rule: v.name, Reason: v.reason(), Condition: first.reasons(in)[0]}
}
