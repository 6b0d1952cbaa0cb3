package audit

import (
	"reflect"
	"strconv"
	"strings"
)

// decoder reads what an encoder writes, and gives up where it finds anything else: escapes too, since
// few entries have any. What it reads it takes on trust; Parse writes it again and compares.
type decoder struct{ s string }

// decode reads an entry. False means that encoding/json has to tell what it is.
func decode(canonical []byte) (got entry, ok bool) {
	d := decoder{s: string(canonical)}
	if !d.take(beforeSeq) {
		return entry{}, false
	}
	seq, err := strconv.ParseUint(d.number(), 10, 64)
	if err != nil {
		return entry{}, false
	}
	got.Seq = seq
	return got, readMembers(&d, eventMembers(), reflect.ValueOf(&got.Event).Elem(), false) && d.s == ""
}

// take takes a text that is next.
func (d *decoder) take(s string) bool {
	rest, ok := strings.CutPrefix(d.s, s)
	d.s = rest
	return ok
}

// name takes the name of a member, and the comma before it unless it is the first.
func (d *decoder) name(name string, first bool) bool {
	if first {
		name = name[1:]
	}
	return d.take(name)
}

// text takes a string without escapes.
func (d *decoder) text() (string, bool) {
	if d.s == "" || d.s[0] != '"' {
		return "", false
	}
	n := strings.IndexByte(d.s[1:], '"') + 1
	if n == 0 || strings.IndexByte(d.s[1:n], '\\') >= 0 {
		return "", false
	}
	s := d.s[1:n]
	d.s = d.s[n+1:]
	return s, true
}

// number takes the characters that a number may have.
func (d *decoder) number() string {
	n := 0
	for n < len(d.s) && (d.s[n] >= '0' && d.s[n] <= '9' || strings.IndexByte("+-.eE", d.s[n]) >= 0) {
		n++
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

// list takes a list, each element of which one calls.
func (d *decoder) list(one func() bool) bool {
	if !d.take("[") {
		return false
	}
	for first := true; !d.take("]"); first = false {
		if !first && !d.take(",") || !one() {
			return false
		}
	}
	return true
}

// each takes an object with any members; value takes one's value.
func (d *decoder) each(value func(name string) bool) bool {
	if !d.take("{") {
		return false
	}
	for first := true; !d.take("}"); first = false {
		if !first && !d.take(",") {
			return false
		}
		name, ok := d.text()
		if !ok || !d.take(":") || !value(name) {
			return false
		}
	}
	return true
}

func (d *decoder) texts() (map[string]string, bool) {
	m := map[string]string{}
	ok := d.each(func(name string) (ok bool) {
		m[name], ok = d.text()
		return ok
	})
	return m, ok
}

func (d *decoder) object(depth int) (map[string]any, bool) {
	m := map[string]any{}
	ok := d.each(func(name string) (ok bool) {
		m[name], ok = d.free(depth + 1)
		return ok
	})
	return m, ok
}

// free takes a value of a claim or detail.
func (d *decoder) free(depth int) (v any, ok bool) {
	if d.s == "" || depth > maxDepth {
		return nil, false
	}
	switch d.s[0] {
	case '"':
		return d.text()
	case '{':
		return d.object(depth)
	case '[':
		values := []any{}
		ok := d.list(func() bool {
			v, ok := d.free(depth + 1)
			values = append(values, v)
			return ok
		})
		return values, ok
	case 't':
		return true, d.take("true")
	case 'f':
		return false, d.take("false")
	case 'n':
		return nil, d.take("null")
	}
	f, err := strconv.ParseFloat(d.number(), 64)
	return f, err == nil
}
