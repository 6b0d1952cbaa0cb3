package audit

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shape is how a type of the schema is written, and read again. Depth counts how often a type stands
// within itself.
type shape struct {
	write func(e *encoder, v reflect.Value, depth int) error
	// read sets v, which is zero. It may take what write would not write in that way, but nothing that
	// encoding/json would read as something else; false means that encoding/json has to tell.
	read func(d *decoder, v reflect.Value) bool
}

// eventMembers are made of Event's declaration when they are first needed.
var eventMembers = sync.OnceValue(func() []member { return shapes{}.members(reflect.TypeFor[Event]()) })

// shapes are those made so far: a type may have itself among its members.
type shapes map[reflect.Type]*shape

func (m shapes) of(t reflect.Type) *shape {
	if s := m[t]; s != nil {
		return s
	}
	s := new(shape)
	m[t] = s
	switch made := m.make(t); {
	case made != nil:
		*s = *made
	default:
		*s = unwritable(t)
	}
	return s
}

func (m shapes) make(t reflect.Type) *shape {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &shape{writeTime, readTime}
	case reflect.TypeFor[map[string]any]():
		return &shape{writeObject, readObject}
	case reflect.TypeFor[map[string]string]():
		return &shape{writeTexts, readTexts}
	}
	if writesItself(t) {
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		return &shape{writeText, readText}
	case reflect.Bool:
		return &shape{writeBool, readBool}
	case reflect.Int, reflect.Int64:
		return &shape{writeInt, readInt}
	case reflect.Uint64:
		return &shape{writeUint, readUint}
	case reflect.Pointer:
		return pointer(m.of(t.Elem()))
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return list(m.of(t.Elem()))
		}
	case reflect.Struct:
		return m.object(t)
	}
	return nil
}

// writesItself reports whether encoding/json would ask the type itself how it is written.
func writesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t) // has the methods of t too
	return p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// unwritable is the shape of a type that the schema may not have.
func unwritable(t reflect.Type) shape {
	return shape{
		write: func(*encoder, reflect.Value, int) error { return fmt.Errorf("%s has no canonical form", t) },
		read:  func(*decoder, reflect.Value) bool { return false },
	}
}

func writeText(e *encoder, v reflect.Value, _ int) error { e.text(v.String()); return nil }

func writeBool(e *encoder, v reflect.Value, _ int) error {
	e.b = strconv.AppendBool(e.b, v.Bool())
	return nil
}

func writeInt(e *encoder, v reflect.Value, _ int) error {
	e.b = strconv.AppendInt(e.b, v.Int(), 10)
	return nil
}

func writeUint(e *encoder, v reflect.Value, _ int) error {
	e.b = strconv.AppendUint(e.b, v.Uint(), 10)
	return nil
}

func writeTime(e *encoder, v reflect.Value, _ int) error {
	var err error
	if e.b, err = v.Addr().Interface().(*time.Time).UTC().AppendText(append(e.b, '"')); err != nil {
		return err
	}
	e.b = append(e.b, '"')
	return nil
}

func writeObject(e *encoder, v reflect.Value, depth int) error {
	return e.object(*v.Addr().Interface().(*map[string]any), depth)
}

func writeTexts(e *encoder, v reflect.Value, _ int) error {
	e.texts(*v.Addr().Interface().(*map[string]string))
	return nil
}

func readText(d *decoder, v reflect.Value) bool {
	s, ok := d.text()
	v.SetString(s)
	return ok
}

func readBool(d *decoder, v reflect.Value) bool {
	is := d.take("true")
	v.SetBool(is)
	return is || d.take("false")
}

func readInt(d *decoder, v reflect.Value) bool {
	n, err := strconv.ParseInt(d.number(), 10, 64)
	v.SetInt(n)
	return err == nil
}

func readUint(d *decoder, v reflect.Value) bool {
	n, err := strconv.ParseUint(d.number(), 10, 64)
	v.SetUint(n)
	return err == nil
}

func readTime(d *decoder, v reflect.Value) bool {
	s, ok := d.text()
	return ok && v.Addr().Interface().(*time.Time).UnmarshalText([]byte(s)) == nil
}

func readObject(d *decoder, v reflect.Value) bool {
	m, ok := d.object(0)
	*v.Addr().Interface().(*map[string]any) = m
	return ok
}

func readTexts(d *decoder, v reflect.Value) bool {
	m, ok := d.texts()
	*v.Addr().Interface().(*map[string]string) = m
	return ok
}

