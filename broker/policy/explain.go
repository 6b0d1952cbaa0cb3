package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// verdict is what one rule says to a request, before it is put into words.
type verdict struct {
	offer
	failed  []failure
	missing []string // scopes
	visible bool     // the caller may know of the rule
}

// failure is a conjunct that does not hold.
type failure struct {
	*conjunct
	err error // why it could not be evaluated; nil where it is false
}

// judge holds a request against every rule for its target.
func (s *Set) judge(in *input) []verdict {
	offers := s.byTarget[in.want.Target]
	all := make([]verdict, len(offers))
	for i, o := range offers {
		all[i] = o.judge(in)
	}
	return all
}

func (o offer) judge(in *input) verdict {
	who := o.who.failures(in)
	v := verdict{offer: o, failed: append(who, o.when.failures(in)...), missing: o.missing(in.want.Scopes)}
	v.visible = len(who) == 0 || o.who.isAboutProvider() && !slices.ContainsFunc(who, func(f failure) bool { return f.aboutProvider })
	return v
}

func (e expression) failures(in *input) []failure {
	var all []failure
	for _, c := range e {
		if out, _, err := c.program.Eval(in); err != nil || out != types.True {
			all = append(all, failure{c, err})
		}
	}
	return all
}

func (e expression) isAboutProvider() bool {
	return slices.ContainsFunc(e, func(c *conjunct) bool { return c.aboutProvider })
}

func (v verdict) matched() bool { return len(v.failed) == 0 && len(v.missing) == 0 }

// reasons returns in words what keeps a rule from matching: its conditions, or else the scopes.
func (v verdict) reasons(in *input) []string {
	var all []string
	for _, f := range v.failed {
		all = append(all, f.text+" "+f.saw(in))
	}
	if len(all) == 0 && len(v.missing) > 0 {
		all = append(all, v.lacks(v.missing))
	}
	return all
}

func (v verdict) reason() string {
	switch {
	case len(v.failed) > 0:
		return ReasonNoRuleMatches
	case len(v.missing) > 0:
		return ReasonScopeNotAllowed
	}
	return ""
}

func (v verdict) result(in *input) RuleResult {
	return RuleResult{Rule: v.name, Matched: v.matched(), Reason: v.reason(), Failed: v.reasons(in), Visible: v.visible}
}

// lacks says which scopes a rule does not allow, and which it does.
func (o offer) lacks(missing []string) string {
	allowed := make([]string, len(o.scopes))
	for i, g := range o.scopes {
		allowed[i] = strconv.Quote(string(g))
	}
	list := "no scopes"
	if len(allowed) > 0 {
		list = strings.Join(allowed, ", ")
	}
	return fmt.Sprintf("scope %s is not allowed (the rule allows %s)", shown(missing[0]), list)
}

// saw tells in brackets why a conjunct does not hold: what is absent, what the values were, or why
// it could not be evaluated.
func (f failure) saw(in *input) string {
	var absent, values []string
	for _, o := range f.seen {
		out, _, err := o.program.Eval(in)
		switch {
		case err != nil && isAbsent(err):
			absent = append(absent, nameOf(o.path)+" is absent")
		case err == nil && len(f.seen) == 1:
			values = append(values, "was "+render(out))
		case err == nil:
			values = append(values, o.path+" was "+render(out))
		}
	}
	switch {
	case f.err != nil && len(absent) > 0:
		return "(" + strings.Join(absent, ", ") + ")"
	case f.err != nil:
		values = append(values, "can't be evaluated: "+cut(f.err.Error()))
	case len(values) == 0:
		return "(was false)"
	}
	return "(" + strings.Join(values, ", ") + ")"
}

// isAbsent reports whether an evaluation failed on a key or field that is not there. CEL has no type
// for that error.
func isAbsent(err error) bool { return strings.Contains(err.Error(), "no such key") }

// nameOf returns what people call a path: a claim by its name.
func nameOf(path string) string {
	if claim, ok := strings.CutPrefix(path, "principal.claims"); ok && claim != "" {
		return "claim " + strings.TrimPrefix(claim, ".")
	}
	return path
}

// maxShown bounds each value that an explanation shows, in characters, and the elements of a list.
const (
	maxShown    = 128
	maxElements = 8
)

func render(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		return shown(string(v))
	case types.Timestamp:
		return v.UTC().Format(time.RFC3339)
	case types.Duration:
		return v.Duration.String()
	case types.Null:
		return "null"
	case traits.Lister:
		return renderList(v)
	case traits.Mapper:
		return fmt.Sprintf("a map of %v", v.Size())
	}
	return cut(fmt.Sprint(v.Value()))
}

func renderList(list traits.Lister) string {
	var all []string
	for it := list.Iterator(); it.HasNext() == types.True; {
		if len(all) == maxElements {
			all = append(all, "…")
			break
		}
		all = append(all, render(it.Next()))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// shown quotes a text that somebody else chose, so that it can't pass for ours.
func shown(s string) string { return strconv.Quote(cut(s)) }

func cut(s string) string {
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return s
}

// deny chooses what the log and what the caller learn of a refusal.
func (d Decision) deny(in *input, all []verdict) Decision {
	private := Finding{Reason: ReasonNoRuleMatches}
	if v, ok := nearestOf(all); ok {
		private = v.finding(in)
	}
	nearest, ok := nearestOf(slices.DeleteFunc(all, func(v verdict) bool { return !v.visible }))
	if !ok {
		return d.hidden(in.want.Target, private)
	}
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

// nearestOf returns the rule that came nearest to matching: the one with the fewest conditions that
// fail, and the earliest of equals.
func nearestOf(all []verdict) (verdict, bool) {
	if len(all) == 0 {
		return verdict{}, false
	}
	return slices.MinFunc(all, func(a, b verdict) int { return len(a.failed) - len(b.failed) }), true
}

func (v verdict) finding(in *input) Finding {
	first := v
	first.failed = v.failed[:min(1, len(v.failed))]
	return Finding{Rule: v.name, Reason: v.reason(), Condition: first.reasons(in)[0]}
}
