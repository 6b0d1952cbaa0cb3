package mask

// digits reads groups of digits with the same separator between them. It is what card numbers,
// social security numbers and their like have in common.
type digits struct {
	num  [maxDigits]byte // their values
	ends [maxDigits]int  // ends[k] is the place behind digit k
	last [maxDigits]bool // whether digit k is the last of its group
	n    int
}

const maxDigits = 20

// readDigits reads from a digit at i on. The verdict is undecided where more digits may arrive.
func (v *view) readDigits(i int) (d digits, is verdict) {
	for sep := byte(0); ; {
		for ; i < len(v.buf) && isDigit(v.buf[i]); i++ {
			if d.n == maxDigits {
				return d, found
			}
			d.num[d.n], d.ends[d.n] = v.buf[i]-'0', i+1
			d.n++
		}
		d.last[d.n-1] = true
		next, kind, is := v.separator(i)
		if is == undecided {
			return d, undecided
		}
		if is == none || sep != 0 && kind != sep {
			return d, found
		}
		sep, i = kind, next
	}
}

// separator returns the place behind a blank, dash or full stop at i that a digit follows, and its
// kind. A blank may be written '+' or %20.
func (v *view) separator(i int) (int, byte, verdict) {
	if i >= len(v.buf) {
		return i, 0, v.atEnd()
	}
	next, kind := i+1, v.buf[i]
	switch kind {
	case ' ', '-', '.':
	case '+':
		kind = ' '
	case '%':
		is := v.literal(i, "%20")
		if is != found {
			return i, 0, is
		}
		next, kind = i+3, ' '
	default:
		return i, 0, none
	}
	if next >= len(v.buf) {
		return i, 0, v.atEnd()
	}
	if !isDigit(v.buf[next]) {
		return i, 0, none
	}
	return next, kind, found
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// numberStart reports whether the digits at i begin a number of their own: they are not part of a
// word, of a longer number or of a decimal fraction.
func (v *view) numberStart(i int) bool {
	if !v.wordStart(i) {
		return false
	}
	return i < 2 || v.buf[i-1] != '.' || !isDigit(v.buf[i-2])
}

// inNumber reports whether a digit stands before i that belongs to no escape. It is a quick look that
// spares detectors of numbers most of the places in a run of digits.
func (v *view) inNumber(i int) bool {
	return i > 0 && isDigit(v.buf[i-1]) && (i < 3 || v.buf[i-3] != '%') && (i < 5 || v.buf[i-5] != 'u')
}

// numberEnds says whether nothing at i makes the digits before it part of a word or a decimal number.
func (v *view) numberEnds(i int) verdict {
	if i >= len(v.buf) {
		return ending(v.eof)
	}
	if wordClass.in[v.buf[i]] {
		return none
	}
	if v.buf[i] != '.' {
		return found
	}
	if i+1 >= len(v.buf) {
		return ending(v.eof)
	}
	if isDigit(v.buf[i+1]) {
		return none
	}
	return found
}

// ending is the verdict at the end of what has arrived for what the end of the text completes.
func ending(eof bool) verdict {
	if eof {
		return found
	}
	return undecided
}
