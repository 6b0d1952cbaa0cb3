package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// fact is what a condition says of one value, a negation around it worked in.
type fact struct {
	path    string   // e.g. "principal.claims.ref"; empty where it is not that of one value
	op      string   // "==", "in", "has" (of a list), "present", "startsWith" and so on, "<"; or one of these after "not "
	values  []string // that it is compared with, where they are literals
	literal bool     // all that it is compared with is literal
	text    string   // as it is written
	place   place    // where it begins
	value   place    // where what it is compared with begins
}

func (f fact) isEquality() bool { return f.op == "==" || f.op == "in" }

func (f fact) negated() fact {
	if rest, ok := strings.CutPrefix(f.op, "not "); ok {
		f.op = rest
	} else {
		f.op = "not " + f.op
	}
	return f
}

// branch is a condition as a tree: all of its parts must hold, or one; or it is a fact. Without parts
// and fact it is a condition of which nothing is known.
type branch struct {
	all   bool
	parts []branch
	fact  *fact
}

// must returns the facts that hold wherever the condition does.
func (b branch) must() []fact {
	switch {
	case b.fact != nil:
		return []fact{*b.fact}
	case b.all:
		var out []fact
		for _, p := range b.parts {
			out = append(out, p.must()...)
		}
		return out
	case len(b.parts) == 0:
		return nil
	}
	out := b.parts[0].must()
	for _, p := range b.parts[1:] {
		out = inBoth(out, p.must())
	}
	return out
}

// ensures reports whether the condition holds only where a fact of some sort does.
func (b branch) ensures(sort func(fact) bool) bool {
	switch {
	case b.fact != nil:
		return sort(*b.fact)
	case b.all:
		return slices.ContainsFunc(b.parts, func(p branch) bool { return p.ensures(sort) })
	}
	return len(b.parts) > 0 && !slices.ContainsFunc(b.parts, func(p branch) bool { return !p.ensures(sort) })
}

// inBoth returns what is known where either of two lists of facts holds: the facts about the same
// value, with the values of both.
func inBoth(a, b []fact) []fact {
	var out []fact
	for _, f := range a {
		for _, g := range b {
			switch {
			case f.path != g.path, f.path == "":
			case f.isEquality() && g.isEquality() && f.literal && g.literal:
				f.op, f.values = "in", slices.Concat(f.values, g.values)
				out = append(out, f)
			case f.op == g.op && f.literal && g.literal && slices.Equal(f.values, g.values):
				out = append(out, f)
			}
		}
	}
	return out
}

// each visits every fact with those that hold wherever it is decisive: beside it in an && around it.
func (b branch) each(visit func(f fact, beside []fact)) { b.eachIn(nil, visit) }

func (b branch) eachIn(beside []fact, visit func(fact, []fact)) {
	if b.fact != nil {
		visit(*b.fact, beside)
	}
	for i, p := range b.parts {
		around := beside
		if b.all {
			others := branch{all: true, parts: slices.Concat(b.parts[:i], b.parts[i+1:])}
			around = slices.Concat(beside, others.must())
		}
		p.eachIn(around, visit)
	}
}

// conditionReader reads expressions without compiling them, so that it needs no types.
type conditionReader struct{ env *cel.Env }

func newConditionReader() conditionReader {
	env, err := cel.NewEnv(
		cel.EnableMacroCallTracking(),
		cel.ParserExpressionSizeLimit(maxExpressionRunes),
		cel.ParserRecursionLimit(maxExpressionDepth),
		cel.ExpressionNestingDepthLimit(maxExpressionDepth),
	)
	if err != nil { // of options that are constant, so that any test would find it
		panic("policy: CEL's environment: " + err.Error())
	}
	return conditionReader{env}
}

// read returns an expression as a tree whose parts are its conjuncts, and their texts.
func (r conditionReader) read(path, text string) (branch, []string, error) {
	if utf8.RuneCountInString(text) > maxExpressionRunes || !utf8.ValidString(text) {
		return branch{}, nil, fmt.Errorf("%s can't be read", path)
	}
	parsed, issues := r.env.Parse(text)
	if issues.Err() != nil {
		return branch{}, nil, issues.Err()
	}
	x := reading{path: path, tree: parsed.NativeRep()}
	out := branch{all: true}
	var texts []string
	for _, e := range conjunctsOf(x.tree.Expr()) {
		texts = append(texts, x.text(e))
		out.parts = append(out.parts, x.branch(e, false))
	}
	return out, texts, nil
}

// reading is an expression that is read.
type reading struct {
	path string
	tree *ast.AST
}

func (x reading) text(e ast.Expr) string {
	text, err := parser.Unparse(e, x.tree.SourceInfo())
	if err != nil {
		return ""
	}
	return text
}

// at returns where an expression begins.
func (x reading) at(e ast.Expr) place {
	first := -1
	for _, part := range ast.MatchDescendants(ast.NavigateExpr(x.tree, e), ast.AllMatcher()) {
		if r, ok := x.tree.SourceInfo().GetOffsetRange(part.ID()); ok && (first < 0 || int(r.Start) < first) {
			first = int(r.Start)
		}
	}
	return place{x.path, max(first, 0)}
}

