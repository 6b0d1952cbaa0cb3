package mask

import "bytes"

// maxPEMLabel bounds what stands between BEGIN and the closing dashes.
const maxPEMLabel = 128

// findPEM finds the start of a private key's armour (RFC 7468, and the forms of OpenSSH and PGP) and
// masks from its BEGIN on. Prose that names the line alone is not a key: something that looks like
// one must follow.
func findPEM(v *view, i int) match {
	if i == 0 || v.buf[i-1] != '-' {
		return noMatch
	}
	at, is := v.words(i, "begin")
	if is != found {
		return match{verdict: is}
	}
	at, is = v.pemLabel(at)
	if is != found {
		return match{verdict: is}
	}
	at, is = v.pemBody(at)
	if is != found {
		return match{verdict: is}
	}
	return match{verdict: found, start: i, end: at, grow: armour{}}
}

// pemLabel returns the place behind the label at i and its closing dashes.
func (v *view) pemLabel(i int) (int, verdict) {
	for end := i; end < i+maxPEMLabel; end++ {
		if end+5 > len(v.buf) {
			return end, v.atEnd()
		}
		c := v.buf[end]
		if c == '-' && string(v.buf[end:end+5]) == "-----" {
			if isKey(v.buf[i:end]) {
				return end + 5, found
			}
			return end, none
		}
		if !wordClass.in[c] && c != ' ' && c != '-' && c != '+' && c != '%' {
			return end, none
		}
	}
	return i, none
}

// isKey reports whether a label is a private key's: it ends in KEY, or in KEY BLOCK for PGP. Some
// encoders write the blanks as '+' or %20.
func isKey(label []byte) bool {
	label = bytes.ToUpper(label)
	return bytes.Contains(label, []byte("PRIVATE")) &&
		(bytes.HasSuffix(label, []byte("KEY")) || bytes.HasSuffix(label, []byte("BLOCK")))
}

// maxPEMGap bounds the line breaks, quotes and indents between a BEGIN line and the key.
const maxPEMGap = 64

// pemBody returns the place where the first line of a key begins, or of the headers before it.
func (v *view) pemBody(i int) (int, verdict) {
	gap := []byte("\r\n\t \\\"'`,+|#>")
	for stop := i + maxPEMGap; i < stop; i++ {
		if i >= len(v.buf) {
			return i, v.atEnd()
		}
		c := v.buf[i]
		if (c == 'n' || c == 'r' || c == 't') && v.escaped(i) || bytes.IndexByte(gap, c) >= 0 {
			continue
		}
		if c == '%' {
			if is := v.percent(i); is != found {
				return i, is
			}
			i += 2
			continue
		}
		return i, v.keyLine(i)
	}
	return i, none
}

// keyLine says whether a line of a key, or a header such as "Proc-Type: 4,ENCRYPTED", is at i.
func (v *view) keyLine(i int) verdict {
	const enough = 16
	end, is := v.run(base64Class, i, enough)
	switch {
	case is == undecided:
		return undecided
	case end-i == enough:
		return found
	case end > i:
		return v.literal(end, ":")
	}
	return none
}

// armour grows a match up to the line that ends a key. Where that never comes, all is masked.
type armour struct{}

func (armour) more(v *view, pos int) (end, next int, done bool) {
	for {
		k := bytes.Index(v.buf[pos:], []byte("-----"))
		if k < 0 {
			return len(v.buf), max(pos, len(v.buf)-4), false
		}
		pos += k
		switch end, is := v.pemEnd(pos + 5); is {
		case found:
			return end, end, true
		case undecided:
			return len(v.buf), pos, false
		}
		pos++
	}
}

// pemEnd returns the place behind "END", the label of a key and the closing dashes.
func (v *view) pemEnd(i int) (int, verdict) {
	i, is := v.words(i, "end")
	if is != found {
		return i, is
	}
	return v.pemLabel(i)
}
