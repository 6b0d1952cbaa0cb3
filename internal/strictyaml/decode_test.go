package strictyaml

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

type inner struct {
	Name string            `yaml:"name,required"`
	Map  map[string]string `yaml:"map"`
}

type shared struct {
	Common string `yaml:"common" default:"c"`
}

type level string

func (l *level) UnmarshalText(text []byte) error {
	*l = level("<" + string(text) + ">")
	return nil
}

type sample struct {
	shared
	Text     string           `yaml:"text"`
	Flag     bool             `yaml:"flag" default:"true"`
	Count    int              `yaml:"count" default:"7"`
	Size     uint16           `yaml:"size"`
	Wait     time.Duration    `yaml:"wait" default:"30s"`
	Mode     string           `yaml:"mode" enum:"direct,proxy"`
	Modes    []string         `yaml:"modes" enum:"direct,proxy"`
	Nested   inner            `yaml:"nested"`
	Optional *inner           `yaml:"optional"`
	List     []inner          `yaml:"list"`
	ByName   map[string]inner `yaml:"by_name"`
	Level    level            `yaml:"level"`
	Raw      *Node            `yaml:"raw"`
	Token    cred.Secret      `yaml:"token"`
	Unread   string
}

// read decodes text and returns its problems, one a line.
func read(t testing.TB, text string) (sample, string) {
	t.Helper()
	root, problems := Parse("f.yaml", []byte(text))
	var s sample
	problems = append(problems, root.Decode(&s)...)
	return s, problems.Error()
}

