package policy

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// maxObservations bounds what an explanation shows of one conjunct.
const maxObservations = 4

// classify notes which variables a conjunct reads, loops included.
func (x *expressionCompiler) classify(c *conjunct, e ast.Expr) {
	for _, part := range ast.MatchDescendants(ast.NavigateExpr(x.tree, e), ast.AllMatcher()) {
		path, _ := pathOf(part)
		c.aboutRequest = c.aboutRequest || path == "request"
		c.aboutProvider = c.aboutProvider || path == "principal.provider" || path == "principal.issuer"
	}
}

// observe notes what a conjunct reads: the longest chains of fields from a variable.
func (x *expressionCompiler) observe(c *conjunct, e ast.Expr) {
	if path, ok := pathOf(e); ok {
		x.note(c, e, path)
		return
	}
	for _, child := range childrenOf(e) {
		x.observe(c, child)
	}
}

func (x *expressionCompiler) note(c *conjunct, e ast.Expr, path string) {
	known := slices.ContainsFunc(c.seen, func(o observation) bool { return o.path == path })
	if known || len(c.seen) >= maxObservations || !strings.Contains(path, ".") || isTest(e) {
		return
	}
	if program, err := x.program(e); err == nil {
		c.seen = append(c.seen, observation{path, program})
	}
}

// pathOf returns an expression that does nothing but read fields of a variable, as it is written.
func pathOf(e ast.Expr) (string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent(), slices.Contains([]string{"principal", "request", "target", "now"}, e.AsIdent())
	case ast.SelectKind:
		s := e.AsSelect()
		path, ok := pathOf(s.Operand())
		return path + "." + s.FieldName(), ok
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.Index {
			return "", false
		}
		key, literal := literalString(call.Args()[1])
		path, ok := pathOf(call.Args()[0])
		return strictyaml.Key(path, key), ok && literal
	}
	return "", false
}

// isTest reports whether an expression is what has() stands for, which has no value of its own.
func isTest(e ast.Expr) bool { return e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() }

// childrenOf returns the parts of an expression that are evaluated on the input alone. The body of a
// loop also reads the loop's variables, so of a loop only the range is among them.
func childrenOf(e ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.CallKind:
		args := e.AsCall().Args()
		if e.AsCall().IsMemberFunction() {
			args = append([]ast.Expr{e.AsCall().Target()}, args...)
		}
		return args
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.ComprehensionKind:
		return []ast.Expr{e.AsComprehension().IterRange()}
	}
	return nil
}

// checkProviders finds comparisons of principal.provider with a name that no provider has: a rule
// that can never match.
func (x *expressionCompiler) checkProviders(providers []string) {
	if providers == nil {
		return
	}
	for _, e := range ast.MatchDescendants(ast.NavigateAST(x.tree), ast.KindMatcher(ast.CallKind)) {
		call := e.AsCall()
		if !slices.Contains([]string{operators.Equals, operators.NotEquals, operators.In}, call.FunctionName()) {
			continue
		}
		for i, arg := range call.Args() {
			if path, ok := pathOf(arg); ok && path == "principal.provider" {
				x.checkNames(call.Args()[1-i], providers)
			}
		}
	}
}

func (x *expressionCompiler) checkNames(e ast.Expr, providers []string) {
	if e.Kind() == ast.ListKind {
		for _, element := range e.AsList().Elements() {
			x.checkNames(element, providers)
		}
		return
	}
	if name, ok := literalString(e); ok && !slices.Contains(providers, name) {
		x.refuse(e, fmt.Sprintf("there is no identity provider %q", name), strictyaml.DidYouMean(name, providers))
	}
}
