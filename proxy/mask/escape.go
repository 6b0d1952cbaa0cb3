package mask

import (
	"unicode/utf16"
	"unicode/utf8"
)

// readings is what an escape may stand for, the deepest nesting first.
type readings struct {
	alt [maxNesting + 1]reading
	n   int
}

// reading is one: the bytes that it stands for, and the place behind it.
type reading struct {
	text [utf8.UTFMax]byte
	n    int
	next int
}

const (
	// maxNesting is how often an escape may itself be escaped, as a JSON string in a JSON string is.
	maxNesting = 3
	// maxBackslashes is how many of them such nesting takes: 2^maxNesting - 1.
	maxBackslashes = 1<<maxNesting - 1
)

func (r *readings) add(next int, text ...byte) {
	a := &r.alt[r.n]
	a.n = copy(a.text[:], text)
	a.next = next
	r.n++
}

// unescape reads the percent or backslash escape at i: %41, %2541, \", \n, \u0041, \x41, \\", and so on.
func (v *view) unescape(i int) (readings, verdict) {
	if v.buf[i] == '%' {
		return v.unescapePercent(i)
	}
	return v.unescapeBackslash(i)
}

func (v *view) unescapePercent(i int) (r readings, is verdict) {
	var levels [maxNesting]reading
	n := 0
	for at := i + 1; n < maxNesting; at += 2 {
		c, is := v.hex(at, 2)
		if is == undecided {
			return r, undecided
		}
		if is == none {
			break
		}
		levels[n] = reading{text: [utf8.UTFMax]byte{byte(c)}, n: 1, next: at + 2}
		n++
		if c != '%' {
			break
		}
	}
	for ; n > 0; n-- {
		r.alt[r.n] = levels[n-1]
		r.n++
	}
	return r, found
}

func (v *view) unescapeBackslash(i int) (r readings, is verdict) {
	run := 0
	for i+run < len(v.buf) && run <= maxBackslashes && v.buf[i+run] == '\\' {
		run++
	}
	at := i + run
	if at >= len(v.buf) && !v.eof {
		return r, undecided
	}
	if run <= maxBackslashes && at < len(v.buf) {
		if is := v.escapeChar(&r, at); is == undecided {
			return r, undecided
		}
	}
	for width := 4; width > 1; width /= 2 {
		if run >= width {
			r.add(i+width, '\\')
		}
	}
	return r, found
}

// escapeChar reads what follows a backslash at i.
func (v *view) escapeChar(r *readings, i int) verdict {
	switch c := v.buf[i]; c {
	case '"', '/', '\'':
		r.add(i+1, c)
	case 'n':
		r.add(i+1, '\n')
	case 'r':
		r.add(i+1, '\r')
	case 't':
		r.add(i+1, '\t')
	case 'b':
		r.add(i+1, '\b')
	case 'f':
		r.add(i+1, '\f')
	case 'x':
		c, is := v.hex(i+1, 2)
		if is != found {
			return is
		}
		r.add(i+3, byte(c))
	case 'u':
		return v.escapeRune(r, i+1)
	}
	return found
}

// escapeRune reads four hex digits at i, and the other half of a surrogate pair (RFC 8259, section 7).
func (v *view) escapeRune(r *readings, i int) verdict {
	c, is := v.hex(i, 4)
	if is != found {
		return is
	}
	next := i + 4
	if utf16.IsSurrogate(c) {
		for next < len(v.buf) && next < i+4+maxBackslashes && v.buf[next] == '\\' {
			next++
		}
		if is := v.literal(next, "u"); is != found {
			return is
		}
		low, is := v.hex(next+1, 4)
		if is != found {
			return is
		}
		c = utf16.DecodeRune(c, low)
		next += 5
	}
	var text [utf8.UTFMax]byte
	r.add(next, text[:utf8.EncodeRune(text[:], c)]...)
	return found
}

// hex reads n hex digits at i.
func (v *view) hex(i, n int) (c rune, is verdict) {
	for k := range n {
		if i+k >= len(v.buf) {
			return 0, v.atEnd()
		}
		d := hexCode[v.buf[i+k]]
		if d == notInCode {
			return 0, none
		}
		c = c<<4 | rune(d)
	}
	return c, found
}
