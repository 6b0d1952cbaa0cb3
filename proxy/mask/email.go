package mask

import "bytes"

// The limits of an address (RFC 5321, section 4.5.3.1).
const (
	emailLocal  = 64
	emailDomain = 255
)

// localClass is what a local part may hold without quotes (RFC 5322, section 3.2.3), less what
// separates words in URLs, forms, source code and prose.
var localClass = set("0-9A-Za-z.!#$*^~_+-")

// findEmail finds an address by its '@', which may be escaped. The local part lies before it.
func findEmail(v *view, i int) match {
	at, is := v.atSign(i)
	if is != found {
		return match{verdict: is}
	}
	start := v.localPart(i)
	if start == i {
		return noMatch
	}
	end, is := v.run(domainClass, at, emailDomain)
	if is == undecided {
		return needsMore
	}
	size := domainName(v.buf[at:end])
	if size == 0 || bytes.Equal(v.buf[start:i], []byte("git")) { // git@github.com:... is nobody's address
		return noMatch
	}
	return matched(start, at+size)
}

func (v *view) atSign(i int) (int, verdict) {
	for _, s := range [...]string{"@", "%40", `\u0040`} {
		if is := v.literal(i, s); is == found {
			return i + len(s), found
		} else if is == undecided {
			return i, undecided
		}
	}
	return i, none
}

// localPart returns where the local part that ends at end begins: at a letter or digit, and not in
// an escape. A plus sign may be percent-encoded.
func (v *view) localPart(end int) int {
	start := end
	for start > 0 && end-start < emailLocal {
		c := v.buf[start-1]
		if !localClass[c] && !(c == '%' && isPlus(v.buf[start:end])) {
			break
		}
		start--
	}
	for start < end && !alnumClass.in[v.buf[start]] {
		start++
	}
	if start > 0 && v.buf[start-1] == '%' && end-start > 2 && v.percent(start-1) == found {
		start += 2
	}
	if start+1 < end && oneLetterEscape(v.buf[start]) && v.escaped(start) {
		start++
	}
	return start
}

func isPlus(b []byte) bool { return len(b) >= 2 && b[0] == '2' && b[1]|0x20 == 'b' }

// domainName returns how much of b is a domain name of two labels or more whose last begins with a
// letter, zero where it is none. What follows an empty label is not part of it.
func domainName(b []byte) int {
	if k := bytes.Index(b, []byte("..")); k >= 0 {
		b = b[:k]
	}
	b = bytes.TrimRight(b, ".-")
	dot := bytes.LastIndexByte(b, '.')
	if dot <= 0 || len(b)-dot < 3 || !isLetter(b[dot+1]) {
		return 0
	}
	return len(b)
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
