package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Decoder is implemented by types that read a node themselves. A nil node means that the value is
// absent.
type Decoder interface {
	DecodeNode(n *Node) Problems
}

var (
	decoderType  = reflect.TypeFor[Decoder]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	nodeType     = reflect.TypeFor[*Node]()
	secretType   = reflect.TypeFor[cred.Secret]()
	durationType = reflect.TypeFor[time.Duration]()
)

// Decode reads n into what into points to, a struct as a rule, and returns every problem. What is
// wrong is left as it was, so that checks of the rest can follow. On a nil or empty node only
// defaults are set, and required keys are missed.
//
// Decode panics on a type that the package does not know: that is a fault of the program.
func (n *Node) Decode(into any) Problems {
	d := decoder{}
	if n == nil {
		n = emptyNode("")
	}
	d.value(n, reflect.ValueOf(into).Elem(), "")
	return d.problems
}

type decoder struct{ problems Problems }

func (d *decoder) refuse(n *Node, message, hint string) {
	d.problems = append(d.problems, n.Problem("", message, hint))
}

// value reads a node into v. Null leaves v as it is, but for structs, which then get their defaults.
func (d *decoder) value(n *Node, v reflect.Value, enum string) {
	switch t := v.Type(); {
	case t == nodeType:
		v.Set(reflect.ValueOf(n))
	case reflect.PointerTo(t).Implements(decoderType):
		d.problems = append(d.problems, v.Addr().Interface().(Decoder).DecodeNode(n)...)
	case t == secretType:
		d.secret(n, v)
	case t == durationType:
		d.duration(n, v)
	case reflect.PointerTo(t).Implements(textType):
		d.text(n, v)
	default:
		d.plain(n, v, enum)
	}
}

func (d *decoder) plain(n *Node, v reflect.Value, enum string) {
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v)
	case reflect.Pointer:
		if n.kind != Null {
			v.Set(reflect.New(v.Type().Elem()))
			d.value(n, v.Elem(), enum)
		}
	case reflect.Slice:
		d.slice(n, v, enum)
	case reflect.Map:
		d.mapping(n, v, enum)
	default:
		d.scalar(n, v, enum)
	}
}

func (d *decoder) slice(n *Node, v reflect.Value, enum string) {
	if !d.want(n, Sequence) {
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		if item.kind == Null && v.Type().Elem() != nodeType {
			d.refuse(item, "is empty", "")
			continue
		}
		d.value(item, out.Index(i), enum)
	}
	v.Set(out)
}

func (d *decoder) mapping(n *Node, v reflect.Value, enum string) {
	if !d.want(n, Mapping) {
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.entries))
	for _, e := range n.entries {
		value := reflect.New(v.Type().Elem()).Elem()
		if e.value.kind == Null && v.Type().Elem() != nodeType {
			d.refuse(e.value, "is empty", "")
			continue
		}
		d.value(e.value, value, enum)
		out.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), value)
	}
	v.Set(out)
}

// want reports whether n has a kind; null is no problem and has nothing to read.
func (d *decoder) want(n *Node, k Kind) bool {
	if n.kind != k && n.kind != Null {
		d.refuse(n, fmt.Sprintf("must be %s, not %s", k, n.kind), "")
	}
	return n.kind == k
}

func (d *decoder) structure(n *Node, v reflect.Value) {
	if n.kind != Mapping && !d.want(n, Null) {
		d.problems[len(d.problems)-1].Message = fmt.Sprintf("must be a mapping, not %s", n.kind)
		return
	}
	fields := fieldsOf(v)
	for _, f := range fields {
		d.field(n, f)
	}
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.name
	}
	for _, e := range n.entries {
		if !slices.Contains(known, e.key) {
			d.unknownKey(n, e, known)
		}
	}
}

func (d *decoder) unknownKey(n *Node, e entry, known []string) {
	hint := DidYouMean(e.key, known)
	if hint == "" && len(known) > 0 {
		hint = "possible are " + strings.Join(known, ", ")
	}
	d.problems = append(d.problems, Problem{
		File: n.doc.file, Line: e.line, Column: e.column, Path: Key(n.path, e.key),
		Message: "unknown key", Hint: hint,
	})
}

func (d *decoder) field(n *Node, f field) {
	child := n.Get(f.name)
	if child != nil && child.kind != Null {
		d.value(child, f.value, f.enum)
		return
	}
	if f.required {
		p := n.Problem("", "is missing", "")
		p.Path = Key(n.path, f.name)
		d.problems = append(d.problems, p)
		return
	}
	absent := &Node{path: Key(n.path, f.name), line: n.line, column: n.column, doc: n.doc}
	if f.preset != "" {
		absent.kind, absent.text = presetKind(f.value), f.preset
	} else if f.value.Type() == nodeType {
		return
	}
	d.value(absent, f.value, f.enum)
}

// presetKind returns the kind of node that a default of a field's type is written as.
func presetKind(v reflect.Value) Kind {
	switch {
	case v.Type() == durationType:
		return String
	case v.Kind() == reflect.Bool:
		return Bool
	case v.CanInt() || v.CanUint():
		return Number
	}
	return String
}

// field is a key that a struct knows.
type field struct {
	name, preset, enum string
	required           bool
	value              reflect.Value
}

// fieldsOf returns a struct's keys, with those of embedded structs among them.
func fieldsOf(v reflect.Value) []field {
	var all []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag, tagged := f.Tag.Lookup("yaml")
		switch {
		case f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct:
			all = append(all, fieldsOf(v.Field(i))...)
		case tagged && f.IsExported():
			name, option, _ := strings.Cut(tag, ",")
			all = append(all, field{
				name: name, preset: f.Tag.Get("default"), enum: f.Tag.Get("enum"),
				required: option == "required", value: v.Field(i),
			})
		}
	}
	return all
}
