package policy

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Bounds of a rule set.
const (
	MaxTTL = 30 * 24 * time.Hour // of a rule's ttl
	MinTTL = time.Second
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
		src: src, env: env,
		set: &Set{targets: map[string]cred.Target{}, byTarget: map[string][]offer{}, roles: map[string]expression{}},
	}
	c.targets()
	c.roles()
	c.rules()
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	c.set.text = canonical(src)
	c.set.hash = hashOf(c.set.text)
	return c.set, nil
}

type compiler struct {
	src      Source
	env      environments
	set      *Set
	problems strictyaml.Problems
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

func (c *compiler) rules() {
	names := map[string]bool{}
	for i, r := range c.src.Rules {
		path := strictyaml.Index("rules", i)
		c.name(path+".name", r.Name, names)
		compiled := &rule{name: r.Name, ttl: r.TTL}
		compiled.who = c.expression(c.env.rule, path+".who", r.Who)
		if r.When != "" {
			compiled.when = c.expression(c.env.rule, path+".when", r.When)
		}
		c.ttl(path+".ttl", r.TTL)
		c.may(path, compiled, r.May)
	}
}

func (c *compiler) ttl(path string, ttl time.Duration) {
	if ttl < MinTTL {
		c.refuse(path, "must be set, and at least 1s", `such as "15m"`)
	} else if ttl > MaxTTL {
		c.refuse(path, "is longer than 30d, the longest that a grant can live", "")
	}
}

// may adds a rule to the index of every target that it names.
func (c *compiler) may(path string, r *rule, all []May) {
	if len(all) == 0 {
		c.refuse(path+".may", "lists nothing, so the rule allows nothing", "")
	}
	scopes := map[string][]glob.Pattern{}
	for i, m := range all {
		at := strictyaml.Index(path+".may", i)
		for _, name := range c.named(at+".target", m.Target) {
			scopes[name] = append(scopes[name], c.scopes(at, m.Scopes)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(scopes)) {
		c.set.byTarget[name] = append(c.set.byTarget[name], offer{r, scopes[name]})
	}
}

// named returns the targets that a pattern names.
func (c *compiler) named(path, pattern string) []string {
	var names, known []string
	for _, t := range c.src.Targets {
		known = append(known, t.Name)
		if glob.Pattern(pattern).Match(t.Name) && !slices.Contains(names, t.Name) {
			names = append(names, t.Name)
		}
	}
	switch {
	case len(names) > 0:
	case glob.Pattern(pattern).Literal():
		c.refuse(path, fmt.Sprintf("there is no target %q", pattern), strictyaml.DidYouMean(pattern, known))
	default:
		c.refuse(path, fmt.Sprintf("no target's name matches %q", pattern), "")
	}
	return names
}

func (c *compiler) scopes(path string, scopes []string) []glob.Pattern {
	globs := make([]glob.Pattern, len(scopes))
	for i, s := range scopes {
		if s == "" || len(s) > maxScope {
			c.refuse(strictyaml.Index(path+".scopes", i), fmt.Sprintf("must have 1 to %d bytes", maxScope), "")
		}
		globs[i] = glob.Pattern(s)
	}
	return globs
}

// maxScope is the longest scope that can be asked for, in bytes, as the wire API bounds it.
const maxScope = 256

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
	e, faults := compileExpression(env, text, c.src.Providers)
	for _, f := range faults {
		c.problems = append(c.problems, c.src.At.ProblemIn(path, f.offset, f.message, f.hint))
	}
	return e
}

// canonical renders what a set is made of, in a form that layout does not change. The order of rules
// has a meaning and stays; that of targets has none.
func canonical(src Source) []byte {
	out := Source{Roles: maps.Clone(src.Roles), Rules: slices.Clone(src.Rules), Targets: slices.Clone(src.Targets)}
	for name, e := range out.Roles {
		out.Roles[name] = strings.TrimSpace(e)
	}
	for i, r := range out.Rules {
		out.Rules[i].Who, out.Rules[i].When = strings.TrimSpace(r.Who), strings.TrimSpace(r.When)
	}
	for i, t := range out.Targets {
		out.Targets[i].Deliver = string(t.delivery())
	}
	slices.SortFunc(out.Targets, func(a, b Target) int { return strings.Compare(a.Name, b.Name) })
	return strictyaml.Render(out)
}
