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
			"provider": field(cel.StringType, func(c *caller) any { return c.Provider }),
			"issuer":   field(cel.StringType, func(c *caller) any { return c.Issuer }),
			"subject":  field(cel.StringType, func(c *caller) any { return c.Subject }),
			"name":     field(cel.StringType, func(c *caller) any { return c.Name }),
			"kind":     field(cel.StringType, func(c *caller) any { return string(c.Kind) }),
			"groups":   field(texts, func(c *caller) any { return orError(c.allGroups()) }),
			"claims":   field(cel.MapType(cel.StringType, cel.DynType), func(c *caller) any { return c.Claims }),
			"actor": field(principalType, func(c *caller) any {
				if c.actor == nil {
					return nil
				}
				return c.actor
			}),
		},
		"daypass.Request": {
			"target":  field(cel.StringType, func(r *cred.Request) any { return r.Target }),
			"scopes":  field(texts, func(r *cred.Request) any { return r.Scopes }),
			"params":  field(textMap, func(r *cred.Request) any { return r.Params }),
			"ttl":     field(cel.DurationType, func(r *cred.Request) any { return r.TTL }),
			"reason":  field(cel.StringType, func(r *cred.Request) any { return r.Reason }),
			"binding": field(cel.StringType, func(r *cred.Request) any { return string(r.Binding) }),
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

// field makes a field of T; nil means that it is absent, and an error that it can't be read.
func field[T any](t *types.Type, get func(*T) any) *types.FieldType {
	return &types.FieldType{
		Type: t,
		IsSet: func(from any) bool {
			v, ok := from.(*T)
			if !ok {
				return false
			}
			got := get(v)
			_, failed := got.(error)
			return got != nil && !failed
		},
		GetFrom: func(from any) (any, error) {
			v, ok := from.(*T)
			if !ok {
				return nil, errNotNoun
			}
			switch got := get(v).(type) {
			case nil:
				return nil, errAbsent
			case error:
				return nil, got
			default:
				return got, nil
			}
		},
	}
}

func orError[T any](v T, err error) any {
	if err != nil {
		return err
	}
	return v
}

// input is what an expression is evaluated on. It implements cel.Activation. It belongs to one
// decision, and so to one goroutine.
type input struct {
	set    *Set
	who    *caller
	want   *cred.Request
	target *cred.Target // nil in a role or a group
	now    time.Time
	params map[string]string // to be held against bounds

	values []value // what simple conditions have read, by their keys' numbers
}

// input makes the input of a decision.
func (s *Set) input(who *cred.Principal, want *cred.Request, now time.Time) *input {
	return &input{set: s, who: newCaller(who, s), want: want, now: now, params: want.Params, values: make([]value, len(s.words.keys))}
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