func TestDecode(t *testing.T) {
	s, problems := read(t, `
text: "4711"
flag: false
count: -3
size: 65535
wait: 1h30m
mode: proxy
modes: [direct, proxy]
common: shared
nested: { name: n, map: { a: b } }
optional: { name: o }
list:
  - name: l0
  - { name: l1 }
by_name: { x: { name: bx } }
level: high
raw: [1, { deep: true }]
`)
	if problems != "" {
		t.Fatal(problems)
	}
	if got := s.Raw.Items()[1].Get("deep").Text(); got != "true" {
		t.Errorf("raw[1].deep is %q", got)
	}
	s.Raw = nil
	want := sample{
		shared: shared{"shared"}, Text: "4711", Count: -3, Size: 65535, Wait: 90 * time.Minute,
		Mode: "proxy", Modes: []string{"direct", "proxy"},
		Nested: inner{"n", map[string]string{"a": "b"}}, Optional: &inner{Name: "o"},
		List: []inner{{Name: "l0"}, {Name: "l1"}}, ByName: map[string]inner{"x": {Name: "bx"}}, Level: "<high>",
	}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(sample{}), cmp.Comparer(func(a, b cred.Secret) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestDefaults(t *testing.T) {
	for _, text := range []string{"nested: {name: n}", "nested: {name: n}\nflag:\ncount: ~\nwait: null\ncommon:\n"} {
		s, problems := read(t, text)
		if problems != "" || !s.Flag || s.Count != 7 || s.Wait != 30*time.Second || s.Common != "c" || s.Optional != nil {
			t.Errorf("%q gives %+v and problems %q", text, s, problems)
		}
	}
}

// TestProblems checks that each mistake is told with its place, and that all of them are.
func TestProblems(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{
			"unknown keys, all of them", "txet: a\nnested: {name: n, nmae: m}\nzzz: 1",
			`f.yaml:1:1: txet: unknown key (did you mean "text"?)
f.yaml:2:19: nested.nmae: unknown key (did you mean "name"?)
f.yaml:3:1: zzz: unknown key (possible are common, text, flag, count, size, wait, mode, modes, nested, optional, list, by_name, level, raw, token)`,
		},
		{"missing", "text: a", "f.yaml:1:1: nested.name: is missing"},
		{"missing below", "nested: {}\nlist: [{map: {}}]", "f.yaml:1:9: nested.name: is missing\nf.yaml:2:8: list[0].name: is missing"},
		{
			"types", "nested: {name: n}\ntext: 5\nflag: yes\ncount: 1.5\nsize: 70000\nwait: 30\nlist: {a: b}\nby_name: [x]\n",
			`f.yaml:2:7: text: must be a string, not a number (put it in quotes)
f.yaml:3:7: flag: must be true or false, not a string
f.yaml:4:8: count: must be a whole number in decimal digits, within the range of this key
f.yaml:5:7: size: must be a whole number in decimal digits, within the range of this key
f.yaml:6:7: wait: must be a duration with a unit, not a number (such as "90s", "15m" or "8h")
f.yaml:7:7: list: must be a list, not a mapping
f.yaml:8:10: by_name: must be a mapping, not a list`,
		},
		{
			"more types", "nested: x\nwait: soon\ncount: 0x10\ntext: [a]\nlist: [{name: true}]",
			`f.yaml:1:9: nested: must be a mapping, not a string
f.yaml:2:7: wait: must be a duration (such as "90s", "15m", "8h" or "30d")
f.yaml:3:8: count: must be a whole number in decimal digits, within the range of this key
f.yaml:4:7: text: must be a string, not a list
f.yaml:5:15: list[0].name: must be a string, not true or false (put it in quotes)`,
		},
		{"negative duration", "nested: {name: n}\nwait: -1s", `f.yaml:2:7: wait: must not be negative (such as "90s", "15m", "8h" or "30d")`},
		{
			"enums", "nested: {name: n}\nmode: prxy\nmodes: [direct, other]",
			`f.yaml:2:7: mode: is not a value that this key can have (did you mean "proxy"?)
f.yaml:3:17: modes[1]: is not a value that this key can have (possible are direct, proxy)`,
		},
		{
			"duplicates", "nested: {name: n, name: m}\ntext: a\ntext: b\ntext: c",
			`f.yaml:1:19: nested.name: is set twice, first on line 1
f.yaml:3:1: text: is set twice, first on line 2
f.yaml:4:1: text: is set twice, first on line 2`,
		},
		{"empty items", "nested: {name: n}\nlist: [~]\nby_name: {a: }", "f.yaml:2:8: list[0]: is empty\nf.yaml:3:13: by_name.a: is empty"},
		{"two documents", "nested: {name: n}\n---\ntext: a", "f.yaml:3:1: a second document begins here; a configuration file holds one"},
		{"merge key", "nested: &a {name: n}\noptional: {<<: *a, name: x}", "f.yaml:2:12: optional: merge keys are not supported; repeat the keys, or alias the whole value"},
		{"tag", "nested: {name: !!str n}", "f.yaml:1:9: nested.name: is missing\nf.yaml:1:16: nested.name: tags are not supported"},
		{"complex key", "nested: {name: n}\n? [a]\n: b", "f.yaml:1:1: nested.name: is missing\nf.yaml:3:1: found an invalid key for this map"},
		{"explicit key", "nested: {name: n}\n? text\n: b", "f.yaml:2:1: a key must be a plain string"},
		{"unknown alias", "nested: {name: n}\ntext: *t", "f.yaml:2:7: text: there is no anchor \"t\" before this alias"},
		{"anchor that holds itself", "nested: {name: n}\nraw: &a [*a]", "f.yaml:2:10: raw[0]: there is no anchor \"a\" before this alias"},
		{"syntax", "nested: {name: n\ntext: 'a", "f.yaml:1:1: nested.name: is missing\nf.yaml:2:7: could not find end character of single-quoted text"},
		{"control characters", "text: a\nflag: \x00", "f.yaml:1:1: nested.name: is missing\nf.yaml:2:7: there is a control character here, or bytes that are not UTF-8"},
		{"not UTF-8", "a\xff: b", "f.yaml:1:1: there is a control character here, or bytes that are not UTF-8\nf.yaml:1:1: nested.name: is missing"},
		{"a list", "- a", "f.yaml:1:1: must be a mapping, not a list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := read(t, c.text)
			if diff := cmp.Diff(strings.Split(c.want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 10), ", ") + "]\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"aliases", bomb, "values once its aliases are expanded"},
		{"bytes", strings.Repeat("a", MaxBytes+1), "is larger than"},
		{"brackets", strings.Repeat("[", 100_000), "nested deeper"},
		{"braces", strings.Repeat("{a: ", 100_000), "nested deeper"},
		{"dashes", strings.Repeat("- ", 100_000) + "a", "nested deeper"},
		{"question marks", strings.Repeat("? ", 100_000) + "a", "nested deeper"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			_, problems := Parse("f.yaml", []byte(c.text))
			if len(problems) != 1 || !strings.Contains(problems.Error(), c.want) {
				t.Errorf("problems %q, want %q", problems, c.want)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestAliases(t *testing.T) {
	s, problems := read(t, "nested: &n {name: n, map: {a: b}}\noptional: *n\nlist: [*n, *n]\n")
	if problems != "" || s.Optional.Name != "n" || len(s.List) != 2 || s.List[1].Map["a"] != "b" {
		t.Errorf("%+v, problems %q", s, problems)
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	value := "hunter" + "2-" + strings.Repeat("x", 20)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", value+"\n")
	write("empty", "\n")
	write("large", strings.Repeat("x", maxSecretBytes+1))
	write("wide", value+"\n")
	if err := os.Chmod(filepath.Join(dir, "wide"), 0o640); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DAYPASS_TEST_TOKEN", value)
	for _, c := range []struct{ ref, want string }{
		{"file:token", ""},
		{"file:" + filepath.Join(dir, "token"), ""},
		{"env:DAYPASS_TEST_TOKEN", ""},
		{"env:DAYPASS_TEST_NONE", "is not set"},
		{"'env:'", "must be a reference"},
		{"file:none", "there is no file"},
		{"file:.", "there is no file"},
		{"file:empty", "is empty"},
		{"file:large", "is larger than"},
		{"file:wide", "has mode 0640 and others may use it"},
		{"vault:a", "must be a reference"},
		{value, "must be a reference"},
		{"'5'", "must be a reference"},
		{"5", "must be a reference"},
		{"[a]", "must be a reference"},
	} {
		file := filepath.Join(dir, "c.yaml")
		write("c.yaml", "nested: {name: n}\ntoken: "+c.ref+"\n")
		root, problems := ReadFile(file)
		var s sample
		problems = append(problems, root.Decode(&s)...)
		if c.want == "" && (len(problems) > 0 || s.Token.RevealString() != value) {
			t.Errorf("%s: problems %v, read %d bytes", c.ref, problems, len(s.Token.Reveal()))
		}
		if c.want != "" && (len(problems) != 1 || !strings.Contains(problems.Error(), c.want) || !s.Token.IsZero()) {
			t.Errorf("%s: problems %v, want %q", c.ref, problems, c.want)
		}
		if strings.Contains(problems.Error(), value) {
			t.Errorf("a problem shows the secret: %v", problems)
		}
	}
}

func TestReadFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	root, problems := ReadFile(missing)
	if want := missing + ": can't be read: no such file or directory"; problems.Error() != want {
		t.Errorf("problems %q, want %q", problems, want)
	}
	var s sample
	if got := root.Decode(&s).Error(); got != missing+":1:1: nested.name: is missing" {
		t.Errorf("decoding nothing: %q", got)
	}
}

// TestPositions checks where offsets inside strings are, in every style of string.
func TestPositions(t *testing.T) {
	const mark = "@"
	for _, text := range []string{
		"a: plain @ text",
		"a: 'single ''quoted'' @ text'",
		`a: "double \"quoted\" \u00e9 \n @ text"`,
		"a: é ünï @ text",
		"a: folded\n   over @ lines",
		"a: |\n  one\n  two @ three\n",
		"a: |\n    one\n      two @\n",
		"a: >-\n  one\n  two\n\n  three @ four\n",
		"a: \"over\n  two @ lines\"",
		"a: [x, {b: c @}, y]",
		"- - b: c\n    d: e @",
	} {
		lines := strings.Split(text, "\n")
		wantLine, wantColumn := 0, 0
		for i, l := range lines {
			if before, _, ok := strings.Cut(l, mark); ok {
				wantLine, wantColumn = i+1, len([]rune(before))+1
			}
		}
		root, problems := Parse("f.yaml", []byte(text))
		if len(problems) > 0 {
			t.Fatalf("%q: %v", text, problems)
		}
		n := holder(root, mark)
		before, _, _ := strings.Cut(n.Text(), mark)
		p := n.ProblemIn("", len([]rune(before)), "here", "")
		if len(before) > 0 && (p.Line != wantLine || p.Column != wantColumn) {
			t.Errorf("%q: the mark is at %d:%d, told %d:%d", text, wantLine, wantColumn, p.Line, p.Column)
		}
	}
}

// holder returns the string below n that holds a text.
func holder(n *Node, text string) *Node {
	if strings.Contains(n.Text(), text) {
		return n
	}
	for _, child := range append(n.Items(), children(n)...) {
		if found := holder(child, text); found != nil {
			return found
		}
	}
	return nil
}

func children(n *Node) (all []*Node) {
	for _, k := range n.Keys() {
		all = append(all, n.Get(k))
	}
	return all
}

func TestProblemPaths(t *testing.T) {
	root, _ := Parse("f.yaml", []byte("targets:\n  - name: a\n    \"odd key\": {x: y}\n"))
	for _, c := range []struct{ path, want string }{
		{"targets[0].name", "f.yaml:2:11: targets[0].name: m"},
		{"targets[0].none.below", "f.yaml:2:5: targets[0].none.below: m"},
		{`targets[0]["odd key"].x`, `f.yaml:3:20: targets[0]["odd key"].x: m`},
		{"targets[9].name", "f.yaml:2:3: targets[9].name: m"},
		{"", "f.yaml:1:1: m"},
	} {
		if got := root.Problem(c.path, "m", "").String(); got != c.want {
			t.Errorf("problem at %q is %q, want %q", c.path, got, c.want)
		}
	}
	var none *Node
	if got := none.Problem("a.b", "m", "h").String(); got != "a.b: m (h)" {
		t.Errorf("problem without a file is %q", got)
	}
}

type renderable struct {
	Text  string            `yaml:"text"`
	Flag  bool              `yaml:"flag"`
	Count int               `yaml:"count"`
	Wait  time.Duration     `yaml:"wait"`
	List  []string          `yaml:"list"`
	Map   map[string]string `yaml:"map"`
	Below *renderable       `yaml:"below"`
	Many  []renderable      `yaml:"many"`
}

// TestRenderReadsBack: whatever is rendered decodes to what it was, and renders the same again.
func TestRenderReadsBack(t *testing.T) {
	text := rapid.StringOfN(rapid.Rune(), 0, 12, -1)
	var value func(depth int) *rapid.Generator[renderable]
	value = func(depth int) *rapid.Generator[renderable] {
		return rapid.Custom(func(t *rapid.T) renderable {
			r := renderable{
				Text: text.Draw(t, "text"), Flag: rapid.Bool().Draw(t, "flag"), Count: rapid.Int().Draw(t, "count"),
				Wait: time.Duration(rapid.Int64Min(0).Draw(t, "wait")),
				List: rapid.SliceOfN(text, 0, 3).Draw(t, "list"), Map: rapid.MapOfN(text, text, 0, 3).Draw(t, "map"),
			}
			if depth > 0 && rapid.Bool().Draw(t, "deeper") {
				below := value(depth-1).Draw(t, "below")
				r.Below, r.Many = &below, []renderable{below, below}
			}
			return r
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		in := value(2).Draw(t, "value")
		rendered := Render(in)
		root, problems := Parse("f.yaml", rendered)
		var out renderable
		if problems = append(problems, root.Decode(&out)...); len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, rendered)
		}
		if again := Render(out); string(again) != string(rendered) {
			t.Fatalf("rendered first:\n%s\nthen:\n%s", rendered, again)
		}
	})
}

// FuzzParse: no text makes Parse or Decode panic, and no problem shows a secret in it.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a: b", "text: 'x\nflag: true", "nested: &n {name: n}\noptional: *n", "token: x\nlist:\n- name: a\n  map: {b: c}", "a: |\n  x\n b: c", "a: !!binary x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const secret = "PURPLE-MONKEY"
		text = "token: " + secret + "\n" + text
		root, problems := Parse("f.yaml", []byte(text))
		var s sample
		problems = append(problems, root.Decode(&s)...)
		if strings.Contains(problems.Error(), secret) && !strings.Contains(text[len(secret)+7:], "PURPLE") {
			t.Errorf("a problem shows the secret: %v", problems)
		}
		for _, p := range problems {
			if p.Line < 0 || p.Column < 0 || p.Message == "" {
				t.Errorf("problem without place or message: %+v", p)
			}
		}
		if n := holder(root, "x"); n != nil {
			n.ProblemIn("", strings.Index(n.Text(), "x"), "m", "")
		}
	})
}
