package policy

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/parser"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/fullmatch"
)

// Bounds of one expression, so that a mistake in a rule can't stop the broker.
const (
	maxExpressionRunes = 8 << 10
	maxExpressionDepth = 64
	maxLoopCost        = 20_000 // of a conjunct with loops, in CEL's units: about one an operation
)

// environments are what expressions are compiled in: rules see more than roles do.
type environments struct{ rule, role *cel.Env }

func newEnvironments() (environments, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return environments{}, fmt.Errorf("policy: CEL's types: %w", err)
	}
	role, err := cel.NewEnv(
		cel.CustomTypeAdapter(adapter{registry}),
		cel.CustomTypeProvider(provider{registry}),
		cel.Variable("principal", principalType),
		cel.Macros(
			cel.ReceiverMacro("matches", 1, expandMatches),
			cel.GlobalMacro("matches", 2, expandMatches),
		),
		cel.EnableMacroCallTracking(),
		cel.ParserExpressionSizeLimit(maxExpressionRunes),
		cel.ParserRecursionLimit(maxExpressionDepth),
		cel.ExpressionNestingDepthLimit(maxExpressionDepth),
		cel.DefaultUTCTimeZone(true),
	)
	if err != nil {
		return environments{}, fmt.Errorf("policy: CEL's environment: %w", err)
	}
	rule, err := role.Extend(
		cel.Variable("request", requestType),
		cel.Variable("target", targetType),
		cel.Variable("now", cel.TimestampType),
	)
	if err != nil {
		return environments{}, fmt.Errorf("policy: CEL's environment: %w", err)
	}
	return environments{rule, role}, nil
}

// expandMatches replaces the pattern of matches by one that means the whole text. The pattern must
// be a literal: one that a caller could choose would be the caller's to bend.
func expandMatches(h parser.ExprHelper, target ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
	if target == nil {
		target, args = args[0], args[1:]
	}
	pattern := args[0]
	text, ok := literalString(pattern)
	if !ok {
		return nil, h.NewError(pattern.ID(), "the pattern of matches must be a string literal")
	}
	anchored, err := fullmatch.Anchor(text)
	if err != nil {
		return nil, h.NewError(pattern.ID(), fmt.Sprintf("the pattern of matches %v", err))
	}
	return h.NewMemberCall("matches", target, h.NewLiteral(types.String(anchored))), nil
}

func literalString(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// adapter keeps our own types from being values: they have fields and nothing else. What would make
// one a value fails with the same words always.
type adapter struct{ types.Adapter }

// NativeToValue implements types.Adapter.
func (a adapter) NativeToValue(v any) ref.Val {
	switch v.(type) {
	case *caller, *cred.Request, *cred.Target:
		return types.NewErr("only its fields have a value")
	}
	return a.Adapter.NativeToValue(v)
}

// provider adds our own types to CEL's. Their fields are read by Go functions from our nouns, so
// that nothing is copied for an evaluation, and a field that does not exist is found at compile time.
type provider struct{ types.Provider }

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	if t, ok := ourTypes[name]; ok {
		return types.NewTypeTypeWithParam(t), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if fields, ok := ourFields[name]; ok {
		return fields.names(), true
	}
	return p.Provider.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fields, ok := ourFields[name]; ok {
		f, ok := fields[field]
		return f, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

// NewValue implements types.Provider. Rules read our types and never make them.
func (p provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if _, ok := ourTypes[name]; ok {
		return types.NewErr("a %s can't be made in an expression", name)
	}
	return p.Provider.NewValue(name, fields)
}
