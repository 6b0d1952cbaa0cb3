package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// errGroupsUnknown is why an expression that needs a token's groups fails where the token does not
// list them.
var errGroupsUnknown = errors.New("groups are unknown")

// group is a compiled Group.
type group struct {
	members []Member
	who     expression // nil: members alone
}

// has reports whether somebody is in the group, or that it can't be told because their token does
// not list the groups that its expression reads.
func (g *group) has(who *cred.Principal, s *Set) (bool, error) {
	if slices.ContainsFunc(g.members, func(m Member) bool { return m.is(who) }) {
		return true, nil
	}
	if g.who == nil {
		return false, nil
	}
	in := &input{set: s, who: newCaller(who, nil), want: &cred.Request{}, values: make([]value, len(s.words.keys))}
	failures := g.who.failures(in)
	if slices.ContainsFunc(failures, func(f failure) bool { return f.unknownGroups() }) &&
		!slices.ContainsFunc(failures, func(f failure) bool { return !f.unknownGroups() }) {
		return false, errGroupsUnknown
	}
	return len(failures) == 0 && len(g.who.uncautioned(*who)) == 0, nil
}

// is reports whether a principal is the person.
func (m Member) is(p *cred.Principal) bool {
	if m.Provider != p.Provider {
		return false
	}
	if m.Subject != "" {
		return m.Subject == p.Subject
	}
	mail, _ := p.Claims["email"].(string)
	verified := p.Claims["email_verified"]
	return mail != "" && strings.EqualFold(mail, m.Email) && (verified == true || verified == "true")
}

// caller is a principal as expressions see it.
type caller struct {
	*cred.Principal
	actor *caller // nil where nobody acts for it
	set   *Set    // whose groups count beside the token's; nil: none
	known map[string]membership
}

// membership is whether somebody is in one of the set's groups.
type membership struct {
	in  bool
	err error
}

func newCaller(p *cred.Principal, s *Set) *caller {
	c := &caller{Principal: p, set: s}
	if p.Actor != nil {
		c.actor = newCaller(p.Actor, s)
	}
	return c
}

// inGroup reports whether the caller is in a group.
func (c *caller) inGroup(name string) (bool, error) {
	if c.set != nil && c.set.groups[name] != nil {
		m, ok := c.known[name]
		if !ok {
			if c.known == nil {
				c.known = map[string]membership{}
			}
			m.in, m.err = c.set.groups[name].has(c.Principal, c.set)
			c.known[name] = m
		}
		return m.in, m.err
	}
	if c.Groups == nil {
		return false, errGroupsUnknown
	}
	return slices.Contains(c.Groups, name), nil
}

// allGroups returns every group that the caller is in.
func (c *caller) allGroups() ([]string, error) {
	switch {
	case c.Groups == nil:
		return nil, errGroupsUnknown
	case c.set == nil || len(c.set.groups) == 0:
		return c.Groups, nil
	}
	return c.knownGroups(), nil
}

// knownGroups returns the groups that the caller is known to be in, sorted.
func (c *caller) knownGroups() []string {
	var all []string
	for _, name := range c.Groups {
		if c.set.groups[name] == nil {
			all = append(all, name)
		}
	}
	for name := range c.set.groups {
		if in, err := c.inGroup(name); in && err == nil {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Groups returns the groups that a principal is known to be in, sorted: those of the rule set, and
// those of the token that the rule set does not define.
func (s *Set) Groups(who cred.Principal) []string { return newCaller(&who, s).knownGroups() }

func (c *compiler) groups() {
	names := map[string]bool{}
	for i, g := range c.src.Groups {
		path := strictyaml.Index("groups", i)
		c.name(path+".name", g.Name, names)
		if len(g.Members) == 0 && g.Who == "" {
			c.refuse(path, "has neither members nor who, so that nobody is in it", "")
		}
		for j, m := range g.Members {
			c.member(c.src.At, strictyaml.Index(path+".members", j), m)
		}
		compiled := &group{members: g.Members}
		if g.Who != "" {
			compiled.who = c.expression(c.env.role, path+".who", g.Who)
		}
		c.set.groups[g.Name] = compiled
	}
}

// member checks how a person is named, in the file that at is of.
func (c *compiler) member(at *strictyaml.Node, path string, m Member) {
	if c.src.Providers != nil && !slices.Contains(c.src.Providers, m.Provider) {
		c.problems = append(c.problems, at.Problem(path+".provider", fmt.Sprintf("there is no identity provider %q", m.Provider), strictyaml.DidYouMean(m.Provider, c.src.Providers)))
	}
	if (m.Subject == "") == (m.Email == "") {
		c.problems = append(c.problems, at.Problem(path, "must have a subject or an email, and not both", ""))
	}
}

// group checks the name of a group that people must be in.
func (c *compiler) group(path, name string) {
	var known []string
	for _, g := range c.src.Groups {
		known = append(known, g.Name)
	}
	switch {
	case name == "" || len(name) > maxGroup:
		c.refuse(path, fmt.Sprintf("must have 1 to %d bytes", maxGroup), "")
	case c.src.NoTokenGroups && !slices.Contains(known, name):
		c.refuse(path, fmt.Sprintf("there is no group %q in groups, and no identity provider has a groups_claim", name), strictyaml.DidYouMean(name, known))
	}
}

// maxGroup is the longest name of a group, in bytes.
const maxGroup = 256

// groupTest takes the place of `"NAME" in principal.groups`, for a group of the set: it can be told
// also where the token's groups are unknown. actor says that it is about principal.actor.
type groupTest struct {
	interpreter.Interpretable
	name  string
	actor bool
}

// Eval implements interpreter.Interpretable.
func (t groupTest) Eval(vars cel.Activation) ref.Val {
	v, _ := vars.ResolveName("principal")
	c, ok := v.(*caller)
	if ok && t.actor {
		c, ok = c.actor, c.actor != nil
	}
	if !ok {
		return types.WrapErr(errAbsent)
	}
	in, err := c.inGroup(t.name)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(in)
}
