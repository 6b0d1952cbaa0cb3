// Package flights runs requests that don't end with whoever asked for them. When a caller leaves, a source
// goes on with what it was asked, and what it makes then would be nobody's: so the answer is awaited all the
// same, and whoever waits for it takes back what it holds.
package flights

import (
	"context"
	"errors"
	"fmt"
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

// The errors of Await, besides those of what it runs.
var (
	ErrClosed = errors.New("flights: nothing is begun any more") // so nothing ran
	ErrLeft   = errors.New("flights: nobody waits any more")     // it is open what comes of it
)

// landing is what came of a flight.
type landing[T any] struct {
	made T
	err  error
}

// Await begins fly, by a function such as Group.Go, and returns what comes of it. Once ctx has ended it waits
// no more and returns ErrLeft with ctx's error; what is made after that is given to undo.
func Await[T any](ctx context.Context, begin func(run func()) bool, fly func() (T, error), undo func(T)) (T, error) {
	var none T
	landed := make(chan landing[T])
	begun := begin(func() {
		made, err := fly()
		select {
		case landed <- landing[T]{made, err}:
		case <-ctx.Done():
			if err == nil {
				undo(made)
			}
		}
	})
	if !begun {
		return none, ErrClosed
	}
	select {
	case l := <-landed:
		return l.made, l.err
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", ErrLeft, ctx.Err())
	}
}
