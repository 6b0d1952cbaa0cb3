package jws

import (
	"strconv"
	"strings"
)

// readPlain reads an object as nearly all tokens have them: of ASCII without escapes, with integers that
// a float64 holds, no member twice and not too deep. False says nothing about b: the reader that knows
// all of JSON has to tell. It takes a fourth of that one's time.
func readPlain(b []byte) (map[string]any, bool) {
	r := &plainReader{rest: string(b)}
	if !r.take('{') {
		return nil, false
	}
	object, ok := r.object(maxDepth, min(strings.Count(r.rest, `":`), 64))
	r.skipSpace()
	return object, ok && r.rest == ""
}

type plainReader struct{ rest string }

func (r *plainReader) skipSpace() {
	for r.rest != "" && (r.rest[0] == ' ' || r.rest[0] == '\n' || r.rest[0] == '\r' || r.rest[0] == '\t') {
		r.rest = r.rest[1:]
	}
}

// take reads one character of JSON's structure.
func (r *plainReader) take(c byte) bool {
	r.skipSpace()
	if r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// object reads an object whose brace is read already, and of which about n members are to be expected.
func (r *plainReader) object(depth, n int) (map[string]any, bool) {
	object := make(map[string]any, n)
	if depth == 0 {
		return nil, false
	}
	if r.take('}') {
		return object, true
	}
	for {
		if !r.take('"') {
			return nil, false
		}
		name, ok := r.text()
		if _, twice := object[name]; twice || !ok || !r.take(':') {
			return nil, false
		}
		if object[name], ok = r.value(depth - 1); !ok {
			return nil, false
		}
		if !r.take(',') {
			return object, r.take('}')
		}
	}
}

func (r *plainReader) list(depth int) ([]any, bool) {
	list := []any{}
	if depth == 0 {
		return nil, false
	}
	if r.take(']') {
		return list, true
	}
	for {
		v, ok := r.value(depth - 1)
		if !ok {
			return nil, false
		}
		list = append(list, v)
		if !r.take(',') {
			return list, r.take(']')
		}
	}
}

func (r *plainReader) value(depth int) (any, bool) {
	switch {
	case r.take('"'):
		return r.text()
	case r.take('{'):
		return r.object(depth, 0)
	case r.take('['):
		return r.list(depth)
	}
	n := strings.IndexAny(r.rest, ",]} \n\r\t")
	if n <= 0 {
		return nil, false
	}
	word := r.rest[:n]
	r.rest = r.rest[n:]
	switch word {
	case "true":
		return true, true
	case "false":
		return false, true
	case "null":
		return nil, true
	}
	return integer(word)
}

// integer reads up to 15 digits, which a float64 holds exactly.
func integer(word string) (any, bool) {
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil || len(word) > 15 || strconv.FormatInt(n, 10) != word {
		return nil, false
	}
	return float64(n), true
}

// text reads a string whose first quote is read already.
func (r *plainReader) text() (string, bool) {
	for i := range len(r.rest) {
		switch c := r.rest[i]; {
		case c == '"':
			s := r.rest[:i]
			r.rest = r.rest[i+1:]
			return s, true
		case c < ' ' || c >= 0x80 || c == '\\':
			return "", false
		}
	}
	return "", false
}
