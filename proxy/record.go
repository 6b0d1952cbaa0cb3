package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/daypass-io/daypass/audit"
)

// recorder writes what happens after an operation has begun: its end, and refusals. Those entries
// are queued, in order, and written in batches by one goroutine. Nothing is dropped: every entry
// has a place reserved before its operation begins. While the log takes no entries the recorder is
// not healthy, no operation may begin, and it tries again until the log works.
type recorder struct {
	log     Log
	timeout time.Duration
	places  int
	cancel  context.CancelFunc // ends the writer although entries are left
	ctx     context.Context
	wake    chan struct{} // one token: there is something to write, or the end is near
	done    chan struct{} // closed when the writer has returned

	mu      sync.Mutex // owns all below
	taken   int        // places in use: operations in flight and entries not yet durable
	queue   []audit.Event
	sick    bool // the last attempt to write failed
	closing bool
}

// Bounds on one batch of entries, and the first and last pause after a failed write.
const (
	maxBatch   = 256
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

func newRecorder(log Log, places int, timeout time.Duration) *recorder {
	ctx, cancel := context.WithCancel(context.Background())
	r := &recorder{
		log: log, timeout: timeout, places: places, ctx: ctx, cancel: cancel,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go r.run()
	return r
}

// healthy returns nil unless the log refused the last entries.
func (r *recorder) healthy() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sick {
		return errUnlogged
	}
	return nil
}

// reserve takes the place that finish or release gives back.
func (r *recorder) reserve() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken >= r.places || r.closing {
		return false
	}
	r.taken++
	return true
}

// write appends one entry, durably. It does not end with the caller's context: an entry that the
// log might have written anyway has to be told of.
func (r *recorder) write(e audit.Event) error {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	_, err := r.log.Append(ctx, e)
	return err
}

// finish queues the last entry of an operation that holds a place.
func (r *recorder) finish(e audit.Event) {
	r.mu.Lock()
	r.queue = append(r.queue, e)
	r.mu.Unlock()
	r.poke()
}

func (r *recorder) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *recorder) run() {
	defer close(r.done)
	pause := firstPause
	for {
		batch, last := r.batch()
		if len(batch) == 0 {
			if last {
				return
			}
			select {
			case <-r.wake:
			case <-r.ctx.Done():
				return
			}
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
		_, err := r.log.Append(ctx, batch...)
		cancel()
		r.wrote(len(batch), err)
		if err == nil {
			pause = firstPause
			continue
		}
		if !r.sleep(pause) {
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// batch returns the entries to write next, and whether no more will come.
func (r *recorder) batch() (events []audit.Event, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queue[:min(len(r.queue), maxBatch)], r.closing && r.taken == 0
}

// wrote takes the entries that were written off the queue and gives their places back.
func (r *recorder) wrote(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sick = err != nil
	if err != nil {
		return
	}
	clear(r.queue[:n])
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil
	}
	r.taken -= n
}

func (r *recorder) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// close waits until every place is given back and every entry written, or ctx is done.
func (r *recorder) close(ctx context.Context) error {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.poke()
	defer r.cancel()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	r.cancel()
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == 0 {
		return nil
	}
	return errors.Join(ctx.Err(), fmt.Errorf("proxy: %d operations have no recorded end", r.taken))
}
