package main

import (
	"errors"
	"io"
	"runtime"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
)

// change is a recorded decision that a rule set answers otherwise.
type change struct {
	Kind     policy.Difference
	Seq      uint64
	Grant    cred.GrantID
	Recorded policy.Recorded
	Decision policy.Decision
}

// tally counts a log's exchanges.
type tally struct {
	Decisions int // that rules made
	Apart     int // refusals that no rule decided
	By        map[policy.Difference]int
}

// replayer decides recorded requests again, on all processors and in the order of the log. Its memory
// does not grow with the log: a batch waits where those before it are not done.
type replayer struct {
	set          *policy.Set
	since, until time.Time // zero: no bound
	show         func(change) error
	progress     func(decisions int)

	batch  []byte         // entries one after another, which one decoder reads with one buffer
	held   int            // entries in it
	order  chan chan part // parts in the order of the log, each to come
	failed chan struct{}  // closed where no more is of use; by the goroutine of collect
	done   chan struct{}  // closed when collect has returned
	total  tally          // owner: collect, until done
	err    error          // owner: collect, until done
}

// part is what came of a batch.
type part struct {
	tally
	changes []change
	err     error
}

// batchSize is how many entries are decided at a time: enough that handing them over costs nothing,
// and few enough that progress is seen.
const batchSize = 256

func newReplayer(set *policy.Set, show func(change) error, progress func(int)) *replayer {
	r := &replayer{
		set: set, show: show, progress: progress,
		order: make(chan chan part, runtime.GOMAXPROCS(0)), failed: make(chan struct{}), done: make(chan struct{}),
		total: tally{By: map[policy.Difference]int{}},
	}
	go r.collect()
	return r
}

// add takes an entry. An error means that more is of no use; close tells which.
func (r *replayer) add(canonical []byte) error {
	if !isExchange(canonical) {
		return nil
	}
	r.batch = append(append(r.batch, canonical...), '\n')
	r.held++
	if r.held < batchSize {
		return nil
	}
	return r.dispatch()
}

func (r *replayer) dispatch() error {
	batch, out := r.batch, make(chan part, 1)
	r.batch, r.held = make([]byte, 0, len(batch)), 0
	select {
	case <-r.failed:
		return errStopped
	case r.order <- out:
	}
	go func() { out <- r.decide(batch) }()
	return nil
}

// errStopped ends the reading of a log after collect has failed, which knows why.
var errStopped = errors.New("stopped")

// close waits for all that was added, and returns the counts. It must be called once.
func (r *replayer) close() (tally, error) {
	if r.held > 0 {
		_ = r.dispatch() // its error is that of collect, which is returned below
	}
	close(r.order)
	<-r.done
	return r.total, r.err
}

// decide does the work of a batch.
func (r *replayer) decide(batch []byte) part {
	p := part{tally: tally{By: map[policy.Difference]int{}}}
	entries := newEntryReader(batch)
	for {
		seq, e, err := entries.next()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			p.err = err
			return p
		}
		if !r.since.IsZero() && e.Time.Before(r.since) || !r.until.IsZero() && !e.Time.Before(r.until) {
			continue
		}
		p.one(r.set, seq, e)
	}
}

func (p *part) one(set *policy.Set, seq uint64, e audit.Event) {
	recorded, ok := recordedFrom(e)
	if !ok {
		p.Apart++
		return
	}
	p.Decisions++
	d, kind := set.Replay(recorded)
	if kind == policy.Same {
		return
	}
	p.By[kind]++
	p.changes = append(p.changes, change{Kind: kind, Seq: seq, Grant: e.Grant, Recorded: recorded, Decision: d})
}

// collect adds up parts in their order until the first that fails.
func (r *replayer) collect() {
	defer close(r.done)
	for out := range r.order {
		p := <-out
		if r.err != nil {
			continue // what was handed over before the failure has to be waited for
		}
		if r.err = r.take(p); r.err != nil {
			close(r.failed)
		}
	}
}

func (r *replayer) take(p part) error {
	for _, c := range p.changes {
		if err := r.show(c); err != nil {
			return err
		}
	}
	if p.err != nil {
		return p.err
	}
	r.total.Decisions += p.Decisions
	r.total.Apart += p.Apart
	for kind, n := range p.By {
		r.total.By[kind] += n
	}
	r.progress(r.total.Decisions)
	return nil
}
