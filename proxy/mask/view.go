package mask

// verdict is what a detector says of one place.
type verdict uint8

const (
	none      verdict = iota // nothing here
	undecided                // the answer depends on text that has not arrived
	found
)

// match is a detector's answer. Where grow is set, the match goes on behind end for as long as grow
// says, however long that is.
type match struct {
	verdict    verdict
	start, end int
	grow       grow
}

var (
	noMatch   = match{}
	needsMore = match{verdict: undecided}
)

func matched(start, end int) match { return match{verdict: found, start: start, end: end} }

// maxRun bounds what a detector waits for: a token that is longer is masked from its maxRun-th byte
// on without waiting for its end. GitHub's installation tokens have some 520 bytes, a JWT with
// many groups a few thousand.
const maxRun = 4096

// maxHold is the most that a Writer keeps back, beside the longest known secret with every character
// escaped.
const maxHold = maxJWTHeader + maxRun

// view is the text as a detector sees it: some of what has been passed on already, for looking
// back, and what has not.
type view struct {
	buf  []byte
	eof  bool // buf ends where the text ends
	odd  bool // an odd number of backslashes stands right before buf
	runs [numClasses]struct{ from, to int }
}

// literal says whether s stands at i.
func (v *view) literal(i int, s string) verdict {
	for k := range len(s) {
		if i+k >= len(v.buf) {
			return v.atEnd()
		}
		if v.buf[i+k] != s[k] {
			return none
		}
	}
	return found
}

// atEnd is the verdict of a detector that would need one byte more than there are.
func (v *view) atEnd() verdict {
	if v.eof {
		return none
	}
	return undecided
}

// run returns the end of the run of bytes of class c that begins at i, no further than i+limit. The
// verdict is undecided where the run may go on in text that has not arrived.
//
// It remembers the last run of every class, so that neither many anchors in one run nor a run that
// arrives byte by byte make it look at a byte twice.
func (v *view) run(c *class, i, limit int) (int, verdict) {
	r := &v.runs[c.id]
	if i < r.from || i > r.to {
		r.from, r.to = i, i
	}
	stop := min(i+limit, len(v.buf))
	for r.to < stop && c.in[v.buf[r.to]] {
		r.to++
	}
	end := min(r.to, stop)
	if end == len(v.buf) && end < i+limit && !v.eof {
		return end, undecided
	}
	return end, found
}

// drop forgets the first n bytes of buf.
func (v *view) drop(n int) {
	v.odd = v.escaped(n)
	for i := range v.runs {
		r := &v.runs[i]
		r.from, r.to = max(r.from-n, 0), max(r.to-n, 0)
	}
	kept := copy(v.buf, v.buf[n:])
	v.buf = v.buf[:kept]
}

// escaped reports whether an odd number of backslashes stands right before i, so that in a JSON
// string the byte at i would belong to an escape.
func (v *view) escaped(i int) bool {
	odd := false
	for i--; i >= 0 && v.buf[i] == '\\'; i-- {
		odd = !odd
	}
	if i < 0 {
		return odd != v.odd
	}
	return odd
}

// escapeStart returns where the JSON escape begins that the byte at i would be in, else i.
func (v *view) escapeStart(i int) int {
	if v.escaped(i) {
		return i - 1
	}
	for u := i - 1; u > 0 && u >= i-4; u-- {
		if v.buf[u] == 'u' && v.escaped(u) {
			return u - 1
		}
		if !hexClass.in[v.buf[u]] {
			break
		}
	}
	return i
}

// lookbehind is how many bytes that were passed on already wordStart may look at.
const lookbehind = 8

// wordStart reports whether a word may begin at i: what stands before is no letter, digit or
// underscore, or is one that belongs to a JSON or percent escape, as in `\n4111...` or `%3A4111...`.
func (v *view) wordStart(i int) bool {
	if i == 0 || !wordClass.in[v.buf[i-1]] {
		return true
	}
	if v.escaped(i-1) && oneLetterEscape(v.buf[i-1]) {
		return true
	}
	if i >= 3 && v.buf[i-3] == '%' && hexClass.in[v.buf[i-2]] && hexClass.in[v.buf[i-1]] {
		return true
	}
	return i >= 6 && v.buf[i-5] == 'u' && v.buf[i-6] == '\\' &&
		hexClass.in[v.buf[i-4]] && hexClass.in[v.buf[i-3]] && hexClass.in[v.buf[i-2]] && hexClass.in[v.buf[i-1]]
}

// oneLetterEscape reports whether a backslash and c are a JSON escape of two bytes.
func oneLetterEscape(c byte) bool { return c == 'n' || c == 'r' || c == 't' || c == 'b' || c == 'f' }
