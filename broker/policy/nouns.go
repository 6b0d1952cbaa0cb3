package policy

import (
	"errors"
	"maps"
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/daypass-io/daypass/cred"
)

// The types of the variables, as expressions see them.
var (
	principalType = cel.ObjectType("daypass.Principal")
	requestType   = cel.ObjectType("daypass.Request")
	targetType    = cel.ObjectType("daypass.Target")

	textMap = cel.MapType(cel.StringType, cel.StringType)
	texts   = cel.ListType(cel.StringType)

	ourTypes = map[string]*types.Type{
		"daypass.Principal": principalType,
		"daypass.Request":   requestType,
		"daypass.Target":    targetType,
	}
	ourFields = map[string]fields{
		"daypass.Principal": {
			"provider": field(cel.StringType, func(p *cred.Principal) any { return p.Provider }),
			"issuer":   field(cel.StringType, func(p *cred.Principal) any { return p.Issuer }),
			"subject":  field(cel.StringType, func(p *cred.Principal) any { return p.Subject }),
			"name":     field(cel.StringType, func(p *cred.Principal) any { return p.Name }),
			"kind":     field(cel.StringType, func(p *cred.Principal) any { return string(p.Kind) }),
			"groups":   field(texts, func(p *cred.Principal) any { return p.Groups }),
			"claims":   field(cel.MapType(cel.StringType, cel.DynType), func(p *cred.Principal) any { return p.Claims }),
			"actor": field(principalType, func(p *cred.Principal) any {
				if p.Actor == nil {
					return nil
				}
				return p.Actor
			}),
		},
		"daypass.Request": {
			"target": field(cel.StringType, func(r *cred.Request) any { return r.Target }),
			"scopes": field(texts, func(r *cred.Request) any { return r.Scopes }),
			"params": field(textMap, func(r *cred.Request) any { return r.Params }),
			"ttl":    field(cel.DurationType, func(r *cred.Request) any { return r.TTL }),
			"reason": field(cel.StringType, func(r *cred.Request) any { return r.Reason }),
		},
		"daypass.Target": {
			"name":    field(cel.StringType, func(t *cred.Target) any { return t.Name }),
			"labels":  field(textMap, func(t *cred.Target) any { return t.Labels }),
			"deliver": field(cel.StringType, func(t *cred.Target) any { return string(t.Deliver) }),
		},
	}
)

// fields are a type's fields by name.
type fields map[string]*types.FieldType

func (f fields) names() []string { return slices.Sorted(maps.Keys(f)) }

var (
	errAbsent  = errors.New("no such key")
	errNotNoun = errors.New("not a value of this type")
)

// field makes a field of T; nil means that it is absent.
func field[T any](t *types.Type, get func(*T) any) *types.FieldType {
	return &types.FieldType{
		Type: t,
		IsSet: func(from any) bool {
			v, ok := from.(*T)
			return ok && get(v) != nil
		},
		GetFrom: func(from any) (any, error) {
			v, ok := from.(*T)
			if !ok {
				return nil, errNotNoun
			}
			if got := get(v); got != nil {
				return got, nil
			}
			return nil, errAbsent
		},
	}
}

// input is what an expression is evaluated on. It implements cel.Activation.
type input struct {
	who    *cred.Principal
	want   *cred.Request
	target *cred.Target
	now    time.Time
}

// ResolveName returns a variable.
func (in *input) ResolveName(name string) (any, bool) {
	switch name {
	case "principal":
		return in.who, true
	case "request":
		return in.want, true
	case "target":
		return in.target, true
	case "now":
		return in.now, true
	}
	return nil, false
}

// Parent returns nil: there is nothing behind the four variables.
func (in *input) Parent() cel.Activation { return nil }
