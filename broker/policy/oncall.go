package policy

import (
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// schedule is a compiled OnCall, its shifts in the order in which they begin.
type schedule struct {
	name   string
	shifts []shift
}

type shift struct {
	person      Member
	from, until time.Time
}

// until returns when somebody's shift ends, those that follow it without a break included; ok is false
// where they are not on call. Somebody whose identity is doubtful is not.
func (s *schedule) until(who *cred.Principal, now time.Time) (end time.Time, ok bool) {
	if len(who.Cautions) > 0 {
		return time.Time{}, false
	}
	end = now
	for _, t := range s.shifts {
		if !t.from.After(end) && t.until.After(end) && t.person.is(who) {
			end, ok = t.until, true
		}
	}
	return end, ok
}

// onCall compiles the schedules, and returns them by name.
func (c *compiler) onCall() {
	names := map[string]bool{}
	for i, o := range c.src.OnCall {
		path := strictyaml.Index("on_call", i)
		c.name(path+".name", o.Name, names)
		at, below := c.src.At, path+".shifts"
		if o.At != nil {
			at, below = o.At, "shifts"
		}
		s := &schedule{name: o.Name}
		for j, t := range o.Shifts {
			s.shifts = append(s.shifts, c.shift(at, strictyaml.Index(below, j), t))
		}
		slices.SortStableFunc(s.shifts, func(a, b shift) int { return a.from.Compare(b.from) })
		c.schedules[o.Name] = s
	}
}

func (c *compiler) shift(at *strictyaml.Node, path string, t Shift) shift {
	instant := func(key, text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			c.problems = append(c.problems, at.Problem(path+key, `must be an instant such as "2026-03-02T09:00:00+01:00" (RFC 3339)`, ""))
		}
		return v
	}
	c.member(at, path+".person", t.Person)
	out := shift{person: t.Person, from: instant(".from", t.From), until: instant(".until", t.Until)}
	if !out.until.After(out.from) && !out.from.IsZero() && !out.until.IsZero() {
		c.problems = append(c.problems, at.Problem(path+".until", "is not after from", ""))
	}
	return out
}
