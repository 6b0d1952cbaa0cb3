package cred

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// jsonWriter writes the very bytes that encoding/json would write, at a fifth of the cost, for what each
// exchange stores. What is rare it leaves to encoding/json itself. The tests hold it against that.
type jsonWriter struct {
	b   []byte
	err error // the first one
}

// text writes a string behind its name, which comes with all that stands before the value.
func (w *jsonWriter) text(name, s string) {
	w.b = append(w.b, name...)
	w.string(s)
}

// textIf is text for what is left out where it is empty.
func (w *jsonWriter) textIf(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

func (w *jsonWriter) intIf(name string, n int64) {
	if n != 0 {
		w.b = strconv.AppendInt(append(w.b, name...), n, 10)
	}
}

func (w *jsonWriter) time(name string, t time.Time) {
	var err error
	if w.b, err = t.AppendText(append(append(w.b, name...), '"')); err != nil {
		w.fail(err)
	}
	w.b = append(w.b, '"')
}

func (w *jsonWriter) timeIf(name string, t time.Time) {
	if !t.IsZero() {
		w.time(name, t)
	}
}

func (w *jsonWriter) texts(name string, list []string) {
	w.b = append(append(w.b, name...), '[')
	for i, s := range list {
		w.comma(i)
		w.string(s)
	}
	w.b = append(w.b, ']')
}

// textMapIf writes a map whose members are sorted by name.
func (w *jsonWriter) textMapIf(name string, m map[string]string) {
	if len(m) > 0 {
		w.b = append(w.b, name...)
		writeMap(w, m, (*jsonWriter).string)
	}
}

// other writes a value as encoding/json does.
func (w *jsonWriter) other(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		w.fail(err)
	}
	w.b = append(append(w.b, name...), b...)
}

// any writes the value of a claim.
func (w *jsonWriter) any(v any) {
	switch v := v.(type) {
	case string:
		w.string(v)
	case float64:
		w.float(v)
	case bool:
		w.b = strconv.AppendBool(w.b, v)
	case []any:
		if v == nil {
			w.other("", v)
			return
		}
		w.b = append(w.b, '[')
		for i, element := range v {
			w.comma(i)
			w.any(element)
		}
		w.b = append(w.b, ']')
	case map[string]any:
		if v == nil {
			w.other("", v)
			return
		}
		writeMap(w, v, (*jsonWriter).any)
	default:
		w.other("", v)
	}
}

func writeMap[V any](w *jsonWriter, m map[string]V, value func(*jsonWriter, V)) {
	w.b = append(w.b, '{')
	names := slices.AppendSeq(make([]string, 0, 32), maps.Keys(m))
	slices.Sort(names)
	for i, name := range names {
		w.comma(i)
		w.string(name)
		w.b = append(w.b, ':')
		value(w, m[name])
	}
	w.b = append(w.b, '}')
}

// float writes a number. Those with an exponent are rare.
func (w *jsonWriter) float(f float64) {
	if size := math.Abs(f); size != 0 && !(size >= 1e-6 && size < 1e21) {
		w.other("", f)
		return
	}
	w.b = strconv.AppendFloat(w.b, f, 'f', -1, 64)
}

func (w *jsonWriter) string(s string) {
	for i := range len(s) {
		if !plain[s[i]] {
			w.other("", s)
			return
		}
	}
	w.b = append(append(append(w.b, '"'), s...), '"')
}

// plain are the bytes that encoding/json writes as they are: ASCII without what JSON or HTML escape.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()

// comma separates the ith element from the one before it.
func (w *jsonWriter) comma(i int) {
	if i > 0 {
		w.b = append(w.b, ',')
	}
}

func (w *jsonWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}
