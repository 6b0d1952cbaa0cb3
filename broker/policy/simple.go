package policy

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/daypass-io/daypass/cred"
)

// truth is what a condition says. What can't be evaluated is neither true nor false.
type truth uint8

const (
	isFalse truth = iota
	isTrue
	isUnknown
)

func truthOf(b bool, err error) truth {
	switch {
	case err != nil:
		return isUnknown
	case b:
		return isTrue
	}
	return isFalse
}

// simple is a condition that compares one text of the principal with literals, or asks for one group.
// Most conditions are: they are evaluated without CEL, with the same outcome, and rules are indexed by
// them.
type simple struct {
	key      int      // the number of what is compared; that of groups means nothing
	isGroup  bool     // it asks for a group
	values   []string // of which the text must be one; the group's name
	literals []int32  // their numbers
}

// simpleKey is what a simple condition reads: a field of the principal, or a claim.
type simpleKey struct {
	field func(*cred.Principal) string
	path  string
	claim string
}

var simpleFields = map[string]func(*cred.Principal) string{
	"principal.provider": func(p *cred.Principal) string { return p.Provider },
	"principal.issuer":   func(p *cred.Principal) string { return p.Issuer },
	"principal.subject":  func(p *cred.Principal) string { return p.Subject },
	"principal.name":     func(p *cred.Principal) string { return p.Name },
	"principal.kind":     func(p *cred.Principal) string { return string(p.Kind) },
}

// vocabulary numbers what a set's simple conditions read, and the literals that they compare it with.
type vocabulary struct {
	keys     []simpleKey
	numbers  map[string]int   // of keys, by path
	literals map[string]int32 // from 1
}

func (v *vocabulary) key(k simpleKey) int {
	n, known := v.numbers[k.path]
	if !known {
		if v.numbers == nil {
			v.numbers = map[string]int{}
		}
		n = len(v.keys)
		v.keys, v.numbers[k.path] = append(v.keys, k), n
	}
	return n
}

func (v *vocabulary) literal(text string) int32 {
	n, known := v.literals[text]
	if !known {
		if v.literals == nil {
			v.literals = map[string]int32{}
		}
		n = int32(len(v.literals) + 1)
		v.literals[text] = n
	}
	return n
}

// value is what a simple condition has read.
type value struct {
	read, present bool
	isText        bool
	literal       int32 // the number of the text; zero where no condition compares anything with it
	text          string
}

// value returns what a key's conditions compare.
func (in *input) value(key int) *value {
	v := &in.values[key]
	if v.read {
		return v
	}
	k := &in.set.words.keys[key]
	v.read = true
	if k.field != nil {
		v.text, v.present, v.isText = k.field(in.who.Principal), true, true
	} else {
		var raw any
		raw, v.present = in.who.Claims[k.claim]
		v.text, v.isText = raw.(string)
	}
	if v.isText {
		v.literal = in.set.words.literals[v.text]
	}
	return v
}

func (s *simple) truth(in *input) truth {
	if s.isGroup {
		return truthOf(in.who.inGroup(s.values[0]))
	}
	v := in.value(s.key)
	switch {
	case !v.present:
		return isUnknown
	case v.isText && slices.Contains(s.literals, v.literal):
		return isTrue
	}
	return isFalse
}

// simple returns what a conjunct is if it is simple, else nil.
func (x *expressionCompiler) simple(e ast.Expr) *simple {
	if e.Kind() != ast.CallKind {
		return nil
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.Equals:
		if k, ok := simpleKeyOf(args[0]); ok {
			return x.comparison(k, args[1])
		}
		if k, ok := simpleKeyOf(args[1]); ok {
			return x.comparison(k, args[0])
		}
	case operators.In:
		if k, ok := simpleKeyOf(args[0]); ok && args[1].Kind() == ast.ListKind {
			return x.comparison(k, args[1].AsList().Elements()...)
		}
		name, literal := literalString(args[0])
		if path, ok := pathOf(args[1]); ok && literal && path == "principal.groups" {
			return &simple{isGroup: true, values: []string{name}}
		}
	}
	return nil
}

func (x *expressionCompiler) comparison(k simpleKey, literals ...ast.Expr) *simple {
	s := &simple{}
	for _, e := range literals {
		text, ok := literalString(e)
		if !ok {
			return nil
		}
		s.values = append(s.values, text)
	}
	for _, v := range s.values {
		s.literals = append(s.literals, x.words.literal(v))
	}
	s.key = x.words.key(k)
	return s
}

// simpleKeyOf returns what an expression reads where simple conditions can. A claim in a claim is not
// among it.
func simpleKeyOf(e ast.Expr) (simpleKey, bool) {
	if isTest(e) {
		return simpleKey{}, false
	}
	path, ok := pathOf(e)
	if field := simpleFields[path]; ok && field != nil {
		return simpleKey{field: field, path: path}, true
	}
	holder, name, ok := lastStep(e)
	return simpleKey{path: path, claim: name}, ok && holder == "principal.claims"
}

// lastStep splits what reads one field, or one key, of a path.
func lastStep(e ast.Expr) (holder, name string, ok bool) {
	switch e.Kind() {
	case ast.SelectKind:
		holder, ok = pathOf(e.AsSelect().Operand())
		return holder, e.AsSelect().FieldName(), ok
	case ast.CallKind:
		if e.AsCall().FunctionName() == operators.Index {
			name, literal := literalString(e.AsCall().Args()[1])
			holder, ok = pathOf(e.AsCall().Args()[0])
			return holder, name, ok && literal
		}
	}
	return "", "", false
}
