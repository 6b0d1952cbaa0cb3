package cred_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"text/template"

	"github.com/daypass-io/daypass/cred"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/goccy/go-yaml"
)

// text is the secret of these tests. It is no word that anything else prints.
var text = strings.Repeat("Xq7~", 3) + "zW9!"

func secret() cred.Secret { return cred.SecretString(text) }

// traces are the ways that a part of the secret could show: as it is and as the numeric verbs of
// fmt, quoting and the usual encodings write bytes.
func traces() map[string]string {
	each := func(format, between string) string {
		var parts []string
		for _, b := range []byte(text)[:4] {
			parts = append(parts, fmt.Sprintf(format, b))
		}
		return strings.Join(parts, between)
	}
	reversed := []byte(text)
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	return map[string]string{
		"text": text[:4], "reversed": string(reversed[:4]),
		"hex": hex.EncodeToString([]byte(text))[:8], "HEX": strings.ToUpper(hex.EncodeToString([]byte(text))[:8]),
		"spaced hex": each("%x", " "), "Go bytes": each("0x%x", ", "), "spaced 0x": each("0x%x", " "), "spaced 0X": each("0X%X", " "),
		"decimal": each("%d", " "), "decimal list": each("%d", ","), "octal": each("%o", " "), "octal 0": each("0%o", " "), "octal 0o": each("%O", " "),
		"binary": each("%b", " "), "binary 0b": each("0b%b", " "), "runes": each("%U", " "), "quoted runes": each("%q", " "), "characters": each("%c", " "),
		"base64": base64.StdEncoding.EncodeToString([]byte(text))[:12],
	}
}

func wantNoTrace(t *testing.T, how, out string) {
	t.Helper()
	for form, trace := range traces() {
		if strings.Contains(out, trace) {
			t.Errorf("%s shows the secret as %s: %s", how, form, out)
		}
	}
}

// The detector itself has to find what fmt prints of bytes, or the tests below prove nothing.
func TestTracesAreFound(t *testing.T) {
	for _, verb := range []string{"%s", "%x", "%X", "% x", "%# x", "%d", "%v", "%#v", "%o", "%b", "%c", "%U", "%q", "%O"} {
		out := fmt.Sprintf(verb, []byte(text))
		found := false
		for _, trace := range traces() {
			found = found || strings.Contains(out, trace)
		}
		if !found {
			t.Errorf("%s of the bytes is not recognised: %s", verb, out)
		}
	}
}

type exported struct {
	S     cred.Secret
	P     *cred.Secret
	Any   any
	List  []cred.Secret
	Array [1]cred.Secret
	Map   map[string]cred.Secret
}

type unexported struct {
	s     cred.Secret
	p     *cred.Secret
	any   any
	list  []cred.Secret
	array [1]cred.Secret
	m     map[string]cred.Secret
	inner exported
}

type embedded struct {
	cred.Secret
	N int
}

type holdsEmbedded struct{ e embedded }

// shapes are all the places where a secret may stand, by name.
func shapes() map[string]any {
	s := secret()
	e := exported{s, &s, s, []cred.Secret{s}, [1]cred.Secret{s}, map[string]cred.Secret{"k": s}}
	u := unexported{s, &s, s, []cred.Secret{s}, [1]cred.Secret{s}, map[string]cred.Secret{"k": s}, e}
	ch := make(chan cred.Secret, 1)
	ch <- s
	p := &s
	return map[string]any{
		"value": s, "pointer": p, "pointer to pointer": &p, "slice": []cred.Secret{s}, "slice of pointers": []*cred.Secret{p},
		"any slice": []any{s, p}, "map": map[string]cred.Secret{"k": s}, "map key": map[cred.Secret]int{s: 1}, "map of any": map[string]any{"k": s},
		"exported": e, "pointer to exported": &e, "unexported": u, "pointer to unexported": &u, "slice of unexported": []unexported{u},
		"embedded": embedded{s, 1}, "holds embedded": holdsEmbedded{embedded{s, 1}}, "channel": ch,
		"reflect.Value": reflect.ValueOf(s), "reflect.Value of a struct": reflect.ValueOf(u),
		"error": fmt.Errorf("bad %v %s %q %x %d: %w", s, s, s, s, s, errors.New("x")),
		"Error": cred.Errorf(cred.Invalid, "op", "public", "bad %v %+v", s, e), "joined": errors.Join(fmt.Errorf("%v", u)),
		"function's result": func() any { return s }(),
	}
}

func TestSecretUnderEveryVerb(t *testing.T) {
	for name, v := range shapes() {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspw" {
			for _, flags := range []string{"", "+", "#", " ", "-", "0", "# ", "+#", "20", ".3", "020.3", "-20"} {
				format := "%" + flags + string(verb)
				wantNoTrace(t, format+" of "+name, fmt.Sprintf(format, v))
			}
		}
		wantNoTrace(t, "Sprint of "+name, fmt.Sprint(v))
		wantNoTrace(t, "Sprintln of "+name, fmt.Sprintln(v, v))
		wantNoTrace(t, "Errorf of "+name, fmt.Errorf("%v", v).Error())
	}
}

// A field that was read by reflection is not even a Secret any more; fmt prints such values too.
func TestSecretsFieldsByReflection(t *testing.T) {
	v := reflect.ValueOf(unexported{s: secret()}).Field(0)
	for ; v.IsValid(); v = inside(v) {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
			wantNoTrace(t, format+" of a "+v.Type().String(), fmt.Sprintf(format, v))
		}
	}
}

