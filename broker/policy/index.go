package policy

import (
	"cmp"
	"maps"
	"slices"
)

// targetRules are the rules of one target, in file order, with indexes by what their simple
// conditions compare: a rule that holds only where a text has a certain value need not be looked at
// where it has another.
type targetRules struct {
	offers  []offer
	indexes []ruleIndex
	always  []int // the offers that no index holds

	checks []check // the conditions of all offers, one after the other
}

// ruleIndex holds rules by what one text must be for them to match.
type ruleIndex struct {
	key       int
	byLiteral map[int32][]int
}

// check is a condition, packed so that those of many rules are near each other in memory.
type check struct {
	key, literal  int32 // of a simple condition with one literal; a literal of zero marks all others
	aboutProvider bool
	ofWhen        bool
	*conjunct
}

func (c *check) holds(in *input) bool {
	if c.literal == 0 {
		return c.truth(in) == isTrue
	}
	v := &in.values[c.key]
	if !v.read {
		in.value(int(c.key))
	}
	return v.literal == c.literal
}

// prepare makes the indexes, and packs the conditions.
func (t *targetRules) prepare() {
	t.index()
	for i := range t.offers {
		o := &t.offers[i]
		o.firstCheck = len(t.checks)
		for _, c := range o.who {
			t.checks = append(t.checks, newCheck(c, false))
		}
		for _, c := range o.when {
			t.checks = append(t.checks, newCheck(c, true))
		}
		o.endCheck = len(t.checks)
		o.aboutProvider = slices.ContainsFunc(o.who, func(c *conjunct) bool { return c.aboutProvider })
	}
}

func newCheck(c *conjunct, ofWhen bool) check {
	out := check{aboutProvider: c.aboutProvider, ofWhen: ofWhen, conjunct: c}
	if s := c.simple; s != nil && len(s.literals) == 1 {
		out.key, out.literal = int32(s.key), s.literals[0]
	}
	return out
}

// index puts each rule into the index of its simple condition that tells most rules apart.
func (t *targetRules) index() {
	distinct := map[int]map[int32]bool{}
	for _, o := range t.offers {
		for _, s := range o.indexable() {
			if distinct[s.key] == nil {
				distinct[s.key] = map[int32]bool{}
			}
			for _, l := range s.literals {
				distinct[s.key][l] = true
			}
		}
	}
	indexes := map[int]map[int32][]int{}
	for i, o := range t.offers {
		all := o.indexable()
		if len(all) == 0 {
			t.always = append(t.always, i)
			continue
		}
		best := slices.MaxFunc(all, func(a, b *simple) int {
			return cmp.Or(len(distinct[a.key])-len(distinct[b.key]), b.key-a.key)
		})
		if indexes[best.key] == nil {
			indexes[best.key] = map[int32][]int{}
		}
		for _, l := range slices.Compact(slices.Sorted(slices.Values(best.literals))) {
			indexes[best.key][l] = append(indexes[best.key][l], i)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(indexes)) {
		t.indexes = append(t.indexes, ruleIndex{key, indexes[key]})
	}
}

// indexable returns the simple conditions of a rule that compare a text.
func (o offer) indexable() []*simple {
	var all []*simple
	for _, e := range []expression{o.who, o.when} {
		for _, c := range e {
			if c.simple != nil && !c.simple.isGroup {
				all = append(all, c.simple)
			}
		}
	}
	return all
}

// candidates returns the rules that may match, in file order, as indices of offers.
func (t *targetRules) candidates(in *input) []int {
	found, copied := t.always, false
	for _, x := range t.indexes {
		more := x.byLiteral[in.value(x.key).literal]
		switch {
		case len(more) == 0:
		case len(found) == 0:
			found = more
		default:
			if !copied {
				found, copied = slices.Clone(found), true
			}
			found = append(found, more...)
		}
	}
	if copied {
		slices.Sort(found)
	}
	return found
}
