package fullmatch

import "testing"

func TestCompile(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a|b", "a", true},
		{"a|b", "b", true},
		{"a|b", "ax", false},
		{"a|b", "xb", false},
		{"(?i)main|dev", "MAIN", true},
		{"(?m)^a$", "a\nb", false},
		{"a", "a\n", false},
		{".*", "a\nb", false},
		{"", "", true},
		{"", "x", false},
		{"^(refs/heads/main)$", "refs/heads/main", true},
	} {
		re, err := Compile(c.pattern)
		if err != nil {
			t.Fatalf("Compile(%q): %v", c.pattern, err)
		}
		if got := re.MatchString(c.text); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.text, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, pattern := range []string{"a)(?:b", "(", `\Qa`, "a**", `\1`, "(?=a)"} {
		if re, err := Compile(pattern); err == nil {
			t.Errorf("Compile(%q) = %s, want an error", pattern, re)
		}
	}
}
