package strictyaml

import "unicode"

// position returns the line and column of the character at an offset of a string's value, by walking
// the value and the file's text side by side: escapes, folded line ends and indentation stand in the
// text and not, or differently, in the value. Where the two can't be matched it is the string's
// beginning.
func (n *Node) position(offset int) (line, column int) {
	at := cursor{lines: n.doc.lines, line: n.line - 1, column: n.column - 1}
	quote := at.rune()
	switch quote {
	case '"', '\'':
		at.next()
	case '|', '>':
		at.line, at.column, quote = at.line+1, 0, 0
	default:
		quote = 0
	}
	for i, r := range []rune(n.text) {
		if at.skipTo(r); at.ended() {
			return n.line, n.column
		}
		if i == offset {
			return at.line + 1, at.column + 1
		}
		at.pass(r, quote)
	}
	if at.ended() {
		return n.line, n.column
	}
	return at.line + 1, at.column + 1
}

// cursor is a place in the text, from zero. Behind the last character of a line stands its '\n'.
type cursor struct {
	lines        [][]rune
	line, column int
}

func (c *cursor) ended() bool { return c.line >= len(c.lines) }

func (c *cursor) rune() rune {
	switch {
	case c.ended():
		return 0
	case c.column >= len(c.lines[c.line]):
		return '\n'
	}
	return c.lines[c.line][c.column]
}

func (c *cursor) next() {
	if c.column++; !c.ended() && c.column > len(c.lines[c.line]) {
		c.line, c.column = c.line+1, 0
	}
}

// skipTo passes indentation: white space in the text where the value has none.
func (c *cursor) skipTo(r rune) {
	if unicode.IsSpace(r) {
		return
	}
	for !c.ended() && unicode.IsSpace(c.rune()) {
		c.next()
	}
}

// pass moves behind the text of one character of the value.
func (c *cursor) pass(r, quote rune) {
	seen := c.rune()
	c.next()
	switch {
	case quote == '\'' && r == '\'': // written twice
		c.next()
	case quote == '"' && seen == '\\':
		c.passEscape()
	}
}

// passEscape moves behind an escape of YAML 1.2, section 5.7, whose backslash is passed.
func (c *cursor) passEscape() {
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c.rune()]
	c.next()
	for range digits {
		c.next()
	}
}
