package config

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

const referenceFile = "../../docs/configuration.md"

// TestReference compares docs/configuration.md with the comments that it is made of. With -update it
// writes the page.
func TestReference(t *testing.T) {
	got := renderReference(reference(t))
	if *update {
		if err := os.WriteFile(referenceFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/configuration.md is not what the comments say; run: go test ./broker/config -run Reference -update")
	}
}

// anyDriver stands in the reference for the key that names an issuer's driver.
const anyDriver = "DRIVER"

// section is a struct of the configuration, and key one of its fields.
type section struct {
	name, text string
	keys       []key
}

type key struct{ name, kind, preset, enum, text string }

// reference reads the structs that Config is made of, in the order in which they are first named.
func reference(t *testing.T) []section {
	t.Helper()
	structs := map[string]*ast.TypeSpec{}
	for _, file := range []string{"config.go", "providers.go", "notices.go", "rotations.go", "../policy/source.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
				spec := g.Specs[0].(*ast.TypeSpec)
				spec.Doc = g.Doc
				structs[spec.Name.Name] = spec
			}
		}
	}
	r := referenceReader{t, structs, map[string]bool{}, nil}
	r.add("Config")
	return r.out
}

type referenceReader struct {
	t       *testing.T
	structs map[string]*ast.TypeSpec
	seen    map[string]bool
	out     []section
}

func (r *referenceReader) add(name string) {
	spec, ok := r.structs[name]
	if !ok || r.seen[name] {
		return
	}
	r.seen[name] = true
	at := len(r.out)
	r.out = append(r.out, section{name: name, text: spec.Doc.Text()})
	fields := r.fields(spec)
	for _, f := range fields {
		r.out[at].keys = append(r.out[at].keys, r.key(name, f))
	}
	for _, f := range fields {
		r.add(structName(f.Type))
	}
}

// fields returns the fields that are read from YAML, with those of embedded structs.
func (r *referenceReader) fields(spec *ast.TypeSpec) []*ast.Field {
	var all []*ast.Field
	for _, f := range spec.Type.(*ast.StructType).Fields.List {
		switch {
		case len(f.Names) == 0:
			embedded := structName(f.Type)
			r.seen[embedded] = true
			all = append(all, r.fields(r.structs[embedded])...)
		case f.Tag != nil || spec.Name.Name == "Issuer" || spec.Name.Name == "Rotation" && f.Names[0].Name == "Driver":
			all = append(all, f)
		}
	}
	return all
}

func (r *referenceReader) key(in string, f *ast.Field) key {
	text := strings.TrimSpace(f.Doc.Text())
	if text == "" {
		r.t.Errorf("%s.%s has no comment", in, f.Names[0].Name)
	}
	if f.Tag == nil { // of Issuer and Rotation, which read themselves
		name := map[string]string{"Name": "name", "Driver": anyDriver, "Section": ""}[f.Names[0].Name]
		return key{name: name, kind: "string", text: text}
	}
	literal, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		r.t.Fatal(err)
	}
	tag := reflect.StructTag(literal)
	name, option, _ := strings.Cut(tag.Get("yaml"), ",")
	k := key{name: name, kind: kindOf(f.Type), preset: tag.Get("default"), enum: tag.Get("enum"), text: text}
	if option == "required" {
		k.kind += ", required"
	}
	return k
}

func structName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return structName(e.X)
	case *ast.ArrayType:
		return structName(e.Elt)
	case *ast.MapType:
		return structName(e.Value)
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func kindOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.ArrayType:
		return "list of " + kindOf(e.Elt)
	case *ast.MapType:
		return "mapping of string to " + kindOf(e.Value)
	case *ast.StarExpr:
		return kindOf(e.X)
	case *ast.SelectorExpr:
		if from, ok := e.X.(*ast.Ident); ok && from.Name == "policy" {
			return kindOf(e.Sel)
		}
		return strings.ToLower(e.Sel.Name)
	case *ast.Ident:
		switch e.Name {
		case "string":
			return "string"
		case "bool":
			return "true or false"
		case "int":
			return "whole number"
		}
		return "[" + e.Name + "](#" + strings.ToLower(e.Name) + ")"
	}
	return fmt.Sprintf("%T", e)
}
