package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// perSecond runs work in so many goroutines for a time and returns how often a second it was done.
// The first error ends all.
func perSecond(ctx context.Context, workers int, d time.Duration, work func(worker int) error) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var done atomic.Int64
	var once sync.Once
	var first error
	var all sync.WaitGroup
	began := time.Now()
	for n := range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := work(n); err != nil {
					once.Do(func() { first = err })
					cancel()
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), first
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
