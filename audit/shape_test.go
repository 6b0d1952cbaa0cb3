package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// byJSON is what encoding/json makes of an event whose times are UTC and whose free values are
// normal: the canonical form but for text that is not UTF-8.
func byJSON(t require, seq uint64, e Event) string {
	t.Helper()
	b, err := encode(entry{seq, e})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// require is what a test and a property have in common.
type require interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// fill sets every field, so that nothing is left out.
func fill(t *testing.T, v reflect.Value, depth int) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(testTime))
		return
	case reflect.TypeFor[map[string]any]():
		v.Set(reflect.ValueOf(map[string]any{"text": "x", "list": []any{1.5, nil, true}, "more": map[string]any{"b": "c", "a": false}}))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("a \"quoted\" text\n of \u2028 é <" + v.Type().Name())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-7)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Pointer:
		if depth < 12 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), depth+1)
		fill(t, v.Index(1), depth+1)
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"b": "2", "a": "1"}))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), depth+1)
		}
	default:
		t.Fatalf("the schema has a %s", v.Type())
	}
}

// The schema may grow; what its types are made of, the encoder has to know.
func TestCanonicalOfEveryField(t *testing.T) {
	var e Event
	fill(t, reflect.ValueOf(&e).Elem(), 0)
	want := byJSON(t, 5, e)
	if diff := cmp.Diff(want, canonical(t, 5, e)); diff != "" {
		t.Fatal(diff)
	}
	if _, _, err := Parse([]byte(want)); err != nil {
		t.Error(err)
	}
	plain := strings.NewReplacer(`\"`, "'", `\n`, " ", `\u2028`, " ").Replace(want)
	if got, ok := decode([]byte(plain)); !ok || byJSON(t, got.Seq, got.Event) != plain {
		t.Errorf("the decoder gives up, or reads something else: %s", plain)
	}
}

// With no field set the least is left: what is written although it is zero.
func TestCanonicalOfEmptyParts(t *testing.T) {
	e := Event{
		Kind: "k", Time: testTime, Origin: &Origin{}, Principal: &Principal{Groups: []string{}, Claims: map[string]any{}, Actor: &Principal{}},
		Request: &Request{Scopes: []string{}, Params: map[string]string{}}, Decision: &Decision{}, Approvals: []Approval{{}}, Lease: &Lease{},
		Use: &Use{Masked: []Masked{{}}}, Rotation: &Rotation{}, Error: &Error{}, Detail: map[string]any{},
	}
	want := byJSON(t, 0, e)
	if diff := cmp.Diff(want, canonical(t, 0, e)); diff != "" {
		t.Fatal(diff)
	}
	if got, ok := decode([]byte(want)); !ok || byJSON(t, got.Seq, got.Event) != want {
		t.Errorf("the decoder gives up, or reads something else: %s", want)
	}
}

// Each character is escaped, or not, as encoding/json does, wherever it stands.
func TestCanonicalOfEveryByte(t *testing.T) {
	for c := range rune(0x100) {
		for at := range 17 {
			text := strings.Repeat("a", at) + string(c) + strings.Repeat("b", 16-at)
			e := Event{Kind: "k", Time: testTime, Peer: text}
			if want, got := byJSON(t, 0, e), canonical(t, 0, e); got != want {
				t.Fatalf("%q: got %s, want %s", text, got, want)
			}
		}
	}
}

// The encoder writes what encoding/json does, and the decoder reads what encoding/json does.
func TestCodecAgainstJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvent(t)
		want := byJSON(t, 3, e)
		b, err := Canonical(3, e)
		if err != nil || string(b) != want {
			t.Fatalf("%v\ngot  %s\nwant %s", err, b, want)
		}
		sameReading(t, b)
	})
}

// sameReading holds the decoder against encoding/json, where it does not give up.
func sameReading(t require, b []byte) {
	t.Helper()
	got, ok := decode(b)
	if !ok || !isCanonical(got, b) {
		return
	}
	var want entry
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&want); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("read as\n%+v\nwant\n%+v\n%s", got, want, b)
	}
}

func TestUnwritable(t *testing.T) {
	for _, v := range []any{
		struct{ Untagged int }{}, struct {
			F float64 `json:"f"`
		}{}, struct {
			B []byte `json:"b"`
		}{}, struct {
			T time.Time `json:"t,omitempty"`
		}{}, struct {
			M json.RawMessage `json:"m"`
		}{}, struct {
			M map[string]int `json:"m"`
		}{}, struct {
			S ownText `json:"s"`
		}{S: "x"}, struct{ Event }{},
	} {
		at := reflect.New(reflect.TypeOf(v)).Elem()
		s := shapes{}.of(at.Type())
		if err := s.write(new(encoder), at, 0); err == nil {
			t.Errorf("%T has a canonical form", v)
		}
		if s.read(&decoder{s: "{}"}, at) {
			t.Errorf("%T is read", v)
		}
	}
}

// ownText says itself how it is written.
type ownText string

func (ownText) MarshalText() ([]byte, error) { return []byte("own"), nil }
