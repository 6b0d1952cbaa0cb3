// Package flights runs requests that don't end with whoever asked for them. When a caller leaves, a source
// goes on with what it was asked, and what it makes then would be nobody's: so the answer is awaited all the
// same, and whoever waits for it takes back what it holds.
package flights

import (
	"context"
	"sync"
	"time"
)

// Group is what runs. It is safe for concurrent use.
type Group struct {
	life   context.Context
	cancel context.CancelFunc
	flying sync.WaitGroup

	mu     sync.Mutex // owns closed
	closed bool
}

// New returns a group in which nothing runs.
func New() *Group {
	g := &Group{}
	g.life, g.cancel = context.WithCancel(context.Background())
	return g
}

// Life is the context of what runs; it ends with Close.
func (g *Group) Life() context.Context { return g.life }

// Go runs a function that Close waits for. It reports false, and runs nothing, once Close was called.
func (g *Group) Go(run func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.flying.Go(run)
	}
	return !g.closed
}

// Close waits for what runs; after patience it ends their context, and waits until they have noticed.
func (g *Group) Close(patience time.Duration) {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	overdue := time.AfterFunc(patience, g.cancel)
	g.flying.Wait()
	overdue.Stop()
	g.cancel()
}
