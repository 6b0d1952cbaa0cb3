package proxy

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/daypass-io/daypass/cred"
)

var (
	errPath = refusal(cred.Invalid, "path",
		`this request's path could be read in more than one way; send it without "..", ".", "//", backslashes and control characters, encoded ones included`)
	errLongPath = refusal(cred.Invalid, "path_too_long", "this request's path is longer than 8192 bytes")
	errTarget   = refusal(cred.NotFound, "target_unknown", "the path does not begin with the name of a target: /TARGET/…")
)

const (
	maxPath = 8192
	// maxDecode is how often a path is decoded to see what it hides. An upstream that decodes more
	// often than that is beyond help; a path that is not plain by then is refused.
	maxDecode = 4
)

// splitPath splits an escaped path into the target's name and the rest, which is empty or begins
// with a slash. The rest is safe to append to an upstream's base path: however often an upstream
// decodes it, it does not climb.
func splitPath(escaped string) (target, rest string, err error) {
	if len(escaped) > maxPath {
		return "", "", errLongPath
	}
	after, ok := strings.CutPrefix(escaped, "/")
	if !ok {
		return "", "", errTarget
	}
	target, _, _ = strings.Cut(after, "/")
	rest = after[len(target):]
	if !isTarget(target) {
		return "", "", errTarget
	}
	return target, rest, checkPath(rest)
}

// isTarget reports whether a path segment can be a target's name: letters, digits, dots, hyphens
// and underscores, the first of them a letter or digit.
func isTarget(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// checkPath refuses an escaped path that means something else than it seems, in each of the forms
// that decoding gives.
func checkPath(path string) error {
	for range maxDecode {
		if !isPlain(path) {
			return errPath
		}
		decoded, err := url.PathUnescape(path)
		if err != nil || decoded == path {
			return nil //nolint:nilerr // a percent sign that begins no escape stays what it is
		}
		path = decoded
	}
	return errPath
}

// isPlain reports whether a path has no segment that climbs or vanishes and no character that some
// servers take for a slash or an end.
func isPlain(path string) bool {
	if !utf8.ValidString(path) || strings.ContainsRune(path, '\\') || strings.ContainsFunc(path, isControl) || strings.Contains(path, "//") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		name, _, parameters := strings.Cut(segment, ";") // some servers drop what follows: "..;x" climbs
		if name = strings.TrimSpace(name); name == "." || name == ".." || name == "" && parameters {
			return false
		}
	}
	return true
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
