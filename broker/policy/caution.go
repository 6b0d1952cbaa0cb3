package policy

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// uncautioned returns the claims, sorted, that make a principal doubtful and that the expression does
// not name with their values.
func (e expression) uncautioned(who cred.Principal) []string {
	var all []string
	for claim, value := range who.Cautions {
		named := naming{strictyaml.Key("principal.claims", claim), value}
		if !slices.ContainsFunc(e, func(c *conjunct) bool { return slices.Contains(c.names, named) }) {
			all = append(all, claim)
		}
	}
	slices.Sort(all)
	return all
}

// naming is a comparison of a path with a literal that can make a condition true.
type naming struct{ path, value string }

// namings returns the comparisons (==, in) with literals that can make an expression true: those that
// stand under no negation.
func namings(e ast.Expr) []naming {
	if e.Kind() != ast.CallKind {
		return nil
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr:
		var all []naming
		for _, a := range args {
			all = append(all, namings(a)...)
		}
		return all
	case operators.Equals:
		return append(namingsOf(args[0], args[1]), namingsOf(args[1], args[0])...)
	case operators.In:
		if args[1].Kind() == ast.ListKind {
			return namingsOf(args[0], args[1].AsList().Elements()...)
		}
	}
	return nil
}

func namingsOf(e ast.Expr, literals ...ast.Expr) []naming {
	path, ok := pathOf(e)
	if !ok || !strings.HasPrefix(path, "principal.claims") || isTest(e) {
		return nil
	}
	var all []naming
	for _, l := range literals {
		if text, ok := literalString(l); ok {
			all = append(all, naming{path, text})
		}
	}
	return all
}