// pointer writes nil as null and reads no null: an absent part is left out.
func pointer(to *shape) *shape {
	return &shape{
		write: func(e *encoder, v reflect.Value, depth int) error {
			if v.IsNil() {
				e.b = append(e.b, "null"...)
				return nil
			}
			return to.write(e, v.Elem(), depth)
		},
		read: func(d *decoder, v reflect.Value) bool {
			v.Set(reflect.New(v.Type().Elem()))
			return to.read(d, v.Elem())
		},
	}
}

func list(of *shape) *shape {
	return &shape{
		write: func(e *encoder, v reflect.Value, depth int) error {
			if v.IsNil() {
				e.b = append(e.b, "null"...)
				return nil
			}
			e.b = append(e.b, '[')
			for i := range v.Len() {
				if i > 0 {
					e.b = append(e.b, ',')
				}
				if err := of.write(e, v.Index(i), depth); err != nil {
					return err
				}
			}
			e.b = append(e.b, ']')
			return nil
		},
		read: func(d *decoder, v reflect.Value) bool {
			v.Set(reflect.MakeSlice(v.Type(), 0, 1))
			return d.list(func() bool {
				n := v.Len()
				v.Grow(1)
				v.SetLen(n + 1)
				return of.read(d, v.Index(n))
			})
		},
	}
}

// member is one field of a struct.
type member struct {
	*shape
	name   string // a comma, the name in quotes, and a colon
	index  int
	text   bool                     // it is a string, which most are
	deeper int                      // 1 where the field's type is a pointer to the struct's
	absent func(reflect.Value) bool // nil: it is always written
}

// object is the shape of a struct.
func (m shapes) object(t reflect.Type) *shape {
	members := m.members(t)
	if members == nil {
		return nil
	}
	return &shape{
		write: func(e *encoder, v reflect.Value, depth int) error {
			if depth > maxDepth {
				return errTooDeep
			}
			e.b = append(e.b, '{')
			err := writeMembers(e, members, v, depth)
			e.b = append(e.b, '}')
			return err
		},
		read: func(d *decoder, v reflect.Value) bool {
			return d.take("{") && readMembers(d, members, v, true)
		},
	}
}

// members returns nil for a struct with a field that is not tagged with a name and an option that is
// known here.
func (m shapes) members(t reflect.Type) []member {
	members := make([]member, t.NumField())
	for i := range members {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		absent, known := absentBy(f.Type, option)
		if f.Anonymous || !f.IsExported() || name == "" || name == "-" || !known {
			return nil
		}
		members[i] = member{
			shape: m.of(f.Type), name: "," + strconv.Quote(name) + ":", index: i, absent: absent,
			text: f.Type.Kind() == reflect.String && !writesItself(f.Type),
		}
		if f.Type == reflect.PointerTo(t) {
			members[i].deeper = 1
		}
	}
	return members
}

// absentBy returns what an option of a tag says about when a field is left out.
func absentBy(t reflect.Type, option string) (absent func(reflect.Value) bool, known bool) {
	_, own := t.MethodByName("IsZero")
	switch kind := t.Kind(); {
	case option == "":
		return nil, true
	case option == "omitzero" && t == reflect.TypeFor[time.Time]():
		return func(v reflect.Value) bool { return v.Addr().Interface().(*time.Time).IsZero() }, true
	case option == "omitempty" && (kind == reflect.Slice || kind == reflect.Map):
		return func(v reflect.Value) bool { return v.Len() == 0 }, true
	case option == "omitzero" && !own, option == "omitempty" && kind != reflect.Struct:
		return reflect.Value.IsZero, true
	}
	return nil, false
}

// writeMembers writes the members of an object that has begun.
func writeMembers(e *encoder, members []member, v reflect.Value, depth int) error {
	for i := range members {
		m := &members[i]
		f := v.Field(m.index)
		if m.text {
			if text := f.String(); text != "" || m.absent == nil {
				e.name(m.name)
				e.text(text)
			}
			continue
		}
		if m.absent != nil && m.absent(f) {
			continue
		}
		e.name(m.name)
		if err := m.write(e, f, depth+m.deeper); err != nil {
			return err
		}
	}
	return nil
}

// name writes a member's name, and the comma before it unless it is the first.
func (e *encoder) name(name string) {
	if e.b[len(e.b)-1] == '{' {
		name = name[1:]
	}
	e.b = append(e.b, name...)
}

// readMembers reads members, in their order, and the end of the object.
func readMembers(d *decoder, members []member, v reflect.Value, first bool) bool {
	for i := range members {
		m := &members[i]
		if !d.name(m.name, first) {
			if m.absent == nil {
				return false
			}
			continue
		}
		first = false
		if !m.read(d, v.Field(m.index)) {
			return false
		}
	}
	return d.take("}")
}
