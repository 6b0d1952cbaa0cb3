package notice

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// How the dispatcher paces itself.
const (
	look       = time.Second      // between two looks at a channel's queue
	sendWithin = 20 * time.Second // one try
	firstWait  = 30 * time.Second // from the first try to the second; longer than sendWithin
	longest    = time.Hour        // between two tries, and of a pause that a receiver asks for
	patience   = 24 * time.Hour   // from the first try to the last
	atOnce     = 4                // tries of one channel at the same time
	page       = 64               // notices of one channel in one look
	tidyEvery  = 10 * time.Minute // looks at the notices of channels that there are no longer
	storeWait  = 30 * time.Second // for the store to take the outcome, also while the broker stops
)

// Dispatcher sends what is in the queue.
type Dispatcher struct {
	store   store.Store
	senders map[string]Sender
	log     *slog.Logger
	now     func() time.Time
	look    time.Duration            // between two looks at a channel's queue
	wake    map[string]chan struct{} // by channel; a place for one signal each
}

// NewDispatcher returns a Dispatcher for the channels of senders, by their names.
func NewDispatcher(st store.Store, senders map[string]Sender, log *slog.Logger, now func() time.Time) *Dispatcher {
	d := &Dispatcher{store: st, senders: maps.Clone(senders), log: log, now: now, look: look, wake: map[string]chan struct{}{}}
	for name := range senders {
		d.wake[name] = make(chan struct{}, 1)
	}
	return d
}

// Wake makes Run look at the queue now. It is for callers of Enqueue whose transaction is done, and
// is never needed: Run looks each second.
func (d *Dispatcher) Wake() {
	for _, signal := range d.wake {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
}

// Run sends what is due until ctx ends, each channel by itself; then it waits for the tries that it
// has begun, which end with ctx, and returns nil.
func (d *Dispatcher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for name, sender := range d.senders {
		c := &channel{Dispatcher: d, name: name, sender: sender, places: make(chan struct{}, atOnce)}
		wg.Go(func() { c.run(ctx) })
	}
	wg.Go(func() { d.tidy(ctx) })
	wg.Wait()
	return nil
}

// channel is the part of a Dispatcher that serves one channel.
type channel struct {
	*Dispatcher
	name   string
	sender Sender
	places chan struct{} // one is taken by each try, also beyond the look that began it
	tries  sync.WaitGroup

	mu    sync.Mutex
	quiet time.Time // nothing is sent before; guarded by mu
}

func (c *channel) run(ctx context.Context) {
	tick := time.NewTicker(c.look)
	defer tick.Stop()
	defer c.tries.Wait()
	for {
		for more := true; more; {
			more = c.turn(ctx) == page
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.wake[c.name]:
		}
	}
}

// turn begins to try what is due, as places get free, and returns how many tries it began. It does
// not wait for the last ones: one that hangs takes its own place and no other.
func (c *channel) turn(ctx context.Context) int {
	keys, err := c.due(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.log.ErrorContext(ctx, "the notices that are due can't be read; the next look follows", "channel", c.name, "error", err)
		}
		return 0
	}
	begun := 0
	for _, key := range keys {
		c.places <- struct{}{}
		if c.try(ctx, key) {
			begun++
		} else {
			<-c.places
		}
	}
	return begun
}

// due returns the keys of what is to be sent now, what has waited longest first.
func (c *channel) due(ctx context.Context) ([]store.Key, error) {
	if c.resting() {
		return nil, nil
	}
	var records []store.Record
	err := c.store.View(ctx, func(tx store.Tx) error {
		records = records[:0]
		for r, err := range tx.Scan(store.Query{Table: store.Notices, Prefix: c.name + "/"}) {
			if err != nil {
				return err
			}
			if !r.Due.After(c.now()) {
				records = append(records, store.Record{Key: r.Key, Due: r.Due})
			}
		}
		return nil
	})
	slices.SortStableFunc(records, func(a, b store.Record) int { return a.Due.Compare(b.Due) })
	var keys []store.Key
	for _, r := range records[:min(len(records), page)] {
		keys = append(keys, r.Key)
	}
	return keys, err
}

