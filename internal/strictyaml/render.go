package strictyaml

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Render writes a value as Decode reads it, in a form that depends on nothing but the value: JSON,
// which is YAML, with fields in the order of their struct, map keys sorted and zero values left out.
// Two equal values have equal renderings, and Decode of the rendering gives the value back.
//
// It knows strings, booleans, whole numbers, time.Duration, structs, pointers to structs, slices and
// maps of these, and panics on others: a secret has no rendering.
func Render(v any) []byte {
	var r renderer
	r.value(reflect.ValueOf(v), "\n")
	r.WriteByte('\n')
	return r.Bytes()
}

type renderer struct{ bytes.Buffer }

// value writes v; indent is a line end and the white space before what belongs to v.
func (r *renderer) value(v reflect.Value, indent string) {
	switch {
	case v.Type() == durationType:
		r.quote(time.Duration(v.Int()).String())
	case v.Kind() == reflect.String:
		r.quote(v.String())
	case v.Kind() == reflect.Bool:
		r.WriteString(strconv.FormatBool(v.Bool()))
	case v.CanInt():
		r.WriteString(strconv.FormatInt(v.Int(), 10))
	case v.CanUint():
		r.WriteString(strconv.FormatUint(v.Uint(), 10))
	case v.Kind() == reflect.Pointer:
		r.value(v.Elem(), indent)
	case v.Kind() == reflect.Struct && v.Type() != secretType:
		r.structure(v, indent)
	case v.Kind() == reflect.Slice:
		r.list('[', ']', v.Len(), indent, func(i int, inner string) { r.value(v.Index(i), inner) })
	case v.Kind() == reflect.Map:
		r.mapping(v, indent)
	default:
		panic(fmt.Sprintf("strictyaml: %s can't be rendered", v.Type()))
	}
}

func (r *renderer) structure(v reflect.Value, indent string) {
	var set []field
	for _, f := range fieldsOf(v) {
		if !isEmpty(f.value) {
			set = append(set, f)
		}
	}
	r.list('{', '}', len(set), indent, func(i int, inner string) {
		r.quote(set[i].name)
		r.WriteString(": ")
		r.value(set[i].value, inner)
	})
}

// isEmpty reports whether a field reads the same when it is left out.
func isEmpty(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	return v.IsZero()
}

func (r *renderer) mapping(v reflect.Value, indent string) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
	r.list('{', '}', len(keys), indent, func(i int, inner string) {
		r.quote(keys[i].String())
		r.WriteString(": ")
		r.value(v.MapIndex(keys[i]), inner)
	})
}

func (r *renderer) list(open, end byte, n int, indent string, item func(i int, inner string)) {
	r.WriteByte(open)
	for i := range n {
		if i > 0 {
			r.WriteByte(',')
		}
		r.WriteString(indent + "  ")
		item(i, indent+"  ")
	}
	if n > 0 {
		r.WriteString(indent)
	}
	r.WriteByte(end)
}

// quote writes a JSON string in which whatever Parse refuses is escaped.
func (r *renderer) quote(s string) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("strictyaml: a string failed to encode: " + err.Error())
	}
	for _, c := range string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))) {
		if unwelcome(c) {
			fmt.Fprintf(r, `\u%04x`, c)
		} else {
			r.WriteRune(c)
		}
	}
}
