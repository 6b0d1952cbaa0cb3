package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"
)

// patterns finds comparisons that take in more, or less, than their author seems to think.
func (l *linter) patterns(s *subject) {
	s.condition.each(func(f fact, _ []fact) {
		if !f.literal || len(f.values) != 1 {
			return
		}
		value := f.values[0]
		identity := strings.HasPrefix(f.path, "principal.") && !isRef(f.path) && !s.refuses()
		switch strings.TrimPrefix(f.op, "not ") {
		case "matches":
			l.expression(s, f, value, identity)
		case "contains":
			if identity && f.op == "contains" {
				l.open(s, f, fmt.Sprintf("whatever stands before and behind %q", value), "compare the whole value with ==, or in a list of them")
			}
		case "startsWith":
			if last, _ := utf8.DecodeLastRuneInString(value); identity && f.op == "startsWith" && (value == "" || inWord(last)) {
				l.open(s, f, fmt.Sprintf("also what goes on behind %q as one word, such as %q", value, value+"-evil"), fmt.Sprintf("end it where the name ends, such as startsWith(%q), or use ==", value+"/"))
			}
		case "endsWith":
			if first, _ := utf8.DecodeRuneInString(value); identity && f.op == "endsWith" && (value == "" || inWord(first)) {
				l.open(s, f, fmt.Sprintf("also what stands before %q as one word, such as %q", value, "evil-"+value), fmt.Sprintf("begin it where the name begins, such as endsWith(%q), or use ==", "@"+value))
			}
		}
	})
}

func inWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func (l *linter) open(s *subject, f fact, takes, rewrite string) {
	l.report(f.place, Flaw{
		ID: "open-pattern", Severity: SeverityWarning, Subject: s.String(),
		Message: fmt.Sprintf("%s is not held at both ends: it takes %s", f.text, takes),
		Why:     "somebody who may choose a part of the value can make one that fits",
		Rewrite: rewrite,
	})
}

// expression looks at a regular expression. It means the whole text, whatever anchors it has.
func (l *linter) expression(s *subject, f fact, pattern string, identity bool) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return // the check of the file tells
	}
	l.anchors(s, f, pattern, tree)
	first, last := ends(tree)
	if identity && f.op == "matches" && (isAny(first) || isAny(last)) {
		l.open(s, f, "anything at "+whichEnd(first, last), "compare with ==, in or startsWith, or say what may stand there, such as [^/]+")
	}
	if at := looseDot(pattern); at >= 0 {
		l.report(f.value, Flaw{
			ID: "unescaped-dot", Severity: SeverityWarning, Subject: s.String(),
			Message: fmt.Sprintf("the dot in %q at %q stands for any character", pattern, around(pattern, at)),
			Why:     "a name with another character in its place fits as well, and may be somebody else's",
			Rewrite: fmt.Sprintf("matches(%q)", escaped(pattern)),
		})
	}
}

func whichEnd(first, last *syntax.Regexp) string {
	switch {
	case isAny(first) && isAny(last):
		return "both ends"
	case isAny(first):
		return "its beginning"
	}
	return "its end"
}

