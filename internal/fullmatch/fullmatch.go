// Package fullmatch is the one place where a regular expression of the configuration is anchored.
// A pattern is RE2 (package regexp) and always means the whole text: it is grouped before it is
// anchored, so that "a|b" matches "a" and "b" and nothing that only begins or ends with them.
package fullmatch

import (
	"fmt"
	"regexp"
)

// Anchor returns the pattern that matches a whole text where pattern matches it. The error says what
// is wrong with pattern.
func Anchor(pattern string) (string, error) {
	if _, err := regexp.Compile(pattern); err != nil { // alone first: "a)(b" is none, though "(a)(b)" is
		return "", fmt.Errorf("is not a regular expression: %w", err)
	}
	anchored := `\A(?:` + pattern + `)\z`
	if _, err := regexp.Compile(anchored); err != nil {
		return "", fmt.Errorf("is not a regular expression that can be anchored: %w", err)
	}
	return anchored, nil
}

// Compile returns pattern, anchored.
func Compile(pattern string) (*regexp.Regexp, error) {
	anchored, err := Anchor(pattern)
	if err != nil {
		return nil, err
	}
	return regexp.Compile(anchored)
}
