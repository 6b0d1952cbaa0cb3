package policy

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// TestParamsStayInBounds: whatever is sent, the issuer gets only parameters that are listed, each with a
// value within its bound, all that are demanded, and nothing that was not sent or filled in.
func TestParamsStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"octo/a", "octo/b", "octo/../x", "octo/.", "octo", "octo/", "other/a", "a", "", " ", "octo/a\x00", "*", "octo/*", "octo\\..\\x"})
		list := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(word, 0, 3).Draw(t, "elements"), rapid.SampledFrom([]string{",", ", ", " ,"}).Draw(t, "separator"))
		})
		params := map[string]Param{}
		for _, name := range []string{"p", "q"} {
			b := Param{Required: rapid.Bool().Draw(t, "required")}
			if rapid.Bool().Draw(t, "list") {
				b.AnyOf = rapid.SliceOfN(rapid.SampledFrom([]string{"octo/*", "*a", "other/a", "octo/../x"}), 1, 2).Draw(t, "any_of")
				b.Default = rapid.SampledFrom([]string{"", "octo/a", "octo/a,other/a"}).Draw(t, "default")
			} else {
				b.OneOf = []string{"a", "octo/a,octo/b", " "}
				b.Default = rapid.SampledFrom([]string{"", "a"}).Draw(t, "default")
			}
			if rapid.Bool().Draw(t, "listed") {
				params[name] = b
			}
		}
		s, problems := Compile(Source{
			Targets: []Target{{Name: "t", Credential: Credential{Issuer: "i"}}},
			Rules:   []Rule{{Name: "r", Who: "true", May: []May{{Target: "t", Params: params}}, TTL: time.Minute}},
		})
		if len(problems) > 0 {
			checkParamProblems(t, params, problems.Error())
			return
		}
		for range 20 {
			sent := rapid.MapOfN(rapid.SampledFrom([]string{"p", "q", "r"}), rapid.OneOf(list, word), 0, 2).Draw(t, "sent")
			d := s.Decide(cred.Principal{}, cred.Request{Target: "t", Params: sent}, noon)
			want, ok := paramModel(params, sent)
			if d.Allowed != ok || ok && !maps.Equal(want, d.Params) {
				t.Fatalf("%q under %+v: allowed %v with %q, want %v with %q: %s", sent, params, d.Allowed, d.Params, ok, want, d.Private.Condition)
			}
		}
	})
}

// checkParamProblems: only a default out of bounds, or one that has no use, is a problem here.
func checkParamProblems(t *rapid.T, params map[string]Param, problems string) {
	for _, b := range params {
		if b.Default != "" {
			_, within := paramModel(map[string]Param{"x": {OneOf: b.OneOf, AnyOf: b.AnyOf}}, map[string]string{"x": b.Default})
			if b.Required || !within {
				return
			}
		}
	}
	t.Fatalf("%+v is refused: %s", params, problems)
}

// paramModel is what bounds mean. Its patterns are those of the test above.
func paramModel(params map[string]Param, sent map[string]string) (map[string]string, bool) {
	out := map[string]string{}
	for name := range sent {
		if _, ok := params[name]; !ok {
			return nil, false
		}
	}
	for name, b := range params {
		value, ok := sent[name]
		if !ok && (b.Required || b.Default == "") {
			if b.Required {
				return nil, false
			}
			continue
		}
		if !ok {
			value = b.Default
		}
		if b.AnyOf == nil {
			if !slices.Contains(b.OneOf, value) {
				return nil, false
			}
			out[name] = value
			continue
		}
		var elements []string
		for e := range strings.SplitSeq(value, ",") {
			e = strings.TrimSpace(e)
			clean := !strings.ContainsAny(e, "\x00") && !slices.Contains([]string{"octo/../x", "octo/.", `octo\..\x`}, e)
			if e == "" || !slices.ContainsFunc(b.AnyOf, func(p string) bool {
				return p == e || clean && (p == "octo/*" && strings.HasPrefix(e, "octo/") || p == "*a" && strings.HasSuffix(e, "a"))
			}) {
				return nil, false
			}
			elements = append(elements, e)
		}
		out[name] = strings.Join(elements, ",")
	}
	return out, true
}

// TestPartsDoNotMix: scopes go with the parameters of their own part; parts with equal parameters are
// one.
func TestPartsDoNotMix(t *testing.T) {
	s := compiled(t, `
targets: [ { name: t, credential: { issuer: i } } ]
rules:
  - name: r
    who: "true"
    ttl: 1m
    may:
      - { target: t, scopes: [read], params: { repo: { any_of: ["*"] } } }
      - { target: "*", scopes: [write], params: { repo: { any_of: [a] } } }
      - { target: t, scopes: [list], params: { repo: { any_of: ["*"] } } }
`)
	for _, c := range []struct {
		scopes, repo string
		want         bool
	}{
		{"read", "b", true}, {"read list", "b", true}, {"write", "a", true}, {"write", "b", false}, {"read write", "a", false}, {"", "b", true},
	} {
		d := s.Decide(cred.Principal{}, cred.Request{Target: "t", Scopes: strings.Fields(c.scopes), Params: map[string]string{"repo": c.repo}}, noon)
		if d.Allowed != c.want {
			t.Errorf("scopes %q of %q: allowed %v, want %v: %s", c.scopes, c.repo, d.Allowed, c.want, d.Private.Condition)
		}
	}
}

// TestPatternsOfOffers: scopes that an agent and its user are both offered.
func TestPatternsOfOffers(t *testing.T) {
	for _, c := range []struct{ a, b, want []string }{
		{[]string{"read", "write"}, []string{"read"}, []string{"read"}},
		{[]string{"read:*"}, []string{"read:a", "write"}, []string{"read:a"}},
		{[]string{"read:*"}, []string{"*"}, []string{"read:*"}},
		{[]string{"a*"}, []string{"*b"}, nil},
		{nil, []string{"*"}, nil},
	} {
		if diff := cmp.Diff(c.want, union(within(c.a, c.b), within(c.b, c.a))); diff != "" {
			t.Errorf("%q and %q (-want +got):\n%s", c.a, c.b, diff)
		}
	}
}
