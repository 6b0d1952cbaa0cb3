package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDepth bounds the nesting of claims, details and actors, so that whatever can be written can be
// read again.
const maxDepth = 64

var errTooDeep = errors.New("nested too deeply")

// normalEvent returns a copy whose times are UTC and whose free values are such that decoding their
// JSON gives them again.
func normalEvent(e Event) (Event, error) {
	var err error
	e.Time = e.Time.UTC()
	if e.Principal, err = normalPrincipal(e.Principal, 0); err != nil {
		return e, err
	}
	e.Approvals = slices.Clone(e.Approvals)
	for i := range e.Approvals {
		a := &e.Approvals[i]
		a.At = a.At.UTC()
		by, err := normalPrincipal(&a.By, 0)
		if err != nil {
			return e, err
		}
		a.By = *by
	}
	if e.Lease != nil {
		l := *e.Lease
		l.NotAfter = l.NotAfter.UTC()
		e.Lease = &l
	}
	e.Detail, err = normalMap(e.Detail, 0)
	return e, err
}

func normalPrincipal(p *Principal, depth int) (*Principal, error) {
	if p == nil {
		return nil, nil
	}
	if depth > maxDepth {
		return nil, errTooDeep
	}
	out := *p
	var err error
	if out.Claims, err = normalMap(p.Claims, depth); err != nil {
		return nil, err
	}
	out.Actor, err = normalPrincipal(p.Actor, depth+1)
	return &out, err
}

func normalMap(m map[string]any, depth int) (map[string]any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	if m == nil {
		return nil, nil
	}
	out := make(map[string]any, len(m))
	for name, v := range m {
		n, err := normalValue(v, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		out[name] = n
	}
	return out, nil
}

// normalValue maps a Go value to the JSON values that encoding/json decodes into an any.
func normalValue(v any, depth int) (any, error) {
	switch v := v.(type) {
	case nil, bool, string, []string, map[string]string:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("not a finite number")
		}
		return v, nil
	case int:
		return normalNumber(strconv.Itoa(v))
	case json.Number:
		return normalNumber(v.String())
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), nil
	case map[string]any:
		return normalMap(v, depth)
	case []any:
		return normalList(v, depth)
	}
	return normalOther(v, depth)
}

func normalList(list []any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	out := make([]any, len(list))
	for i, v := range list {
		n, err := normalValue(v, depth+1)
		if err != nil {
			return nil, err
		}
		out[i] = n
	}
	return out, nil
}

// normalNumber reads a JSON number. An integer that a float64 can't hold, say an ID of 64 bits, stays
// whole as a string.
func normalNumber(text string) (any, error) {
	const exact = 1 << 53
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && -exact <= n && n <= exact {
			return float64(n), nil
		}
		return text, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// normalOther takes a value of any other type by way of its JSON.
func normalOther(v any, depth int) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var plain any
	if err := dec.Decode(&plain); err != nil {
		return nil, err
	}
	return normalValue(plain, depth)
}