func (x reading) branch(e ast.Expr, not bool) branch {
	switch e.Kind() {
	case ast.CallKind:
		return x.call(e, not)
	case ast.SelectKind:
		if isTest(e) {
			s := e.AsSelect()
			path, ok := pathOf(s.Operand())
			return x.fact(e, e, not, ok, fact{path: path + "." + s.FieldName(), op: "present", literal: true})
		}
		path, ok := pathOf(e)
		return x.fact(e, e, not, ok, fact{path: path, op: "==", values: []string{"true"}, literal: true})
	case ast.ComprehensionKind:
		return branch{parts: []branch{x.branch(e.AsComprehension().LoopStep(), not), {}}} // what holds of some element is not known to hold
	}
	return branch{}
}

func (x reading) call(e ast.Expr, not bool) branch {
	call := e.AsCall()
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		b := branch{all: (name == operators.LogicalAnd) != not}
		for _, a := range args {
			b.parts = append(b.parts, x.branch(a, not))
		}
		return b
	case operators.LogicalNot:
		return x.branch(args[0], !not)
	case operators.Conditional: // c ? a : b is c && a || !c && b
		return branch{parts: []branch{
			{all: true, parts: []branch{x.branch(args[0], false), x.branch(args[1], not)}},
			{all: true, parts: []branch{x.branch(args[0], true), x.branch(args[2], not)}},
		}}
	case operators.In:
		return x.membership(e, args[0], args[1], not)
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return x.comparison(e, args[0], args[1], not)
	case "startsWith", "endsWith", "contains", "matches":
		if call.IsMemberFunction() {
			args = append([]ast.Expr{call.Target()}, args...)
		}
		if len(args) != 2 {
			return branch{}
		}
		path, ok := pathOf(args[0])
		if !ok {
			path = "" // such as a loop's variable: the pattern is of interest all the same
		}
		values, literal := literalsOf(args[1])
		return x.fact(e, args[1], not, true, fact{path: path, op: name, values: values, literal: literal})
	}
	return branch{}
}

// membership reads `value in [..]` and `"literal" in list`.
func (x reading) membership(e, element, list ast.Expr, not bool) branch {
	if path, ok := pathOf(element); ok {
		values, literal := literalsOf(list)
		return x.fact(e, list, not, true, fact{path: path, op: "in", values: values, literal: literal})
	}
	path, ok := pathOf(list)
	values, literal := literalsOf(element)
	return x.fact(e, element, not, ok, fact{path: path, op: "has", values: values, literal: literal})
}

// mirrored are the comparisons with their sides exchanged.
var mirrored = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<="}

func (x reading) comparison(e, left, right ast.Expr, not bool) branch {
	op := strings.Trim(e.AsCall().FunctionName(), "_")
	if op == "!=" {
		op, not = "==", !not
	}
	path, ok := pathOf(left)
	if !ok {
		if path, ok = pathOf(right); ok {
			right = left
			if m := mirrored[op]; m != "" {
				op = m
			}
		}
	}
	values, literal := literalsOf(right)
	return x.fact(e, right, not, ok, fact{path: path, op: op, values: values, literal: literal})
}

// fact makes a leaf of a part that is about one value, and one of which nothing is known of another.
func (x reading) fact(e, value ast.Expr, not, known bool, f fact) branch {
	if !known {
		return branch{}
	}
	f.text, f.place, f.value = x.text(e), x.at(e), x.at(value)
	if not {
		f = f.negated()
	}
	return branch{fact: &f}
}

// literalsOf returns a literal, or those of a list, as text, and whether there is nothing else. The
// literal of timestamp("…") counts.
func literalsOf(e ast.Expr) ([]string, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		if s, ok := e.AsLiteral().(types.String); ok {
			return []string{string(s)}, true
		}
		return []string{fmt.Sprint(e.AsLiteral().Value())}, true
	case ast.ListKind:
		var all []string
		for _, element := range e.AsList().Elements() {
			one, ok := literalsOf(element)
			if !ok {
				return nil, false
			}
			all = append(all, one...)
		}
		return all, true
	case ast.CallKind:
		if call := e.AsCall(); call.FunctionName() == "timestamp" && len(call.Args()) == 1 {
			return literalsOf(call.Args()[0])
		}
	}
	return nil, false
}

// claimOf returns the name of the claim that a path reads, and whose it is.
func claimOf(path string) (holder, claim string, ok bool) {
	for _, holder := range []string{"principal", "principal.actor"} {
		if rest, found := strings.CutPrefix(path, holder+".claims"); found {
			if named, found := strings.CutPrefix(rest, "."); found {
				return holder, named, true
			}
			if quoted, found := strings.CutPrefix(rest, `["`); found {
				return holder, strings.TrimSuffix(quoted, `"]`), true
			}
		}
	}
	return "", "", false
}
