package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

// manyRules returns a set of n rules over n/4 targets, four for each, with a pattern rule at the end.
func manyRules(tb testing.TB, n int) *Set {
	var b strings.Builder
	b.WriteString("targets:\n")
	for i := range n / 4 {
		fmt.Fprintf(&b, "  - { name: db-%d, credential: { issuer: vault, path: database/creds/%d } }\n", i, i)
	}
	b.WriteString("rules:\n")
	for i := range n - 1 {
		fmt.Fprintf(&b, `  - name: rule-%d
    who: principal.provider == "github-actions" && principal.claims.repository_id == "%d" && principal.claims.ref == "refs/heads/main"
    may: [ { target: db-%d, scopes: [read] } ]
    ttl: 15m
`, i, i, i/4)
	}
	b.WriteString("  - { name: everything, who: '\"admins\" in principal.groups', may: [ { target: 'db-*', scopes: ['*'] } ], ttl: 1h }\n")
	return compiled(tb, b.String())
}

func BenchmarkDecide(b *testing.B) {
	s := manyRules(b, 1000)
	want := cred.Request{Target: "db-100", Scopes: []string{"read"}}
	claims := func(id string) map[string]any {
		return map[string]any{"repository_id": id, "ref": "refs/heads/main"}
	}
	for _, c := range []struct {
		name    string
		who     cred.Principal
		allowed bool
	}{
		{"allowed", job(claims("402")), true},
		{"denied", job(claims("9999")), false},
		{"another_provider", person(), false},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := s.Decide(c.who, want, noon); d.Allowed != c.allowed {
					b.Fatal(d.Public)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		manyRules(b, 1000)
	}
}
