package bolt

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// BenchmarkUpdate measures what an Exchange costs the store: one record of about 1 KiB and its entry,
// durable when Update returns.
func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, err := Open(filepath.Join(b.TempDir(), "store.db"), newSigner(b), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			benchmarkPuts(b, s, writers)
		})
	}
}

// BenchmarkSealedUpdate is the same with sealed Values.
func BenchmarkSealedUpdate(b *testing.B) {
	key, err := store.NewSealingKey()
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(filepath.Join(b.TempDir(), "store.db"), newSigner(b), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	benchmarkPuts(b, store.Sealed(s, key), 64)
}

func benchmarkPuts(b *testing.B, s store.Store, writers int) {
	value, now := make([]byte, 1024), time.Unix(1_800_000_000, 0)
	principal := &audit.Principal{
		Provider: "github-actions", Issuer: "https://issuer.example.com", Subject: "repo:example/app:ref:refs/heads/main",
		Claims: map[string]any{"repository_id": "4711", "ref": "refs/heads/main", "run_id": "1234567"},
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				id := cred.NewGrantID(now.Add(time.Duration(n) * time.Millisecond))
				err := s.Update(context.Background(), func(tx store.Tx) error {
					err := tx.Put(store.Record{Key: store.Key{Table: store.Grants, ID: string(id)}, Due: now.Add(time.Minute), Value: value})
					if err != nil {
						return err
					}
					return tx.Append(audit.Event{
						Kind: audit.ExchangeGranted, Time: now, Grant: id, Principal: principal,
						Request:  &audit.Request{Target: "orders-db", Scopes: []string{"read"}, TTLSeconds: 900, Digest: "ab"},
						Decision: &audit.Decision{Allowed: true, Rule: "deploys-from-main", PolicyHash: "cd"},
					})
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
}
