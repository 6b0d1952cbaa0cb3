package policy

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// TestProblems checks what is refused of each key, and in which words.
func TestProblems(t *testing.T) {
	const head = "targets: [ { name: t, credential: { issuer: i } }, { name: p, http: { upstream: 'https://x' }, credential: { issuer: i } } ]\n"
	rule := func(more string) string {
		return head + "rules: [ { name: r, who: 'true', ttl: 1h, may: [ { target: t } ], " + more + " } ]"
	}
	with := func(key, value string) string {
		return head + key + ": " + value + "\nrules: [ { name: r, who: 'true', ttl: 1h, may: [ { target: t } ] } ]"
	}
	target := func(quota string) string {
		return "targets: [ { name: t, credential: { issuer: i }, quota: " + quota + " } ]"
	}
	param := func(p string) string {
		return head + "rules: [ { name: r, who: 'true', ttl: 1h, may: [ { target: t, params: { x: " + p + " } } ] } ]"
	}
	window := func(from, to, zone string) string {
		return rule("windows: [ { from: '" + from + "', to: '" + to + "', zone: " + zone + " } ]")
	}
	for _, c := range []struct{ text, want string }{
		{target("{ per_principal: 30 }"), "targets[0].quota.per_principal: must be a string, not a number (put it in quotes)"},
		{target("{ per_principal: 30/hour }"), `targets[0].quota.per_principal: must be a count and a time, such as "30/1h"`},
		{target("{ total: 0/1h }"), "targets[0].quota.total: must have a count from 1 to 1000000 (to allow nothing, write a deny rule)"},
		{target("{ total: 1/31d }"), "targets[0].quota.total: must have a time from 1s to 30d"},
		{target("{ total: 1/5ms }"), "targets[0].quota.total: must have a time from 1s to 30d"},
		{rule("deliver: proxy"), `rules[0].deliver: target "t" has no http, so that a proxy would not know where to spend the credential`},
		{rule("deliver: both"), "rules[0].deliver: is not a value that this key can have (possible are direct, proxy)"},
		{rule("bind: [tls]"), `rules[0].bind[0]: is not a value that this key can have (did you mean "mtls"?)`},
		{rule("renewals: -1"), "rules[0].renewals: must be from 0 to 1000"},
		{window("22:00", "22:00", "UTC"), `rules[0].windows[0].to: is the same as from (write from "00:00" to "24:00" for whole days)`},
		{window("24:00", "06:00", "UTC"), `rules[0].windows[0].from: can't be 24:00 (write "00:00", and name the next day)`},
		{window("22:60", "06:00", "UTC"), `rules[0].windows[0].from: must be a time of the day such as "06:30" (from 00:00 to 24:00, in quotes)`},
		{window("22:00", "6:00", "UTC"), `rules[0].windows[0].to: must be a time of the day such as "06:30" (from 00:00 to 24:00, in quotes)`},
		{window("22:00", "06:00", "Local"), `rules[0].windows[0].zone: is not a time zone (write a name of the IANA database such as "Europe/Berlin", or "UTC")`},
		{window("22:00", "06:00", "Berlin"), `rules[0].windows[0].zone: is not a time zone (write a name of the IANA database such as "Europe/Berlin", or "UTC")`},
		{window("22:00", "06:00", "''"), `rules[0].windows[0].zone: is not a time zone (write a name of the IANA database such as "Europe/Berlin", or "UTC")`},
		{rule("windows: [ { days: [monday], from: '01:00', to: '02:00', zone: UTC } ]"), "rules[0].windows[0].days[0]: is not a value that this key can have (possible are mon, tue, wed, thu, fri, sat, sun)"},
		{rule("approval: { within: 1h }"), "rules[0].approval: must have all_of or any_of"},
		{rule("approval: { all_of: [ { group: g } ], within: 30s }"), `rules[0].approval.within: must be set, and at least 1m (such as "15m")`},
		{rule("approval: { all_of: [ { group: g } ], within: 8d }"), "rules[0].approval.within: is longer than 7d, the longest that it can be"},
		{rule("approval: { all_of: [ { group: g } ], within: 1h, remind: 1h }"), "rules[0].approval.remind: must be at least 1m, and less than within"},
		{rule("approval: { all_of: [ { group: g } ], within: 1h, remind: 1s }"), "rules[0].approval.remind: must be at least 1m, and less than within"},
		{rule("approval: { all_of: [ { group: g } ], within: 1h, fresh: 1s }"), `rules[0].approval.fresh: must be set, and at least 1m (such as "15m")`},
		{rule("approval: { all_of: [ { group: g, count: -1 } ], within: 1h }"), "rules[0].approval.all_of[0].count: must be from 1 to 20"},
		{rule("approval: { all_of: [ { group: g, count: 21 } ], within: 1h }"), "rules[0].approval.all_of[0].count: must be from 1 to 20"},
		{rule("approval: { all_of: [ { group: g }, { group: g } ], within: 1h }"), `rules[0].approval.all_of[1].group: group "g" is listed twice (ask for more of its people with count)`},
		{rule("approval: { any_of: [ { group: '' } ], within: 1h }"), "rules[0].approval.any_of[0].group: must have 1 to 256 bytes"},
		{rule("approval: { any_of: [" + strings.Repeat("{ group: g },", 17) + "], within: 1h }"), "rules[0].approval.any_of: lists more than 16 groups"},
		{rule("approval: { all_of: [ { group: g } ], within: 1h, on_call: o }"), `rules[0].approval.on_call: there is no schedule "o" in on_call`},
		{rule("break_glass: { max_ttl: 25h, review: { groups: [g], within: 1h } }"), "rules[0].break_glass.max_ttl: is longer than 1d, the longest that it can be"},
		{rule("break_glass: { max_ttl: 1h, review: { groups: [], within: 1h } }"), "rules[0].break_glass.review.groups: lists no group, so that nobody can sign it off"},
		{rule("break_glass: { max_ttl: 1h }"), "rules[0].break_glass.review.groups: is missing"},
		{rule("break_glass: { max_ttl: 1h, review: { groups: [g], within: 31d } }"), "rules[0].break_glass.review.within: is longer than 30d, the longest that it can be"},
		{rule("renewals: 1, break_glass: { max_ttl: 1h, review: { groups: [g], within: 1h } }"), "rules[0].renewals: is not for a rule with break_glass: its max_ttl is a hard bound"},
		{param("{}"), `rules[0].may[0].params.x: must have one_of or any_of, and not both (any_of: ["*"] allows every value)`},
		{param("{ one_of: [a], any_of: [b] }"), `rules[0].may[0].params.x: must have one_of or any_of, and not both (any_of: ["*"] allows every value)`},
		{param("{ any_of: ['a,b'] }"), "rules[0].may[0].params.x: has a value (number 1) that is empty, or a pattern with a comma, which nothing can match"},
		{param("{ one_of: [a, ''] }"), "rules[0].may[0].params.x: has a value (number 2) that is empty, or a pattern with a comma, which nothing can match"},
		{param("{ any_of: ['a*'], default: b }"), "rules[0].may[0].params.x.default: is not within the bound"},
		{param("{ any_of: ['a*'], default: a, required: true }"), "rules[0].may[0].params.x.default: has no use: the parameter must be sent (leave out default or required)"},
		{with("groups", "[ { name: g } ]"), "groups[0]: has neither members nor who, so that nobody is in it"},
		{with("groups", "[ { name: 'a b', who: 'true' } ]"), "groups[0].name: is not a name: " + NameRule},
		{with("groups", "[ { name: g, who: 'true' }, { name: g, who: 'true' } ]"), `groups[1].name: the name "g" is used twice`},
		{with("groups", "[ { name: g, who: 'request.ttl' } ]"), "groups[0].who: is not a valid expression: undeclared reference to 'request'"},
		{with("groups", "[ { name: g, members: [ { provider: x } ] } ]"), "groups[0].members[0]: must have a subject or an email, and not both"},
		{with("groups", "[ { name: g, members: [ { provider: x, subject: a, email: b } ] } ]"), "groups[0].members[0]: must have a subject or an email, and not both"},
		{with("deny", "[ { name: r, who: 'true', may: [ { target: t } ] } ]"), `rules[0].name: the name "r" is used twice`},
		{with("deny", "[ { name: d, who: 'true', may: [] } ]"), "deny[0].may: lists nothing, so the rule refuses nothing"},
		{with("deny", "[ { name: d, who: '', may: [ { target: t } ] } ]"), `deny[0].who: is empty (write "true" for everybody who is known)`},
		{with("deny", "[ { name: d, who: 'true', when: x, may: [ { target: nothing } ] } ]"), `deny[0].may[0].target: there is no target "nothing"`},
		{with("deny", "[ { name: d, who: 'true', when: x, may: [ { target: t } ] } ]"), "deny[0].when: is not a valid expression: undeclared reference to 'x'"},
		{with("on_call", "[ { name: o }, { name: o } ]"), `on_call[1].name: the name "o" is used twice`},
		{with("on_call", "[ { name: o, shifts: [ { person: { provider: x, subject: a }, from: '2026-01-01', until: '2026-01-02' } ] } ]"), `on_call[0].shifts[0].from: must be an instant such as "2026-03-02T09:00:00+01:00" (RFC 3339)`},
	} {
		_, problems := Parse("f.yaml", []byte(c.text))
		found := false
		for _, p := range problems {
			p.File, p.Line, p.Column = "", 0, 0
			found = found || p.String() == c.want
		}
		if !found {
			t.Errorf("%s\nhas problems\n%v\nwant\n%s", strings.TrimPrefix(c.text, head), problems, c.want)
		}
	}
}

