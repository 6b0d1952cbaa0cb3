package policy

import (
	"errors"
	"fmt"
	"math"
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
	lacks   []lack // where nothing failed
	visible bool   // the caller may know of the rule
}

// failure is a conjunct that does not hold.
type failure struct {
	*conjunct
	err error // why it could not be evaluated; nil where it is false
}

// unknownGroups reports whether the conjunct can't be told because groups are unknown.
func (f failure) unknownGroups() bool {
	return errors.Is(f.err, errGroupsUnknown)
}

// judge holds a request against one of a target's rules.
func (o *offer) judge(in *input, of *targetRules) verdict {
	v := verdict{offer: *o, failed: append(o.who.failures(in), o.when.failures(in)...)}
	_, v.visible = of.distance(o, in, math.MaxInt, math.MaxInt)
	if len(v.failed) == 0 {
		_, v.lacks = o.terms(in)
	}
	return v
}

func (e expression) failures(in *input) []failure {
	var all []failure
	for _, c := range e {
		if c.truth(in) == isTrue {
			continue
		}
		_, _, err := c.program.Eval(in)
		all = append(all, failure{c, err})
	}
	return all
}

func (v verdict) matched() bool { return len(v.failed) == 0 && len(v.lacks) == 0 }

// reasons returns in words what keeps a rule from matching: its conditions, or else what it lacks.
func (v verdict) reasons(in *input) []string {
	var all []string
	for _, f := range v.failed {
		all = append(all, f.text+" "+f.saw(in))
	}
	for _, l := range v.lacks {
		all = append(all, l.text)
	}
	return all
}

func (v verdict) reason() string {
	switch {
	case len(v.failed) > 0 && v.failed[0].unknownGroups():
		return ReasonGroupsUnknown
	case len(v.failed) > 0:
		return ReasonNoRuleMatches
	case len(v.lacks) > 0:
		return v.lacks[0].reason
	}
	return ""
}

// ask says how to ask so that what failed first does not; empty where that is not known.
func (v verdict) ask(in *input) string {
	switch {
	case len(v.failed) > 0 && in.want.Reason == "" && v.failed[0].reads("request.reason"):
		return "send a reason with --reason"
	case len(v.failed) == 0 && len(v.lacks) > 0:
		return v.lacks[0].ask
	}
	return ""
}

func (c *conjunct) reads(path string) bool {
	return slices.ContainsFunc(c.seen, func(o observation) bool { return o.path == path })
}

func (v verdict) result(in *input) RuleResult {
	return RuleResult{Rule: v.name, Matched: v.matched(), Reason: v.reason(), Failed: v.reasons(in), Visible: v.visible}
}

// saw tells in brackets why a conjunct does not hold: what is absent, what the values were, or why
// it could not be evaluated.
func (f failure) saw(in *input) string {
	var absent, values []string
	for _, o := range f.seen {
		out, _, err := o.program.Eval(in)
		switch {
		case err != nil && failure{err: err}.unknownGroups():
			if f.err != nil {
				absent = append(absent, o.path+" is unknown: the token does not list them, which is not the same as being in none")
			}
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
