package policy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Bounds of a rule.
const (
	MaxTTL = 30 * 24 * time.Hour // of a grant
	MinTTL = time.Second

	maxWithin     = 7 * 24 * time.Hour  // of an approval
	maxReview     = 30 * 24 * time.Hour // of a review after break-glass
	maxBreakGlass = 24 * time.Hour      // of a grant by break-glass
	maxRenewals   = 1000
	maxCount      = 20 // of people in one group
	maxQuorums    = 16 // in one list of an approval
)

func (c *compiler) rules(names map[string]bool) {
	for i, r := range c.src.Rules {
		path := strictyaml.Index("rules", i)
		c.name(path+".name", r.Name, names)
		compiled := &rule{name: r.Name, ttl: r.TTL, deliver: cred.Delivery(r.Deliver), renewals: r.Renewals}
		compiled.who = c.expression(c.env.rule, path+".who", r.Who)
		if r.When != "" {
			compiled.when = c.expression(c.env.rule, path+".when", r.When)
		}
		c.duration(path+".ttl", r.TTL, MinTTL, MaxTTL)
		compiled.bind = c.bind(path+".bind", r.Bind)
		compiled.windows = c.windows(path+".windows", r.Windows)
		c.approval(path+".approval", compiled, r.Approval)
		c.breakGlass(path, compiled, r)
		if r.Renewals < 0 || r.Renewals > maxRenewals {
			c.refuse(path+".renewals", fmt.Sprintf("must be from 0 to %d", maxRenewals), "")
		}
		c.may(path, compiled, r.May)
	}
	for _, t := range c.set.rules {
		t.prepare()
	}
}

// duration checks a duration that must be set.
func (c *compiler) duration(path string, d, least, most time.Duration) {
	switch {
	case d < least:
		c.refuse(path, "must be set, and at least "+spelt(least), `such as "15m"`)
	case d > most:
		c.refuse(path, "is longer than "+spelt(most)+", the longest that it can be", "")
	}
}

// spelt writes a duration as the configuration has it.
func spelt(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= unit.length && d%unit.length == 0 {
			return fmt.Sprintf("%d%s", d/unit.length, unit.name)
		}
	}
	return d.String()
}

func (c *compiler) bind(path string, all []string) []cred.Binding {
	var out []cred.Binding
	for i, b := range all {
		switch cred.Binding(b) {
		case cred.BindDPoP, cred.BindMTLS:
			out = append(out, cred.Binding(b))
		default:
			c.refuse(strictyaml.Index(path, i), "is not a way of binding", "possible are dpop, mtls")
		}
	}
	return out
}

// may adds a rule to every target that it names.
func (c *compiler) may(path string, r *rule, all []May) {
	if len(all) == 0 {
		c.refuse(path+".may", "lists nothing, so the rule allows nothing", "")
	}
	parts := map[string][]part{}
	for i, m := range all {
		at := strictyaml.Index(path+".may", i)
		c.params(at+".params", m.Params)
		p := part{scopes: c.scopes(at, m.Scopes), params: m.Params}
		for _, name := range c.named(at+".target", m.Target) {
			parts[name] = withPart(parts[name], p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if c.set.targets[name].HTTP == nil && r.deliver == cred.DeliverProxy {
			c.refuse(path+".deliver", fmt.Sprintf("target %q has no http, so that a proxy would not know where to spend the credential", name), "")
		}
		t := c.set.rules[name]
		if t == nil {
			t = &targetRules{}
			c.set.rules[name] = t
		}
		t.offers = append(t.offers, offer{rule: r, parts: parts[name]})
	}
}

// withPart adds what belongs together: scopes for which the same parameters may be sent count as one
// part, others never mix.
func withPart(all []part, p part) []part {
	for i, q := range all {
		if maps.EqualFunc(q.params, p.params, Param.equal) {
			all[i].scopes = slices.Concat(q.scopes, p.scopes)
			return all
		}
	}
	return append(all, p)
}

func (b Param) equal(c Param) bool {
	return b.Required == c.Required && b.Default == c.Default && slices.Equal(b.OneOf, c.OneOf) && slices.Equal(b.AnyOf, c.AnyOf)
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

// maxScope is the longest scope that can be asked for, in bytes, as the wire API bounds it.
const maxScope = 256

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
