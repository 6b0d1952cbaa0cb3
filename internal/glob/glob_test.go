package glob

import "testing"

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true},
		{"a", "ab", false},
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a/b", true},
		{"a*", "a", true},
		{"a*", "ba", false},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*c", "a-b-c", true},
		{"a*b*c", "acb", false},
		{"a*bc*c", "abc", false},
		{"**", "x", true},
		{"a.c", "abc", false},
		{"[a]", "a", false},
	} {
		if got := Pattern(c.pattern).Match(c.name); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.name, got, c.want)
		}
	}
}

func TestLiteral(t *testing.T) {
	for pattern, want := range map[string]bool{"a": true, "a?[b]": true, "": true, "*": false, "a*": false} {
		if got := Pattern(pattern).Literal(); got != want {
			t.Errorf("%q is literal: %v, want %v", pattern, got, want)
		}
	}
}
