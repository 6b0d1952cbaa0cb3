package policy

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// reach finds rules that can never decide: they contradict themselves, or something that wins over
// them holds wherever they do. What it finds is certain; it does not find all.
func (l *linter) reach() {
	denials, earlier := map[string][]*subject{}, map[string][]*subject{} // by the targets that they name
	for _, s := range l.subjects {
		if s.broken {
			continue
		}
		l.contradiction(s)
		if s.refuses() {
			for _, t := range s.targets {
				denials[t] = append(denials[t], s)
			}
		}
	}
	for _, s := range l.subjects {
		if s.kind != "rule" || s.broken || len(s.targets) == 0 {
			continue
		}
		l.covered(s, denials[s.targets[0]], earlier[s.targets[0]])
		if s.sometimes {
			continue
		}
		for _, t := range s.targets {
			earlier[t] = append(earlier[t], s)
		}
	}
}

// covered finds a deny rule, or an earlier rule, that holds wherever a rule does. Both name its first
// target.
func (l *linter) covered(s *subject, denials, earlier []*subject) {
	known := s.condition.must()
	for _, d := range denials {
		if d.followsFrom(s, known) && denies(d, s) {
			l.unreachable(s, fmt.Sprintf("%s refuses whatever it would allow", d))
			return
		}
	}
	for _, e := range earlier {
		if e.followsFrom(s, known) && covers(e, s) {
			l.unreachable(s, fmt.Sprintf("%s, which comes first, matches whenever this one does", e))
			return
		}
	}
}

func (l *linter) unreachable(s *subject, message string) {
	l.report(place{path: s.path}, Flaw{
		ID: "unreachable-rule", Severity: SeverityError, Subject: s.String(), Message: message,
		Why:     "the rule decides nothing: its ttl, its approval and its conditions never count, whoever reads it",
		Rewrite: "remove it, or put it before the other one, or narrow the other one",
	})
}

// followsFrom reports whether a subject's conditions all follow from those of another, which has some
// facts: each of them is plainly true, is among the other's, or takes all the values that a fact has.
func (s *subject) followsFrom(other *subject, known []fact) bool {
	for i, text := range s.texts {
		if text == "true" || slices.Contains(other.texts, text) {
			continue
		}
		f := s.conjuncts[i].fact
		if f == nil || !slices.ContainsFunc(known, func(k fact) bool { return k.implies(*f) }) {
			return false
		}
	}
	return true
}

// implies reports whether a fact holds wherever this one does.
func (f fact) implies(g fact) bool {
	if f.path != g.path || f.path == "" || !f.literal || !g.literal {
		return false
	}
	switch {
	case f.isEquality() && g.isEquality():
		return subset(f.values, g.values)
	case f.isEquality() && (g.op == "not ==" || g.op == "not in"):
		return !slices.ContainsFunc(f.values, func(v string) bool { return slices.Contains(g.values, v) })
	}
	return f.op == g.op && slices.Equal(f.values, g.values)
}

func subset(small, large []string) bool {
	return !slices.ContainsFunc(small, func(v string) bool { return !slices.Contains(large, v) })
}

// covers reports whether a rule allows all that another does: for every target, every scope, with the
// same parameters.
func covers(e, s *subject) bool {
	for _, m := range s.may {
		for _, target := range s.targets {
			if glob.Pattern(m.Target).Match(target) && !coversTarget(e, target, m) {
				return false
			}
		}
	}
	return true
}

func coversTarget(e *subject, target string, m May) bool {
	var scopes []string
	found := false
	for _, o := range e.may {
		if glob.Pattern(o.Target).Match(target) {
			if len(o.Params)+len(m.Params) > 0 && !reflect.DeepEqual(o.Params, m.Params) {
				return false
			}
			found, scopes = true, append(scopes, o.Scopes...)
		}
	}
	return found && allCovered(m.Scopes, scopes)
}

// denies reports whether a deny rule refuses all that a rule allows. Without scopes it refuses all of
// a target; with them, only requests that name one.
func denies(d, s *subject) bool {
	return !slices.ContainsFunc(s.targets, func(target string) bool {
		return !slices.ContainsFunc(d.may, func(m May) bool { return len(m.Scopes) == 0 && glob.Pattern(m.Target).Match(target) })
	})
}

// allCovered reports whether each pattern is within one of others. A pattern is, where the other one
// matches its text: what its stars stand for can only be where the other one has stars too.
func allCovered(patterns, by []string) bool {
	return !slices.ContainsFunc(patterns, func(p string) bool {
		return !slices.ContainsFunc(by, func(g string) bool { return glob.Pattern(g).Match(p) })
	})
}

// contradiction finds conditions that can't hold together.
func (l *linter) contradiction(s *subject) {
	facts := s.condition.must()
	for i, f := range facts {
		for _, g := range facts[i+1:] {
			if !f.excludes(g) && !g.excludes(f) {
				continue
			}
			l.report(g.place, Flaw{
				ID: "unreachable-rule", Severity: SeverityError, Subject: s.String(),
				Message: fmt.Sprintf("%s can't be true together with %s", g.text, f.text),
				Why:     "nobody ever meets both, so that this decides nothing",
				Rewrite: "join the two with ||, or split the rule in two",
			})
			return
		}
	}
	if slices.Contains(s.texts, "false") {
		l.report(place{path: strictyaml.Key(s.path, "who")}, Flaw{
			ID: "unreachable-rule", Severity: SeverityError, Subject: s.String(),
			Message: "a condition is false", Why: "nobody ever meets it, so that this decides nothing", Rewrite: "remove it",
		})
	}
}

// excludes reports whether two facts can't both hold.
func (f fact) excludes(g fact) bool {
	if f.path != g.path || f.path == "" || !f.literal || !g.literal || !f.isEquality() {
		return false
	}
	switch g.op {
	case "==", "in":
		return !slices.ContainsFunc(f.values, func(v string) bool { return slices.Contains(g.values, v) })
	case "not ==", "not in":
		return subset(f.values, g.values)
	}
	return false
}
