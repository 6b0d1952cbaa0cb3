package mask

import "bytes"

// awsSecretLen is the length of an AWS secret access key. Nothing marks it but the name before it.
const awsSecretLen = 40

// findAWSSecret masks the key behind a name such as SecretAccessKey, aws_secret_access_key or
// "secret access key", in JSON, XML, INI, YAML or a shell's assignment.
func findAWSSecret(v *view, i int) match {
	at, is := v.words(i, "secret", "access", "key")
	if is != found {
		return match{verdict: is}
	}
	if at, is = v.assignment(at); is != found {
		return match{verdict: is}
	}
	end, is := v.awsSecret(at)
	if is != found {
		return match{verdict: is}
	}
	return matched(at, end)
}

// words returns the place behind words in any case, with at most one '_', '-' or ' ' between two.
func (v *view) words(i int, words ...string) (int, verdict) {
	for k, word := range words {
		if k > 0 && i < len(v.buf) && (v.buf[i] == '_' || v.buf[i] == '-' || v.buf[i] == ' ') {
			i++
		}
		for c := range len(word) {
			if i >= len(v.buf) {
				return i, v.atEnd()
			}
			if v.buf[i]|0x20 != word[c] {
				return i, none
			}
			i++
		}
	}
	return i, found
}

// maxAssignment bounds what stands between a name and its value.
const maxAssignment = 24

// assignment returns the place behind what stands between a name and its value: quotes, escaped or
// not, blanks, and at least one of : = > and the escapes of these.
func (v *view) assignment(i int) (int, verdict) {
	assigned := false
	for stop := i + maxAssignment; i < stop; {
		if i >= len(v.buf) {
			return i, v.atEnd()
		}
		switch c := v.buf[i]; {
		case c == ':' || c == '=' || c == '>':
			assigned = true
			i++
		case bytes.IndexByte([]byte("\"'`\\ \t\r\n"), c) >= 0:
			i++
		case c == '%':
			is := v.percent(i)
			if is != found {
				return i, is
			}
			assigned = true
			i += 3
		case c == 'n' && v.escaped(i):
			i++
		case assigned:
			return i, found
		default:
			return i, none
		}
	}
	return i, none
}

// percent says whether a percent escape stands at i.
func (v *view) percent(i int) verdict {
	if i+2 >= len(v.buf) {
		return v.atEnd()
	}
	if v.buf[i] == '%' && hexClass.in[v.buf[i+1]] && hexClass.in[v.buf[i+2]] {
		return found
	}
	return none
}

// awsSecret returns the end of forty base64 characters at i, where '/' and '+' may be escaped.
func (v *view) awsSecret(i int) (int, verdict) {
	for n := 0; ; n++ {
		if i >= len(v.buf) {
			if n == awsSecretLen && v.eof {
				return i, found
			}
			return i, v.atEnd()
		}
		width, is := v.base64At(i)
		if is == undecided {
			return i, undecided
		}
		if n == awsSecretLen && is == none {
			return i, found
		}
		if is == none || n == awsSecretLen {
			return i, none
		}
		i += width
	}
}

// base64At returns how many bytes the base64 character at i takes.
func (v *view) base64At(i int) (int, verdict) {
	c := v.buf[i]
	if alnumClass.in[c] || c == '/' || c == '+' {
		return 1, found
	}
	if c != '%' && c != '\\' {
		return 0, none
	}
	for _, escape := range [...]string{`\/`, "%2F", "%2f", "%2B", "%2b"} {
		if is := v.literal(i, escape); is != none {
			return len(escape), is
		}
	}
	return 0, none
}
