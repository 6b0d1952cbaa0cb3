// Package glob matches names with patterns, in the one way that the broker and its proxies share.
package glob

import "strings"

// Pattern is a pattern that means a whole name: "*" stands for any characters, none included, and all
// else for itself.
type Pattern string

// Match reports whether the pattern matches a name, in time proportional to their product at most.
func (g Pattern) Match(name string) bool {
	parts := strings.Split(string(g), "*")
	if len(parts) == 1 {
		return string(g) == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return true
}

// Literal reports whether the pattern is a plain name.
func (g Pattern) Literal() bool { return !strings.Contains(string(g), "*") }