func (c *channel) resting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now().Before(c.quiet)
}

// rest keeps the channel quiet for a while.
func (c *channel) rest(wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := c.now().Add(min(wait, longest)); until.After(c.quiet) {
		c.quiet = until
	}
}

// try claims one notice and sends it in the background, where it writes down how that went and frees
// its place. It reports whether it got as far as sending.
func (c *channel) try(ctx context.Context, key store.Key) bool {
	if c.resting() || ctx.Err() != nil {
		return false
	}
	q, mine, err := c.claim(ctx, key)
	if err != nil || !mine {
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "a notice can't be taken from the queue; the next look follows", "channel", c.name, "notice", key.ID, "error", err)
		}
		return false
	}
	c.tries.Go(func() {
		defer func() { <-c.places }()
		sending, cancel := context.WithTimeout(ctx, sendWithin)
		err := c.sender.Send(sending, q.Notice)
		cancel()
		c.settle(ctx, key, q, err)
	})
	return true
}

// claim takes a notice that is due: it counts the try, and writes down when the next one is due
// before this one begins. Another broker, and this one after a crash, leaves it alone until then.
func (c *channel) claim(ctx context.Context, key store.Key) (q queued, mine bool, err error) {
	err = c.store.Update(ctx, func(tx store.Tx) error {
		mine = false
		r, err := tx.Get(key)
		if err != nil {
			if cred.KindOf(err) == cred.NotFound {
				return nil // sent already
			}
			return err
		}
		now := c.now()
		if r.Due.After(now) {
			return nil
		}
		if q, err = decode(r); err != nil {
			return abandon(tx, r, failedEvent(q, err), now)
		}
		if q.Attempts == 0 {
			q.GiveUp = now.Add(patience)
		}
		q.Attempts++
		mine = true
		return put(tx, r, q, nextTry(q, now))
	})
	return q, mine, err
}

// nextTry returns when a notice is due again if this try fails: after twice as long each time, give
// or take a fifth so that many which failed together do not come back together. The last one is due
// when patience ends.
func nextTry(q queued, now time.Time) time.Time {
	wait := longest
	if doublings := q.Attempts - 1; doublings < 7 {
		wait = firstWait << doublings
	}
	wait += time.Duration((rand.Float64()*0.4 - 0.2) * float64(wait)) //nolint:gosec // spreads load, protects nothing
	if next := now.Add(wait); next.Before(q.GiveUp) || !now.Before(q.GiveUp) {
		return next
	}
	return q.GiveUp
}

// settle writes down the outcome of a try. A failure that leaves room for another needs no writing:
// claim has done it.
func (c *channel) settle(ctx context.Context, key store.Key, q queued, failed error) {
	partial, isPartial := errors.AsType[*PartialError](failed)
	log := c.log.With("channel", c.name, "notice", q.Notice.ID, "kind", q.Notice.Kind, "attempt", q.Attempts)
	write, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWait)
	defer cancel()
	var err error
	switch {
	case failed == nil:
		err = c.end(write, key, sentEvent(q, nil))
	case isPartial:
		log.WarnContext(ctx, "a notice did not reach everybody", "missed", len(partial.Missed), "error", failed)
		err = c.end(write, key, sentEvent(q, partial.Missed))
	case ctx.Err() != nil: // the broker stops; what was cut off is tried again after its start
	case cred.KindOf(failed) == cred.Invalid || !c.now().Before(q.GiveUp):
		log.ErrorContext(ctx, "a notice could not be sent and is given up", "error", failed)
		err = c.end(write, key, failedEvent(q, failed))
	default:
		if r, ok := errors.AsType[retryAfter](failed); ok {
			c.rest(r.RetryAfter())
		}
		log.WarnContext(ctx, "a notice could not be sent; it is tried again", "error", failed)
	}
	if err != nil {
		log.WarnContext(ctx, "the outcome of a notice could not be written; it is sent once more", "error", err)
	}
}

// retryAfter is an error that says when to come back.
type retryAfter interface {
	error
	RetryAfter() time.Duration
}