// anchors finds ^ and $, which change nothing where they are both there, and mean something else than
// elsewhere where one is missing or an alternation stands between them.
func (l *linter) anchors(s *subject, f fact, pattern string, tree *syntax.Regexp) {
	begins, ended := beginsText(tree), endsText(tree)
	flaw := Flaw{ID: "pattern-anchors", Severity: SeverityWarning, Subject: s.String()}
	switch {
	case tree.Op == syntax.OpAlternate && anyAnchor(tree):
		flaw.ID = "ungrouped-alternation"
		flaw.Message = fmt.Sprintf("the anchors in %q belong to one side of | each", pattern)
		flaw.Why = "elsewhere this means \"begins with the first or ends with the last\"; here each side must be the whole text, so that one of the two readings is not what you get"
		flaw.Rewrite = fmt.Sprintf("matches(%q)", "(?:"+strings.NewReplacer("^", "", "$", "").Replace(pattern)+")")
	case begins && ended:
		flaw.Severity = SeverityInfo
		flaw.Message = fmt.Sprintf("%q has anchors, and matches always means the whole text", pattern)
		flaw.Why = "they change nothing"
		flaw.Rewrite = fmt.Sprintf("matches(%q)", bare(pattern))
	case begins:
		flaw.Message = fmt.Sprintf("%q looks as if its end were open, and matches always means the whole text", pattern)
		flaw.Why = "a longer text does not match, and the condition is false where it was meant to be true"
		flaw.Rewrite = loose(bare(pattern), "startsWith", bare(pattern)+".*")
	case ended:
		flaw.Message = fmt.Sprintf("%q looks as if its beginning were open, and matches always means the whole text", pattern)
		flaw.Why = "a longer text does not match, and the condition is false where it was meant to be true"
		flaw.Rewrite = loose(bare(pattern), "endsWith", ".*"+bare(pattern))
	default:
		return
	}
	l.report(f.value, flaw)
}

func bare(pattern string) string { return strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$") }

// loose writes a comparison that is open at one end: as a function where nothing in the text is special,
// else as a pattern.
func loose(text, function, pattern string) string {
	if regexp.QuoteMeta(text) == text {
		return fmt.Sprintf("%s(%q)", function, text)
	}
	return fmt.Sprintf("matches(%q)", pattern)
}

func isBegin(r *syntax.Regexp) bool { return r.Op == syntax.OpBeginText || r.Op == syntax.OpBeginLine }
func isEnd(r *syntax.Regexp) bool   { return r.Op == syntax.OpEndText || r.Op == syntax.OpEndLine }

func beginsText(r *syntax.Regexp) bool {
	first, _ := ends(r)
	return isBegin(first)
}

func endsText(r *syntax.Regexp) bool {
	_, last := ends(r)
	return isEnd(last)
}

// ends returns the first and the last part of a pattern, groups opened.
func ends(r *syntax.Regexp) (first, last *syntax.Regexp) {
	first, last = r, r
	for first.Op == syntax.OpConcat || first.Op == syntax.OpCapture {
		first = first.Sub[0]
	}
	for last.Op == syntax.OpConcat || last.Op == syntax.OpCapture {
		last = last.Sub[len(last.Sub)-1]
	}
	return first, last
}

func anyAnchor(r *syntax.Regexp) bool {
	for _, side := range r.Sub {
		if beginsText(side) || endsText(side) {
			return true
		}
	}
	return false
}

// isAny reports whether a part is .* or .+ or their like.
func isAny(r *syntax.Regexp) bool {
	if r.Op != syntax.OpStar && r.Op != syntax.OpPlus {
		return false
	}
	return r.Sub[0].Op == syntax.OpAnyChar || r.Sub[0].Op == syntax.OpAnyCharNotNL
}

// looseDot returns where a dot stands between a letter or digit and a letter, not escaped, not in
// brackets and not repeated, as in "github.com"; -1 where none does.
func looseDot(pattern string) int {
	inClass := false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			i++
		case c == '[':
			inClass = true
		case c == ']':
			inClass = false
		case c == '.' && !inClass && i > 0 && i+1 < len(pattern) && inWord(rune(pattern[i-1])) && unicode.IsLetter(rune(pattern[i+1])):
			return i
		}
	}
	return -1
}

// escaped returns a pattern with every loose dot escaped.
func escaped(pattern string) string {
	for at := looseDot(pattern); at >= 0; at = looseDot(pattern) {
		pattern = pattern[:at] + `\` + pattern[at:]
	}
	return pattern
}

// around returns the word that an offset is in.
func around(pattern string, at int) string {
	word := func(r rune) bool { return inWord(r) || r == '.' || r == '-' }
	before, after := pattern[:at], pattern[at:]
	start := strings.LastIndexFunc(before, func(r rune) bool { return !word(r) }) + 1
	end := strings.IndexFunc(after, func(r rune) bool { return !word(r) })
	if end < 0 {
		end = len(after)
	}
	return before[start:] + after[:end]
}
