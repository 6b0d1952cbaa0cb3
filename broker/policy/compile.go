package policy

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Parse reads a rule set that stands in a file of its own, such as the one that Text returns. file
// names it in problems.
func Parse(file string, text []byte) (*Set, strictyaml.Problems) {
	root, problems := strictyaml.Parse(file, text)
	if len(problems) > 0 && root.Kind() == strictyaml.Null {
		return nil, problems
	}
	src := Source{At: root}
	problems = problems.Merge(root.Decode(&src))
	set, more := Compile(src)
	if problems = problems.Merge(more); len(problems) > 0 {
		return nil, problems.Sorted()
	}
	return set, nil
}

// Compile checks a rule set and makes it ready for use. With problems there is no set: a rule set is
// used as a whole or not at all.
func Compile(src Source) (*Set, strictyaml.Problems) {
	env, err := newEnvironments()
	if err != nil {
		return nil, strictyaml.Problems{{Message: err.Error()}}
	}
	c := &compiler{
		src: src, env: env, schedules: map[string]*schedule{},
		set: &Set{
			targets: map[string]cred.Target{}, rules: map[string]*targetRules{}, denials: map[string][]denial{},
			roles: map[string]expression{}, groups: map[string]*group{},
		},
	}
	c.targets()
	c.groups()
	c.onCall()
	c.roles()
	names := map[string]bool{}
	c.denials(names)
	c.rules(names)
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	c.set.text = canonical(src)
	c.set.hash = hashOf(c.set.text)
	return c.set, nil
}

type compiler struct {
	src       Source
	env       environments
	set       *Set
	schedules map[string]*schedule
	problems  strictyaml.Problems
}

func (c *compiler) refuse(path, message, hint string) {
	c.problems = append(c.problems, c.src.At.Problem(path, message, hint))
}

func (c *compiler) roles() {
	known := []string{RoleAuditor, RoleSecurity}
	for _, name := range slices.Sorted(maps.Keys(c.src.Roles)) {
		path := strictyaml.Key("roles", name)
		if !slices.Contains(known, name) {
			hint := cmp.Or(strictyaml.DidYouMean(name, known), "possible are "+strings.Join(known, ", "))
			c.refuse(path, "there is no such role", hint)
		}
		c.set.roles[name] = c.expression(c.env.role, path, c.src.Roles[name])
	}
}

// NameRule says what a name is made of, to go on "is not a name: ".
const NameRule = `use letters, digits, ".", "_" and "-", at most 128, and begin with a letter or digit`

var namePattern = regexp.MustCompile(`^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,127})$`)

// ValidName reports whether something in the configuration can have a name.
func ValidName(name string) bool { return namePattern.MatchString(name) }

// name checks a name and that it is not among those before it.
func (c *compiler) name(path, name string, names map[string]bool) {
	switch {
	case !ValidName(name):
		c.refuse(path, "is not a name: "+NameRule, "")
	case names[name]:
		c.refuse(path, fmt.Sprintf("the name %q is used twice", name), "")
	}
	names[name] = true
}

func (c *compiler) expression(env *cel.Env, path, text string) expression {
	if strings.TrimSpace(text) == "" {
		c.refuse(path, "is empty", `write "true" for everybody who is known`)
		return nil
	}
	x := &expressionCompiler{env: env, words: &c.set.words, isOurs: c.isOurs}
	e, faults := x.compile(text, c.src.Providers)
	for _, f := range faults {
		c.problems = append(c.problems, c.src.At.ProblemIn(path, f.offset, f.message, f.hint))
	}
	return e
}

// isOurs reports whether the rule set defines a group.
func (c *compiler) isOurs(group string) bool {
	return slices.ContainsFunc(c.src.Groups, func(g Group) bool { return g.Name == group })
}

// canonical renders what a set is made of, in a form that layout does not change. The order of rules
// has a meaning and stays; that of targets, groups and schedules has none. A schedule stands there
// with its shifts, wherever they were read.
func canonical(src Source) []byte {
	out := Source{
		Roles: maps.Clone(src.Roles), Targets: slices.Clone(src.Targets), Groups: slices.Clone(src.Groups),
		OnCall: slices.Clone(src.OnCall), Deny: slices.Clone(src.Deny), Rules: slices.Clone(src.Rules),
	}
	for name, e := range out.Roles {
		out.Roles[name] = strings.TrimSpace(e)
	}
	for i, t := range out.Targets {
		out.Targets[i].Deliver = string(t.delivery())
	}
	for i, g := range out.Groups {
		out.Groups[i].Who = strings.TrimSpace(g.Who)
	}
	for i := range out.OnCall {
		out.OnCall[i].File = ""
	}
	for i, d := range out.Deny {
		out.Deny[i].Who, out.Deny[i].When = strings.TrimSpace(d.Who), strings.TrimSpace(d.When)
	}
	for i, r := range out.Rules {
		out.Rules[i].Who, out.Rules[i].When = strings.TrimSpace(r.Who), strings.TrimSpace(r.When)
	}
	slices.SortFunc(out.Targets, func(a, b Target) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Groups, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(out.OnCall, func(a, b OnCall) int { return strings.Compare(a.Name, b.Name) })
	return strictyaml.Render(out)
}