// full is a source in which every key is set, as the test below makes sure.
const full = language + `
roles: { auditor: principal.subject == "a" }
`

// TestEverythingIsInTheText: the canonical text reads back into an equal set, and each single key, if
// it is changed, changes the hash, but for what the text leaves out on purpose.
func TestEverythingIsInTheText(t *testing.T) {
	s := compiled(t, full)
	if again := compiled(t, string(s.Text())); again.Hash() != s.Hash() || string(again.Text()) != string(s.Text()) {
		t.Errorf("the canonical text reads back differently:\n%s", s.Text())
	}
	var src Source
	root, _ := strictyaml.Parse("f.yaml", []byte(full))
	if problems := root.Decode(&src); len(problems) > 0 {
		t.Fatal(problems)
	}
	text := func() string { return string(canonical(src)) }
	before := text()
	changed := 0
	walk(reflect.ValueOf(&src).Elem(), "", func() {}, func(path string, v reflect.Value, commit func()) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		switch v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		default:
			v.SetInt(v.Int() + 1)
		}
		commit()
		if same := text() == before; same != strings.HasSuffix(path, ".File") {
			t.Errorf("a change of %s leaves the text the same: %v", path, same)
		}
		v.Set(old)
		commit()
		changed++
	})
	if text() != before || changed < 150 {
		t.Errorf("changed %d values, and the text is the same again: %v", changed, text() == before)
	}
	if diff := cmp.Diff(src.Rules, func() []Rule { canonical(src); return src.Rules }()); diff != "" {
		t.Error("rendering changes the source", diff)
	}
}

// walk visits every plain value that has a yaml tag, with what makes a change of it count: values in
// maps are copies.
func walk(v reflect.Value, path string, commit func(), visit func(path string, v reflect.Value, commit func())) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Tag.Get("yaml") != "" {
				walk(v.Field(i), path+"."+f.Name, commit, visit)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), path, commit, visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), strictyaml.Index(path, i), commit, visit)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(k))
			walk(value, path+"."+k.String(), func() { v.SetMapIndex(k, value) }, visit)
		}
	default:
		visit(path, v, commit)
	}
}

// FuzzParse: no text makes Parse panic, and what it takes reads back from its canonical text.
func FuzzParse(f *testing.F) {
	for _, text := range []string{language, example, agentRules, atNight, full} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, problems := Parse("f.yaml", []byte(text))
		if (s == nil) == (len(problems) == 0) {
			t.Fatalf("set %v with problems %v", s, problems)
		}
		if s == nil {
			return
		}
		again, problems := Parse("text", s.Text())
		if len(problems) > 0 || again.Hash() != s.Hash() {
			t.Errorf("the canonical text reads back differently: %v\n%s", problems, s.Text())
		}
	})
}
