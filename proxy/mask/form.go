package mask

// elem is one character of a form: the bits that are set in bits must be those of value. The first
// and last character of a base64 form also hold bits of what stands beside the secret.
type elem struct{ value, bits byte }

// form is a secret as it may stand in a text. Each of its characters may be escaped there.
type form struct {
	elems []elem
	code  *[256]byte // what a character stands for, or notInCode; nil for a form that is the secret itself
}

const notInCode = 0xff

// accepts reports whether character c fits element k.
func (f *form) accepts(k int, c byte) bool {
	e := f.elems[k]
	if f.code == nil {
		return c == e.value || e.value == ' ' && c == '+' // a blank in a query or form
	}
	code := f.code[c]
	return code != notInCode && code&e.bits == e.value
}

func rawForm(secret []byte) form {
	elems := make([]elem, len(secret))
	for i, c := range secret {
		elems[i] = elem{c, 0xff}
	}
	return form{elems: elems}
}

func hexForm(secret []byte) form {
	elems := make([]elem, 0, 2*len(secret))
	for _, c := range secret {
		elems = append(elems, elem{c >> 4, 0x0f}, elem{c & 0x0f, 0x0f})
	}
	return form{elems, &hexCode}
}

// base64Form is the secret in base64 with shift bytes of something else before it in its first group
// of three (RFC 4648, section 4). The characters at the edges share bits with the neighbours, so
// only the secret's own bits of them are compared.
func base64Form(secret []byte, shift int) form {
	var elems []elem
	first, end := shift*8, (shift+len(secret))*8
	for bit := first / 6 * 6; bit < end; bit += 6 {
		var e elem
		for k := range 6 {
			at := bit + k - first
			if at < 0 || at >= len(secret)*8 {
				continue
			}
			e.bits |= 0x20 >> k
			if secret[at/8]&(0x80>>(at%8)) != 0 {
				e.value |= 0x20 >> k
			}
		}
		elems = append(elems, e)
	}
	return form{elems, &base64Code}
}

var (
	hexCode    = codeOf("0123456789abcdef", "0123456789ABCDEF")
	base64Code = codeOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
)

// codeOf gives each character its place in any of the alphabets.
func codeOf(alphabets ...string) (code [256]byte) {
	for c := range code {
		code[c] = notInCode
	}
	for _, alphabet := range alphabets {
		for place, c := range []byte(alphabet) {
			code[c] = byte(place)
		}
	}
	return code
}

// findAt returns the end of the form where it stands at i.
func (f *form) findAt(v *view, i int) (int, verdict) {
	s := search{form: f, view: v}
	return s.match(i, 0, 0)
}

// search is one try to match a form.
type search struct {
	*form
	*view
	forks int // how many escapes were tried so far
}

const (
	// maxForks bounds the work where both readings of many escapes fit, which takes a secret of
	// backslashes or percent signs. Beyond it what was read so far counts as a match.
	maxForks = 1 << 12
	// maxLineEnds bounds how many line ends in a row an encoded form may have inside it.
	maxLineEnds = 2
)

// match compares elements from k on with the text at i, and returns the end of the match. Of the
// readings of an escape the first that fits counts, the same for every way in which the text arrives.
func (s *search) match(i, k, lineEnds int) (int, verdict) {
	for k < len(s.elems) {
		if i >= len(s.buf) {
			return i, s.atEnd()
		}
		c := s.buf[i]
		if c == '%' || c == '\\' {
			if end, is := s.fork(i, k, lineEnds); is != none {
				return end, is
			}
		}
		if (c == '\r' || c == '\n') && s.code != nil && k > 0 && lineEnds < maxLineEnds {
			i++
			lineEnds++
			continue
		}
		if !s.accepts(k, c) {
			return i, none
		}
		i++
		k++
		lineEnds = 0
		if c == '\\' && k == len(s.elems) && !s.escaped(i-1) { // leave no half of an escape behind
			if i >= len(s.buf) {
				return i, ending(s.eof)
			}
			i++
		}
	}
	return i, found
}

// fork tries each reading of the escape at i.
func (s *search) fork(i, k, lineEnds int) (int, verdict) {
	if s.forks++; s.forks > maxForks {
		return i, found
	}
	alts, is := s.unescape(i)
	if is == undecided {
		return i, undecided
	}
	for a := range alts.n {
		alt := &alts.alt[a]
		next, ends := s.acceptAll(k, alt.text[:alt.n]), 0
		if s.code != nil && k > 0 && (alt.text[0] == '\n' || alt.text[0] == '\r') && lineEnds < maxLineEnds {
			next, ends = k, lineEnds+1
		}
		if next < 0 {
			continue
		}
		if end, is := s.match(alt.next, next, ends); is != none {
			return end, is
		}
	}
	return i, none
}

// acceptAll returns the element behind those that text fits, or -1.
func (s *search) acceptAll(k int, text []byte) int {
	for _, c := range text {
		if k == len(s.elems) || !s.accepts(k, c) {
			return -1
		}
		k++
	}
	return k
}
