package mask

import (
	"bytes"
	"fmt"

	"github.com/daypass-io/daypass/cred"
)

const (
	// minEncoded is the length in bytes from which a secret is also looked for in base64 and hex. The
	// encoded forms of a shorter one are too likely by chance.
	minEncoded = 6
	// minLine is the length from which each line of a secret of several lines counts as one, since
	// texts indent lines and change their ends.
	minLine = 16
)

// knownForms is every form of every known secret, by the first character of the form.
type knownForms struct {
	forms []form
	first [256][]*form
	short bool // a form is shorter than the sieve is wide, as no find of a detector is
}

func newKnownForms(secrets []cred.Secret) *knownForms {
	k := &knownForms{}
	for _, s := range secrets {
		b := s.Reveal()
		if len(b) == 0 {
			continue
		}
		k.addSecret(b)
		for line := range bytes.Lines(b) {
			if line = bytes.TrimSpace(line); len(line) >= minLine && len(line) < len(b) {
				k.addSecret(line)
			}
		}
	}
	for i := range k.forms {
		f := &k.forms[i]
		k.short = k.short || len(f.elems) < sieveWidth
		for c := range 256 {
			if f.accepts(0, byte(c)) {
				k.first[c] = append(k.first[c], f)
			}
		}
	}
	return k
}

func (k *knownForms) addSecret(secret []byte) {
	k.forms = append(k.forms, rawForm(secret))
	if len(secret) >= minEncoded {
		k.forms = append(k.forms, hexForm(secret), base64Form(secret, 0), base64Form(secret, 1), base64Form(secret, 2))
	}
}

// sift adds the forms to the sieve from bit on: two bits for forms that begin with an escape, three
// for those with one at their second to fourth byte, and the rest for forms without. Many forms
// share those, which costs speed alone. It returns all of these bits.
func (k *knownForms) sift(s *sieve, bit uint) (all uint64) {
	if len(k.forms) == 0 {
		return 0
	}
	percents, own := k.percents(), bit+5
	s.add(bit, percents[:]...)
	s.add(bit+1, `\`, k.backslashes())
	for i := range k.forms {
		k.siftPlain(s, &k.forms[i], own+uint(i)%(64-own))
		k.siftEscaped(s, &k.forms[i], bit+1)
	}
	return ^uint64(0) << bit
}

// percents is an anchor for the percent escapes of what forms begin with. Escaped percent signs
// count, since another escape may follow.
func (k *knownForms) percents() [3]string {
	high, low := "2", "5"
	for c, forms := range k.first {
		if len(forms) > 0 {
			high += fmt.Sprintf("%x%X", c>>4, c>>4)
			low += fmt.Sprintf("%x%X", c&15, c&15)
		}
	}
	return [3]string{"%", high, low}
}

// backslashes is the set of what stands behind the backslash in escapes of what forms begin with.
func (k *knownForms) backslashes() string {
	behind := `ux\`
	for c, as := range map[byte]string{'\n': "n", '\r': "r", '\t': "t", '\b': "b", '\f': "f", '"': `"`, '/': "/", '\'': "'"} {
		if len(k.first[c]) > 0 {
			behind += as
		}
	}
	return behind
}

// siftPlain makes bit stand for the plain form.
func (k *knownForms) siftPlain(s *sieve, f *form, bit uint) {
	for at := range sieveWidth {
		if at < len(f.elems) {
			s.addElem(f, bit, at, at)
		} else {
			s.addAny(bit, at)
		}
	}
}

// siftEscaped makes bit+1 to bit+3 stand for a form whose second, third or fourth byte begins an
// escape, or is a line end inside an encoded form.
func (k *knownForms) siftEscaped(s *sieve, f *form, bit uint) {
	for at := 1; at < min(len(f.elems), sieveWidth); at++ {
		own := bit + uint(at)
		for before := range at {
			s.addElem(f, own, before, before)
		}
		s.addSet(own, at, "%\\\r\n")
		if at+1 == sieveWidth {
			return
		}
		s.addSet(own, at+1, behindEscape(f, at))
		s.addElem(f, own, at+1, at)
		if at+2 < sieveWidth {
			s.siftBehind(f, own, at)
		}
	}
}

// siftBehind adds what stands two bytes behind the start of an escape of element k: more of the escape,
// the next element or another escape; anything where the form may have ended before.
func (s *sieve) siftBehind(f *form, bit uint, k int) {
	if k+1 == len(f.elems) {
		s.addAny(bit, k+2)
		return
	}
	s.addSet(bit, k+2, `0-9A-Fa-f%\unrtx/"'`+"\r\n")
	s.addElem(f, bit, k+2, k)
	s.addElem(f, bit, k+2, k+1)
}

// behindEscape is the set of what stands behind the first byte of an escape of element k.
func behindEscape(f *form, k int) string {
	in := `0-9A-Fa-funrx/\` + "\n"
	for c, as := range map[byte]string{'\t': "t", '"': `"`, '\'': "'"} {
		if f.accepts(k, c) {
			in += as
		}
	}
	return in
}

// addElem lets byte at of bit's anchor be what element elem of the form accepts.
func (s *sieve) addElem(f *form, bit uint, at, elem int) {
	for c := range 256 {
		if f.accepts(elem, byte(c)) {
			s.t[at][c] |= 1 << bit
		}
	}
}

// find returns the end of the longest form that stands at i, plain or escaped.
func (k *knownForms) find(v *view, i int) (end int, is verdict) {
	c := v.buf[i]
	if end, is = k.longest(v, i, k.first[c], 0); is == undecided || c != '%' && c != '\\' {
		return end, is
	}
	alts, could := v.unescape(i)
	if could == undecided {
		return 0, undecided
	}
	for a := range alts.n {
		if end, is = k.longest(v, i, k.first[alts.alt[a].text[0]], end); is == undecided {
			return 0, undecided
		}
	}
	return end, is
}

// longest returns the furthest of end and the ends of the forms that stand at i.
func (k *knownForms) longest(v *view, i int, forms []*form, end int) (int, verdict) {
	for _, f := range forms {
		at, is := f.findAt(v, i)
		if is == undecided {
			return 0, undecided
		}
		if is == found {
			end = max(end, at)
		}
	}
	if end == 0 {
		return 0, none
	}
	return end, found
}
