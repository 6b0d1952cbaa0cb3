package boltlog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkLogAppend measures durable appends: every one has been synced when Append returns.
func BenchmarkLogAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l, err := Open(logPath(b), newSigner(b), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			commits := countCommits(l)
			b.ReportAllocs()
			b.ResetTimer()
			parallel(b, writers, func(n int) error {
				_, err := l.Append(context.Background(), event(n))
				return err
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/float64(commits.Load()), "appends/commit")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

// parallel shares b.N runs of fn among writers.
func parallel(b *testing.B, writers int, fn func(n int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := fn(int(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
