package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
	"cel.dev/cel-go/parser"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// expression is a compiled condition: it holds where each of its conjuncts does.
type expression []*conjunct

// conjunct is one part of an expression between its outermost &&.
type conjunct struct {
	text    string // as it is shown
	program cel.Program
	simple  *simple       // the same as program, where it is simple
	seen    []observation // what it reads, to be shown where it does not hold
	names   []naming      // what can make it true

	aboutProvider bool // reads principal.provider or principal.issuer
	aboutRequest  bool // reads request
}

// observation is a part of a conjunct that reads one value of the input.
type observation struct {
	path    string // e.g. "principal.claims.ref"
	program cel.Program
}

// fault is what is wrong with an expression, at an offset in characters.
type fault struct {
	offset        int
	message, hint string
}

// holds reports whether every conjunct is true. An error is not true.
func (e expression) holds(in *input) bool {
	for _, c := range e {
		if c.truth(in) != isTrue {
			return false
		}
	}
	return true
}

// fails reports whether a conjunct is false. An error is not false.
func (e expression) fails(in *input) bool {
	return slices.ContainsFunc(e, func(c *conjunct) bool { return c.truth(in) == isFalse })
}

func (c *conjunct) truth(in *input) truth {
	if c.simple != nil {
		return c.simple.truth(in)
	}
	out, _, err := c.program.Eval(in)
	return truthOf(out == types.True, err)
}

// compile compiles text. What x has beside env is of the rule set; providers are the names
// that principal.provider may be compared with, or nil.
func (x *expressionCompiler) compile(text string, providers []string) (expression, []fault) {
	if utf8.RuneCountInString(text) > maxExpressionRunes {
		return nil, []fault{{message: fmt.Sprintf("is longer than %d characters", maxExpressionRunes)}}
	}
	if !utf8.ValidString(text) { // it would not read back from the canonical text as what it is
		return nil, []fault{{message: "is not valid UTF-8"}}
	}
	checked, issues := x.env.Compile(text)
	if issues.Err() != nil {
		return nil, faultsOf(x.env, text, issues)
	}
	x.tree = checked.NativeRep()
	x.findGroupTests()
	for _, e := range conjunctsOf(x.tree.Expr()) {
		x.conjunct(e)
	}
	x.checkProviders(providers)
	return x.out, x.faults
}

// faultsOf turns the compiler's complaints into ours.
func faultsOf(env *cel.Env, text string, issues *cel.Issues) []fault {
	var all []fault
	for _, e := range issues.Errors() {
		message := plain(e.Message)
		all = append(all, fault{
			offset:  offsetOf(text, e.Location.Line(), e.Location.Column()),
			message: "is not a valid expression: " + message,
			hint:    hintFor(env, message),
		})
	}
	return all
}

// plain drops from the compiler's message what means nothing to a rule's author: CEL's containers,
// its own guesses (ours know fields too), and the list of every token that could have come.
func plain(message string) string {
	for _, noise := range []string{" (in container", " expecting {", " (did you mean"} {
		message, _, _ = strings.Cut(message, noise)
	}
	return strings.ReplaceAll(message, "'<EOF>'", "the end of the expression")
}

// offsetOf returns the offset in characters of a line, from one, and a column, from zero.
func offsetOf(text string, line, column int) int {
	offset := 0
	for i, l := range strings.SplitAfter(text, "\n") {
		if i+1 >= line {
			break
		}
		offset += utf8.RuneCountInString(l)
	}
	return max(0, offset+column)
}

var quotedName = regexp.MustCompile(`^(?:(undeclared reference to|undefined field) '([^']+)')`)

// hintFor names what was probably meant by a name that does not exist.
func hintFor(env *cel.Env, message string) string {
	m := quotedName.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	var known []string
	if m[1] == "undefined field" {
		for _, f := range ourFields {
			known = append(known, f.names()...)
		}
	} else {
		for _, v := range env.Variables() {
			known = append(known, v.Name())
		}
	}
	return strictyaml.DidYouMean(m[2], known)
}

// conjunctsOf splits an expression at its outermost &&.
func conjunctsOf(e ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
		return []ast.Expr{e}
	}
	var all []ast.Expr
	for _, arg := range e.AsCall().Args() {
		all = append(all, conjunctsOf(arg)...)
	}
	return all
}

// expressionCompiler compiles one expression.
type expressionCompiler struct {
	env    *cel.Env
	isOurs func(group string) bool // whether the rule set defines a group
	words  *vocabulary             // of the rule set

	tree       *ast.AST
	groupTests map[int64]groupTest // by the expressions that they take the place of
	out        expression
	faults     []fault
}

func (x *expressionCompiler) refuse(e ast.Expr, message, hint string) {
	offset := 0
	if r, ok := x.tree.SourceInfo().GetOffsetRange(e.ID()); ok {
		offset = int(r.Start)
	}
	x.faults = append(x.faults, fault{offset, message, hint})
}

func (x *expressionCompiler) conjunct(e ast.Expr) {
	text, err := parser.Unparse(e, x.tree.SourceInfo())
	if err != nil {
		x.refuse(e, "is an expression that can't be shown: "+err.Error(), "")
		return
	}
	if t := x.tree.GetType(e.ID()); !t.IsExactType(types.BoolType) {
		x.refuse(e, fmt.Sprintf("%s is %s, not a condition", text, t), "compare it with a value, as in == true")
		return
	}
	program, err := x.program(e)
	if err != nil {
		x.refuse(e, "can't be compiled: "+err.Error(), "")
		return
	}
	c := &conjunct{text: text, program: program, simple: x.simple(e), names: namings(e)}
	x.classify(c, e)
	x.observe(c, e)
	x.out = append(x.out, c)
}

// program compiles a part of the expression alone.
func (x *expressionCompiler) program(e ast.Expr) (cel.Program, error) {
	part := ast.NewCheckedAST(ast.NewAST(e, x.tree.SourceInfo()), x.tree.TypeMap(), x.tree.ReferenceMap())
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize), cel.CustomDecorator(x.testGroup)}
	if loops := ast.MatchDescendants(ast.NavigateExpr(x.tree, e), ast.KindMatcher(ast.ComprehensionKind)); len(loops) > 0 {
		options = append(options, cel.CostLimit(maxLoopCost)) // counting costs time, and only loops can cost much
	}
	return x.env.PlanProgram(part, options...)
}

// findGroupTests finds where an expression asks for a group of the rule set.
func (x *expressionCompiler) findGroupTests() {
	x.groupTests = map[int64]groupTest{}
	for _, e := range ast.MatchDescendants(ast.NavigateAST(x.tree), ast.KindMatcher(ast.CallKind)) {
		if e.AsCall().FunctionName() != operators.In {
			continue
		}
		name, literal := literalString(e.AsCall().Args()[0])
		path, ok := pathOf(e.AsCall().Args()[1])
		if literal && ok && x.isOurs(name) && (path == "principal.groups" || path == "principal.actor.groups") {
			x.groupTests[e.ID()] = groupTest{name: name, actor: path == "principal.actor.groups"}
		}
	}
}

// testGroup puts group tests into a program.
func (x *expressionCompiler) testGroup(i interpreter.Interpretable) (interpreter.Interpretable, error) {
	t, ok := x.groupTests[i.ID()]
	if !ok {
		return i, nil
	}
	t.Interpretable = i
	return t, nil
}
