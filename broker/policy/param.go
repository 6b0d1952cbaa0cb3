package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// bounded holds parameters against a part's bounds, and returns what the issuer gets.
func (p part) bounded(sent map[string]string) (map[string]string, []lack) {
	var lacks []lack
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		if _, listed := p.params[name]; !listed {
			lacks = append(lacks, p.lacksParam(name))
		}
	}
	var out map[string]string
	for _, name := range slices.Sorted(maps.Keys(p.params)) {
		bound := p.params[name]
		value, wasSent := sent[name]
		switch {
		case wasSent:
			normal, ok := bound.normal(value)
			if !ok {
				lacks = append(lacks, bound.refuses(name, value))
			}
			value = normal
		case bound.Required:
			lacks = append(lacks, lack{ReasonParamMissing, fmt.Sprintf("parameter %s is missing", shown(name)), "send it with --param " + name + "=…" + bound.example()})
		case bound.Default == "":
			continue
		default:
			value, _ = bound.normal(bound.Default)
		}
		if out == nil {
			out = make(map[string]string, len(p.params))
		}
		out[name] = value
	}
	return out, lacks
}

// normal returns a value as the issuer gets it, and whether it is within the bound. Around the
// elements of a list white space does not count.
func (b Param) normal(value string) (string, bool) {
	if len(b.AnyOf) == 0 {
		return value, slices.Contains(b.OneOf, value)
	}
	elements := strings.Split(value, ",")
	for i, e := range elements {
		elements[i] = strings.TrimSpace(e)
		if !b.matches(elements[i]) {
			return value, false
		}
	}
	return strings.Join(elements, ","), true
}

// matches reports whether an element of a list is within any_of. What could mean something else to
// whoever reads it, such as a step out of a folder, no pattern matches.
func (b Param) matches(element string) bool {
	if element == "" {
		return false
	}
	steps := strings.FieldsFunc(element, func(r rune) bool { return r == '/' || r == '\\' })
	odd := slices.Contains(steps, ".") || slices.Contains(steps, "..") || strings.ContainsFunc(element, func(r rune) bool { return r < ' ' || r == 0x7f })
	return slices.ContainsFunc(b.AnyOf, func(pattern string) bool {
		return element == pattern || !odd && glob.Pattern(pattern).Match(element)
	})
}

// allowed lists what the bound allows, in words.
func (b Param) allowed() string {
	var all []string
	for _, v := range append(slices.Clone(b.OneOf), b.AnyOf...) {
		all = append(all, strconv.Quote(v))
	}
	return strings.Join(all, ", ")
}

// example names the values that can be sent, where they are few.
func (b Param) example() string {
	if len(b.OneOf) == 0 || len(b.OneOf) > 4 {
		return ""
	}
	return ", one of " + strings.Join(b.OneOf, ", ")
}

func (b Param) refuses(name, value string) lack {
	text := fmt.Sprintf("parameter %s has %s, which is not allowed (the rule allows %s)", shown(name), shown(value), b.allowed())
	if strings.Trim(value, ", \t") == "" {
		text = fmt.Sprintf("parameter %s is an empty list (the rule allows %s)", shown(name), b.allowed())
	}
	return lack{ReasonParamNotAllowed, text, ""}
}

func (p part) lacksParam(name string) lack {
	list := "no parameters"
	if len(p.params) > 0 {
		var known []string
		for _, n := range slices.Sorted(maps.Keys(p.params)) {
			known = append(known, strconv.Quote(n))
		}
		list = strings.Join(known, ", ")
	}
	return lack{ReasonParamNotAllowed, fmt.Sprintf("parameter %s is not allowed (the rule allows %s)", shown(name), list), "ask without it"}
}

// maxParam is the longest name of a parameter, in bytes, as the wire API bounds it.
const maxParam = 64

func (c *compiler) params(path string, all map[string]Param) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		at, b := strictyaml.Key(path, name), all[name]
		if name == "" || len(name) > maxParam {
			c.refuse(at, fmt.Sprintf("must have a name of 1 to %d bytes", maxParam), "")
		}
		if (len(b.OneOf) == 0) == (len(b.AnyOf) == 0) {
			c.refuse(at, "must have one_of or any_of, and not both", `any_of: ["*"] allows every value`)
		}
		for i, v := range append(slices.Clone(b.OneOf), b.AnyOf...) {
			if v == "" || strings.Contains(v, ",") && len(b.AnyOf) > 0 {
				c.refuse(at, fmt.Sprintf("has a value (number %d) that is empty, or a pattern with a comma, which nothing can match", i+1), "")
			}
		}
		if b.Default == "" {
			continue
		}
		if _, ok := b.normal(b.Default); !ok {
			c.refuse(at+".default", "is not within the bound", "")
		}
		if b.Required {
			c.refuse(at+".default", "has no use: the parameter must be sent", "leave out default or required")
		}
	}
}
