package boltlog

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/daypass-io/daypass/audit"
)

// maxBatch bounds how many callers share one commit, and so how long the first of them waits.
const maxBatch = 512

// group is the queue of writers and the goroutine that serves them. It uses no timer: while one batch
// is being synced the next one gathers, so batches grow with the load and a lone writer never waits.
type group struct {
	mu     sync.Mutex
	queue  []*call // guarded by mu
	closed bool    // guarded by mu

	wake chan struct{} // 1 deep: the queue or closed has changed
	back chan struct{} // the caller whose turn it was hands the transaction back
	done chan struct{} // closed when the goroutine has ended
}

// call is one caller of Update or Append.
type call struct {
	fn     func(*Tx) error // nil for an Append, which needs no turn of its caller's
	append []audit.Encoded
	// handOver, where it is set, is done in place of both.
	handOver *handOver
	first    uint64      // where append begins; owner: as for err
	taken    atomic.Bool // by the group's goroutine, to run; or by its caller, to leave
	// turn brings the caller its transaction, and later nil: err is the answer. 1 deep, so that a
	// caller who panicked keeps nobody.
	turn chan *Tx
	err  error // owner: whose turn it is, then the group's goroutine until the answer
}

// Update runs fn in the next write transaction and returns when it is on disk. Waiting callers share
// one transaction and one sync, but not their fate: an fn that fails is undone alone and gets its own
// error back. An fn sees what those before it in the same transaction did; if the commit then fails,
// none of them has happened and all get an Unavailable error.
//
// fn runs on the caller's goroutine. It must not call Update, and must not wait for another caller.
// A ctx that ends before fn's turn means that nothing was done; once fn has begun, Update waits for
// the outcome.
//
// Errors of the log are Unavailable: closed, ctx over, disk full or failing. After an error of the
// sync itself, where nobody can tell what the disk holds, every later Update is refused until the
// file has been opened anew.
func (l *Log) Update(ctx context.Context, fn func(*Tx) error) error {
	return l.do(ctx, &call{fn: fn})
}

// do queues a call and waits for its answer.
func (l *Log) do(ctx context.Context, c *call) error {
	if ctx.Err() != nil {
		return errDeadline(ctx)
	}
	c.turn = make(chan *Tx, 1)
	if !l.group.enqueue(c) {
		return errClosed()
	}
	var t *Tx
	select {
	case t = <-c.turn:
	case <-ctx.Done():
		if c.taken.CompareAndSwap(false, true) {
			return errDeadline(ctx)
		}
		t = <-c.turn
	}
	if t != nil { // else it was refused before its turn
		c.run(t, l.group.back)
		<-c.turn
	}
	return c.err
}

// run is the caller's turn. The transaction goes back even if fn panics.
func (c *call) run(t *Tx, back chan<- struct{}) {
	c.err = errPanicked()
	defer func() { back <- struct{}{} }()
	c.err = c.fn(t)
}

func (g *group) start(l *Log) {
	g.wake, g.back, g.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go g.serve(l)
}

// serve is the group's goroutine. It ends when the group is closed and nobody waits any more.
func (g *group) serve(l *Log) {
	defer close(g.done)
	for {
		calls, closed := g.take(maxBatch)
		switch {
		case len(calls) > 0:
			l.runBatch(calls)
		case closed:
			return
		default:
			<-g.wake
		}
	}
}

// take removes up to n callers from the queue.
func (g *group) take(n int) (calls []*call, closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n >= len(g.queue) {
		calls, g.queue = g.queue, nil
	} else {
		calls, g.queue = g.queue[:n:n], g.queue[n:]
	}
	return calls, g.closed
}

func (g *group) enqueue(c *call) bool {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return false
	}
	g.queue = append(g.queue, c)
	g.mu.Unlock()
	g.signal()
	return true
}

func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.signal()
	<-g.done
}

func (g *group) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}
