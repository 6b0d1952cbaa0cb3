package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

// manyRules returns a set of n rules over some targets, evenly, with a pattern rule at the end. Each is
// for one repository and one ref, as rules for CI jobs are.
func manyRules(tb testing.TB, n, targets int) *Set {
	var b strings.Builder
	b.WriteString("targets:\n")
	for i := range targets {
		fmt.Fprintf(&b, "  - { name: db-%d, credential: { issuer: vault, path: database/creds/%d } }\n", i, i)
	}
	b.WriteString("rules:\n")
	for i := range n - 1 {
		fmt.Fprintf(&b, `  - name: rule-%d
    who: principal.provider == "github-actions" && principal.claims.repository_id == "%d" && principal.claims.ref == "refs/heads/main"
    may: [ { target: db-%d, scopes: [read] } ]
    ttl: 15m
`, i, i, i%targets)
	}
	b.WriteString("  - { name: everything, who: '\"admins\" in principal.groups', may: [ { target: 'db-*', scopes: ['*'] } ], ttl: 1h }\n")
	return compiled(tb, b.String())
}

// BenchmarkDecide decides with 1,000 rules: over 100 targets, and all for one, which is the worst case.
func BenchmarkDecide(b *testing.B) {
	claims := func(id string) map[string]any {
		return map[string]any{"repository_id": id, "ref": "refs/heads/main"}
	}
	for _, targets := range []int{100, 1} {
		s := manyRules(b, 1000, targets)
		want := cred.Request{Target: "db-0", Scopes: []string{"read"}}
		for _, c := range []struct {
			name    string
			who     cred.Principal
			allowed bool
		}{
			{"allowed", job(claims("900")), true},
			{"denied", job(claims("9999")), false},
			{"another_provider", person(), false},
		} {
			b.Run(fmt.Sprintf("targets=%d/%s", targets, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if d := s.Decide(c.who, want, noon); d.Allowed != c.allowed {
						b.Fatal(d.Public)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		manyRules(b, 1000, 100)
	}
}