func inside(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Struct:
		return v.Field(0)
	case reflect.Pointer:
		return v.Elem()
	}
	return reflect.Value{}
}

func TestSecretSaysThatItIsRedacted(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%20v"} {
		for _, s := range []cred.Secret{secret(), {}} {
			if got := fmt.Sprintf(format, s); got != "[redacted]" {
				t.Errorf("%s prints %q", format, got)
			}
		}
	}
	if secret().String() != "[redacted]" || secret().GoString() != "[redacted]" {
		t.Error("String or GoString prints something else")
	}
}

func TestSecretInCodecs(t *testing.T) {
	for name, v := range shapes() {
		if b, err := json.Marshal(v); err == nil {
			wantNoTrace(t, "JSON of "+name, string(b))
		} else {
			wantNoTrace(t, "JSON's error of "+name, err.Error())
		}
		if b, err := jsonv2.Marshal(v); err == nil {
			wantNoTrace(t, "JSON v2 of "+name, string(b))
		} else {
			wantNoTrace(t, "JSON v2's error of "+name, err.Error())
		}
		if b, err := xml.Marshal(v); err == nil {
			wantNoTrace(t, "XML of "+name, string(b))
		} else {
			wantNoTrace(t, "XML's error of "+name, err.Error())
		}
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(v); err != nil {
			wantNoTrace(t, "gob's error of "+name, err.Error())
		}
		wantNoTrace(t, "gob of "+name, buf.String())
	}
	for name, v := range map[string]any{"value": secret(), "exported": exported{S: secret()}} {
		if b, err := yaml.Marshal(v); err == nil {
			wantNoTrace(t, "YAML of "+name, string(b))
		}
	}
	if b, err := json.Marshal(exported{S: secret()}); err != nil || !strings.Contains(string(b), `"S":"[redacted]"`) {
		t.Errorf("JSON %s, %v", b, err)
	}
	if err := gob.NewEncoder(new(bytes.Buffer)).Encode(secret()); err == nil {
		t.Error("gob encodes a secret")
	}
	if _, err := secret().MarshalBinary(); err == nil {
		t.Error("MarshalBinary encodes a secret")
	}
}

func TestSecretInLogsAndTemplates(t *testing.T) {
	for name, v := range shapes() {
		var buf bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&buf, nil), slog.NewJSONHandler(&buf, nil)} {
			l := slog.New(h)
			l.Info("m", "k", v)
			l.With("k", v).WithGroup("g").Info("m", slog.Any("k", v), slog.Group("h", "k", v))
			l.Info(fmt.Sprint(v))
		}
		log.New(&buf, "", 0).Println(v)
		for _, source := range []string{`{{.}}`, `{{printf "%s %d %x" . . .}}`, `{{print .}}{{html .}}{{js .}}{{urlquery .}}`} {
			_ = template.Must(template.New("").Parse(source)).Execute(&buf, v) // an error ends the output, which is what is looked at
			_ = htmltemplate.Must(htmltemplate.New("").Parse(`<a href="`+source+`">`+source+`</a>`)).Execute(&buf, v)
		}
		if buf.Len() == 0 {
			t.Errorf("nothing was written of %s", name)
		}
		wantNoTrace(t, "logs and templates of "+name, buf.String())
	}
}

// A secret enters through NewSecret alone.
func TestSecretIsNotDecoded(t *testing.T) {
	var s cred.Secret
	if err := json.Unmarshal([]byte(`"abc"`), &s); err == nil || !s.IsZero() {
		t.Errorf("JSON gives %v, error %v", s.RevealString(), err)
	}
	if err := s.UnmarshalText([]byte("abc")); err == nil || !s.IsZero() {
		t.Errorf("text gives %v, error %v", s.RevealString(), err)
	}
	if err := xml.Unmarshal([]byte(`<a>abc</a>`), &s); err == nil || !s.IsZero() {
		t.Errorf("XML gives %v, error %v", s.RevealString(), err)
	}
}

func TestSecretReveals(t *testing.T) {
	if got := secret().RevealString(); got != text {
		t.Errorf("reveals %q", got)
	}
	if secret().Fingerprint() != cred.NewSecret([]byte(text)).Fingerprint() || secret().Fingerprint() == cred.SecretString(text+"x").Fingerprint() {
		t.Error("fingerprints do not tell secrets apart")
	}
	for _, zero := range []cred.Secret{{}, cred.NewSecret(nil), cred.SecretString("")} {
		if !zero.IsZero() || zero.Reveal() != nil || zero.RevealString() != "" {
			t.Errorf("an empty secret reveals %q", zero.Reveal())
		}
	}
	if secret().IsZero() {
		t.Error("a secret is empty")
	}
}

// panicKind names the child's way to die, in the environment.
const panicKind = "DAYPASS_TEST_PANIC"

func TestSecretInPanics(t *testing.T) {
	if kind := os.Getenv(panicKind); kind != "" {
		panic(shapes()[kind])
	}
	for name := range shapes() {
		child := exec.Command(os.Args[0], "-test.run=^TestSecretInPanics$")
		child.Env = append(os.Environ(), panicKind+"="+name, "GOTRACEBACK=all")
		out, err := child.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "panic: ") {
			t.Fatalf("the child that panics with %s ended with %v: %s", name, err, out)
		}
		wantNoTrace(t, "a panic with "+name, string(out))
	}
}
