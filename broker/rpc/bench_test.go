package rpc_test

import (
	"log/slog"
	"runtime"
	"testing"

	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
)

// BenchmarkExchange is one CI job's call over TLS: an RS256 ID token of a person's or a job's size, a
// decision, a grant in bbolt with real syncs, its token. Sixteen clients call at once, each on a
// connection of its own.
func BenchmarkExchange(b *testing.B) {
	for _, target := range []string{"api", "orders"} { // through a proxy; delivered directly
		b.Run(target, func(b *testing.B) {
			w := newWorld(b, settings{})
			w.logs.level.Set(slog.LevelInfo)
			claims := w.idp.GitHubClaims(audience, identitytest.GitHubJob{})
			claims["groups"] = []string{"team"}
			clients := make(chan *sdk.Client, 16)
			for range cap(clients) {
				clients <- w.as(w.idp.Sign(claims))
			}
			b.SetParallelism(cap(clients) / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				c := <-clients
				defer func() { clients <- c }()
				for p.Next() {
					if _, err := c.Exchange(b.Context(), cred.Request{Target: target, Reason: "deploy"}); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "exchanges/s")
		})
	}
}
