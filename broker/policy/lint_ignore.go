package policy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// remark is a comment that says what to ignore.
type remark struct {
	line       int // from 1
	id, reason string
	path       string // of what it stands at
	used       bool
}

var ignorePattern = regexp.MustCompile(`(?:^|\s)#\s*lint:ignore(?:\s+([a-z-]+))?(?:\s+(\S.*?))?\s*$`)

// ignore marks the flaws that comments speak of, and finds comments that speak of none.
func (l *linter) ignore() {
	remarks := l.remarks()
	for i := range l.flaws {
		f := &l.flaws[i]
		for j := range remarks {
			r := &remarks[j]
			if r.reason != "" && r.id == f.ID && r.path != "" && isWithin(f.Path, r.path) {
				f.Ignored, r.used = r.reason, true
			}
		}
	}
	for _, r := range remarks {
		if !r.used {
			l.flaws = append(l.flaws, l.idle(r))
		}
	}
}

func (l *linter) idle(r remark) Flaw {
	f := Flaw{
		ID: "idle-ignore", Severity: SeverityWarning, Subject: "comment",
		File: l.Source.At.Problem("", "", "").File, Line: r.line, Column: 1, Path: r.path,
		Message: "this comment ignores nothing: there is no " + r.id + " here",
		Why:     "what it was written for is gone, or stands elsewhere, and it would hide the next one",
		Rewrite: "remove it",
	}
	if r.id == "" || r.reason == "" {
		f.Message = "this comment ignores nothing: it lacks an ID, or a reason"
		f.Why = "whoever reads the rules must be able to tell why something that bites was left in"
		f.Rewrite = "# lint:ignore ID REASON"
	}
	return f
}

// isWithin reports whether a path is another one, or below it.
func isWithin(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// remarks reads the comments of the file. One that has a line to itself stands at what the next line
// belongs to.
func (l *linter) remarks() []remark {
	anchors := l.anchorLines()
	lines := strings.Split(strings.ReplaceAll(string(l.Text), "\r\n", "\n"), "\n")
	var all []remark
	for i, line := range lines {
		m := ignorePattern.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		at := i
		for at+1 < len(lines) && isRemark(lines[at]) {
			at++
		}
		all = append(all, remark{line: i + 1, id: m[1], reason: m[2], path: pathAt(anchors, at+1)})
	}
	return all
}

// isRemark reports whether a line holds a comment alone, or nothing.
func isRemark(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

// anchor is where a part of the file begins.
type anchor struct {
	line int
	path string
}

// anchorLines returns where the file's sections, and the items of its lists, begin.
func (l *linter) anchorLines() []anchor {
	var all []anchor
	for _, key := range l.Source.At.Keys() {
		section := l.Source.At.Get(key)
		add := func(path string) {
			all = append(all, anchor{l.Source.At.Problem(path, "", "").Line, path})
		}
		add(strictyaml.Key("", key))
		for i := range section.Items() {
			add(strictyaml.Index(key, i))
		}
		for _, name := range section.Keys() {
			add(strictyaml.Key(key, name))
		}
	}
	slices.SortStableFunc(all, func(a, b anchor) int { return a.line - b.line })
	return all
}

// pathAt returns the part that a line is in: the last one that begins at it or above.
func pathAt(anchors []anchor, line int) string {
	path := ""
	for _, a := range anchors {
		if a.line <= line {
			path = a.path
		}
	}
	return path
}
