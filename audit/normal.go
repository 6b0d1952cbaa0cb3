package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDepth bounds the nesting of claims, details and actors, so that whatever can be written can be
// read again.
const maxDepth = 64

var errTooDeep = errors.New("nested too deeply")

// object writes a map of free values, its members sorted by the bytes of their names.
func (e *encoder) object(m map[string]any, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if m == nil {
		e.null()
		return nil
	}
	e.b = append(e.b, '{')
	for i, name := range sorted(m, make([]string, 0, 16)) {
		e.member(i, name)
		if err := e.free(m[name], depth+1); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	e.b = append(e.b, '}')
	return nil
}

func (e *encoder) texts(m map[string]string) {
	if m == nil {
		e.null()
		return
	}
	e.b = append(e.b, '{')
	for i, name := range sorted(m, make([]string, 0, 16)) {
		e.member(i, name)
		e.text(m[name])
	}
	e.b = append(e.b, '}')
}

// sorted appends the names in a map to names and sorts them.
func sorted[V any](m map[string]V, names []string) []string {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// member writes the name of the ith member of an object.
func (e *encoder) member(i int, name string) {
	e.comma(i)
	e.text(name)
	e.b = append(e.b, ':')
}

// comma separates the ith element from the one before it.
func (e *encoder) comma(i int) {
	if i > 0 {
		e.b = append(e.b, ',')
	}
}

func (e *encoder) null() { e.b = append(e.b, "null"...) }

// free writes a Go value as the JSON value that encoding/json decodes into an any, so that decoding
// gives it again.
func (e *encoder) free(v any, depth int) error {
	switch v := v.(type) {
	case nil:
		e.null()
	case bool:
		e.b = strconv.AppendBool(e.b, v)
	case string:
		e.text(v)
	case float64:
		return e.float(v)
	case int:
		return e.number(strconv.Itoa(v))
	case json.Number:
		return e.number(v.String())
	case time.Time:
		e.text(v.UTC().Format(time.RFC3339Nano))
	case map[string]string:
		e.texts(v)
	case map[string]any:
		return e.object(v, depth)
	case []any:
		return e.list(v, depth)
	default:
		return e.other(v, depth)
	}
	return nil
}

func (e *encoder) list(values []any, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	e.b = append(e.b, '[')
	for i, v := range values {
		e.comma(i)
		if err := e.free(v, depth+1); err != nil {
			return err
		}
	}
	e.b = append(e.b, ']')
	return nil
}

// number writes a JSON number. An integer that a float64 can't hold, say an ID of 64 bits, stays
// whole as a string.
func (e *encoder) number(text string) error {
	const exact = 1 << 53
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && -exact <= n && n <= exact {
			e.b = strconv.AppendInt(e.b, n, 10)
		} else {
			e.text(text)
		}
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return err
	}
	return e.float(f)
}

// float writes a number as JavaScript does (ECMA-262, Number::toString), but for minus zero: plain
// from 1e-6 up to 1e21, else with an exponent of as few digits as it takes.
func (e *encoder) float(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errors.New("not a finite number")
	}
	if size := math.Abs(f); size == 0 || size >= 1e-6 && size < 1e21 {
		e.b = strconv.AppendFloat(e.b, f, 'f', -1, 64)
		return nil
	}
	e.b = strconv.AppendFloat(e.b, f, 'e', -1, 64)
	if n := len(e.b); bytes.Equal(e.b[n-4:n-1], []byte("e-0")) { // strconv writes two digits at least
		e.b[n-2] = e.b[n-1]
		e.b = e.b[:n-1]
	}
	return nil
}

// other writes a value of any other type by way of its JSON.
func (e *encoder) other(v any, depth int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var plain any
	if err := dec.Decode(&plain); err != nil {
		return err
	}
	return e.free(plain, depth)
}
