package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// denial is what one deny rule refuses of one target.
type denial struct {
	name, reason string
	who, when    expression
	scopes       []glob.Pattern // empty: whatever is asked
}

// denies reports whether the denial applies: where its scopes are touched, and none of its conditions
// is false. One that can't be evaluated is not false.
func (d denial) denies(in *input) bool {
	return d.touches(in.want.Scopes) && !d.who.fails(in) && !d.when.fails(in)
}

func (d denial) touches(scopes []string) bool {
	return len(d.scopes) == 0 || slices.ContainsFunc(scopes, func(scope string) bool {
		return slices.ContainsFunc(d.scopes, func(g glob.Pattern) bool { return g.Match(scope) })
	})
}

// denied returns the first deny rule that applies.
func (s *Set) denied(in *input) (denial, bool) {
	all := s.denials[in.want.Target]
	if i := slices.IndexFunc(all, func(d denial) bool { return d.denies(in) }); i >= 0 {
		return all[i], true
	}
	return denial{}, false
}

// result tells what the deny rule says. Its conditions that failed are those that keep it from applying.
func (d denial) result(in *input, visible bool) RuleResult {
	r := RuleResult{Rule: d.name, Deny: true, Visible: visible, Matched: d.denies(in)}
	if r.Matched {
		r.Reason = ReasonDeniedByRule
		return r
	}
	for _, e := range []expression{d.who, d.when} {
		for _, f := range e.failures(in) {
			if f.err == nil {
				r.Failed = append(r.Failed, f.text+" "+f.saw(in))
			}
		}
	}
	if len(r.Failed) == 0 {
		r.Failed = []string{"none of its scopes is asked for"}
	}
	return r
}

// finding says that the deny rule refuses, and why in its author's words.
func (d denial) finding() Finding {
	return Finding{Rule: d.name, Reason: ReasonDeniedByRule, Condition: d.reason}
}

// refusedBy answers a request that a deny rule refuses. The caller learns of it who may know of the
// target by some rule.
func (d Decision) refusedBy(by denial, in *input, mayKnow bool) Decision {
	if !mayKnow {
		return d.hidden(in.want.Target, by.finding())
	}
	d.Private, d.Visible = by.finding(), true
	d.Rule, d.Reason, d.Condition = by.name, ReasonDeniedByRule, by.reason
	d.Public = fmt.Sprintf("deny rule %q refuses target %q", by.name, in.want.Target)
	if by.reason != "" {
		d.Public += ": " + by.reason
	}
	return d
}

func (c *compiler) denials(names map[string]bool) {
	for i, r := range c.src.Deny {
		path := strictyaml.Index("deny", i)
		c.name(path+".name", r.Name, names)
		compiled := denial{name: r.Name, reason: r.Reason, who: c.expression(c.env.rule, path+".who", r.Who)}
		if r.When != "" {
			compiled.when = c.expression(c.env.rule, path+".when", r.When)
		}
		if len(r.May) == 0 {
			c.refuse(path+".may", "lists nothing, so the rule refuses nothing", "")
		}
		c.denial(path+".may", compiled, r.May)
	}
}

// denial adds a deny rule to every target that it names.
func (c *compiler) denial(path string, d denial, all []DenyOf) {
	scopes, whole := map[string][]glob.Pattern{}, map[string]bool{}
	for i, of := range all {
		at := strictyaml.Index(path, i)
		globs := c.scopes(at, of.Scopes)
		for _, name := range c.named(at+".target", of.Target) {
			scopes[name] = append(scopes[name], globs...)
			whole[name] = whole[name] || len(globs) == 0
		}
	}
	for _, name := range slices.Sorted(maps.Keys(scopes)) {
		d.scopes = scopes[name]
		if whole[name] {
			d.scopes = nil
		}
		c.set.denials[name] = append(c.set.denials[name], d)
	}
}
