package vault_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
)

// BenchmarkIssue measures what the lease's own token costs: in turn, on kept connections, one read of
// database/creds with Vault's own client, then Reserve, Issue and Revoke. It reports medians in ms.
func BenchmarkIssue(b *testing.B) {
	w := newWorld(b)
	iss := newIssuer(b, w.config())
	if err := iss.Check(b.Context()); err != nil {
		b.Fatal(err)
	}
	direct, err := api.NewClient(&api.Config{Address: w.URL, HttpClient: &http.Client{Transport: &http.Transport{}}})
	if err != nil {
		b.Fatal(err)
	}

	direct.SetToken(w.Token(b, []string{"daypass"}, nil))
	took := map[string][]time.Duration{}
	timed := func(what string, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		took[what] = append(took[what], time.Since(began))
	}
	for b.Loop() {
		s := spec(in(10 * time.Minute))
		var lease cred.Lease
		timed("read-ms", func() error {
			_, err := direct.Logical().ReadWithContext(b.Context(), path)
			return err
		})
		timed("reserve-ms", func() (err error) { s.Handle, err = iss.Reserve(b.Context(), s); return err })
		timed("issue-ms", func() (err error) { _, lease, err = iss.Issue(b.Context(), s); return err })
		timed("revoke-ms", func() error { return iss.Revoke(b.Context(), lease) })
	}
	for what, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, what)
	}
}
