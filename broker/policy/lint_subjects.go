package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// subject is a part of the rule set that has conditions: a rule, a deny rule, a group or a role.
type subject struct {
	kind, name string // "rule", "deny rule", "group" or "role"
	path       string
	texts      []string // of the parts between the outermost && of its expressions
	condition  branch   // all of its expressions, of which each must hold
	conjuncts  []branch // the parts whose texts are in texts
	may        []May
	targets    []string // the names of those that may names, in file order
	sometimes  bool     // it has terms besides its conditions that may keep it from matching
	broken     bool     // an expression can't be read, so that nothing is known of what it means
}

// String names the subject for people.
func (s *subject) String() string { return named(s.kind, s.name) }

func named(kind, name string) string { return fmt.Sprintf("%s %q", kind, name) }

// refuses reports whether the subject takes away and gives nothing.
func (s *subject) refuses() bool { return s.kind == "deny rule" }

func (l *linter) readSubjects() {
	reader := newConditionReader()
	add := func(s *subject, expressions ...strictText) {
		s.condition.all = true
		for _, e := range expressions {
			if strings.TrimSpace(e.text) == "" {
				continue
			}
			b, texts, err := reader.read(e.path, e.text)
			s.broken = s.broken || err != nil
			s.texts = append(s.texts, texts...)
			s.condition.parts = append(s.condition.parts, b)
			s.conjuncts = append(s.conjuncts, b.parts...)
		}
		s.targets = l.targetNames(s.may)
		l.subjects = append(l.subjects, s)
	}
	for i, r := range l.Source.Rules {
		path := strictyaml.Index("rules", i)
		sometimes := len(r.Windows) > 0 || len(r.Bind) > 0 || r.BreakGlass != nil
		add(&subject{kind: "rule", name: r.Name, path: path, may: r.May, sometimes: sometimes}, strictText{path + ".who", r.Who}, strictText{path + ".when", r.When})
	}
	for i, d := range l.Source.Deny {
		path := strictyaml.Index("deny", i)
		add(&subject{kind: "deny rule", name: d.Name, path: path, may: mayOf(d)}, strictText{path + ".who", d.Who}, strictText{path + ".when", d.When})
	}
	for i, g := range l.Source.Groups {
		path := strictyaml.Index("groups", i)
		add(&subject{kind: "group", name: g.Name, path: path}, strictText{path + ".who", g.Who})
	}
	for _, name := range slices.Sorted(maps.Keys(l.Source.Roles)) {
		path := strictyaml.Key("roles", name)
		add(&subject{kind: "role", name: name, path: path}, strictText{path, l.Source.Roles[name]})
	}
}

// strictText is a text at a path of the file.
type strictText struct{ path, text string }

// mayOf writes what a deny rule refuses as what a rule allows.
func mayOf(d Deny) []May {
	all := make([]May, len(d.May))
	for i, m := range d.May {
		all[i] = May{Target: m.Target, Scopes: m.Scopes}
	}
	return all
}

// providersOf returns the configured providers whose callers a subject can be about: those that it
// names, else all.
func (l *linter) providersOf(s *subject) []LintProvider {
	return slices.DeleteFunc(slices.Clone(l.Providers), func(p LintProvider) bool {
		return slices.ContainsFunc(s.condition.must(), func(f fact) bool {
			switch {
			case f.path == "principal.provider" && f.literal:
				return f.isEquality() != slices.Contains(f.values, p.Name)
			case f.path == "principal.issuer" && f.literal && p.Issuer != "":
				return f.isEquality() != slices.Contains(f.values, p.Issuer)
			}
			return false
		})
	})
}

// mayBeFrom reports whether callers of a provider with one of some presets can meet a subject.
func (l *linter) mayBeFrom(s *subject, presets ...string) bool {
	return slices.ContainsFunc(l.providersOf(s), func(p LintProvider) bool { return slices.Contains(presets, p.Preset) })
}

// targetNames returns the names of all targets that are named, in file order.
func (l *linter) targetNames(may []May) []string {
	var names []string
	for _, t := range l.Source.Targets {
		if slices.ContainsFunc(may, func(m May) bool { return glob.Pattern(m.Target).Match(t.Name) }) {
			names = append(names, t.Name)
		}
	}
	return names
}

// targetsOf returns the targets that a pattern names, in file order.
func (l *linter) targetsOf(pattern string) []Target {
	return slices.DeleteFunc(slices.Clone(l.Source.Targets), func(t Target) bool { return !glob.Pattern(pattern).Match(t.Name) })
}

// span writes a duration without the zeros at its end: 8h, not 8h0m0s.
func span(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}
