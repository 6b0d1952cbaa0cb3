package boltlog

import (
	"runtime"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/audit"
)

// batch is one bbolt transaction and the callers that share it. Owner: the group's goroutine.
type batch struct {
	log    *Log
	tx     *bbolt.Tx
	end    *end
	run    []*call
	dirty  bool          // somebody changed something
	signer *audit.Signer // to which the log was handed over; nil: to nobody
	fault  error         // the transaction can't be committed
}

// runBatch serves calls, and whoever queues up meanwhile, in one transaction.
func (l *Log) runBatch(calls []*call) {
	b, err := l.begin()
	if err != nil {
		for _, c := range calls {
			if c.taken.CompareAndSwap(false, true) {
				c.answer(err)
			}
		}
		return
	}
	for len(calls) > 0 && b.fault == nil {
		for _, c := range calls {
			b.serve(c)
		}
		calls = l.gather(maxBatch - len(b.run))
	}
	err = b.finish()
	for _, c := range b.run {
		if err != nil {
			c.err = err
		}
		c.answer(c.err)
	}
}

// gather takes who has queued up meanwhile. Where that is nobody it lets every goroutine run that can,
// once: those that are about to write share this commit, which costs far more than what any of them
// writes. On an idle machine that takes no time.
func (l *Log) gather(n int) []*call {
	calls, _ := l.group.take(n)
	if len(calls) == 0 {
		runtime.Gosched()
		calls, _ = l.group.take(n)
	}
	return calls
}

// answer ends a call.
func (c *call) answer(err error) {
	c.err = err
	c.turn <- nil
}

func (l *Log) begin() (*batch, error) {
	if l.fault != nil {
		return nil, l.fault
	}
	tx, err := l.db.Begin(true)
	if err != nil {
		return nil, errWrite(err)
	}
	end, err := l.endOf(tx)
	if err != nil {
		_ = tx.Rollback()
		return nil, err
	}
	return &batch{log: l, tx: tx, end: end}, nil
}

// serve gives one caller its turn, and keeps or undoes what it did.
func (b *batch) serve(c *call) {
	if !c.taken.CompareAndSwap(false, true) {
		return // its ctx has ended
	}
	b.run = append(b.run, c)
	if b.fault != nil {
		return // finish answers it
	}
	switch {
	case c.handOver != nil:
		c.err = b.handOver(c.handOver)
		return
	case c.fn == nil:
		c.err = b.append(c)
		return
	}
	t := &Tx{tx: b.tx, next: b.end.size()}
	c.turn <- t
	<-b.log.group.back
	t.over = true
	if c.err == nil {
		c.err = t.fault
	}
	if c.err != nil {
		b.fault = t.undoAll()
		return
	}
	b.dirty = b.dirty || len(t.undo) > 0 || len(t.entries) > 0
	b.fault = b.end.add(t.entries)
}

// append adds a caller's entries, all or none.
func (b *batch) append(c *call) error {
	c.first = b.end.size()
	entries := make([][]byte, len(c.append))
	for i, x := range c.append {
		var err error
		if entries[i], err = x.At(c.first + uint64(i)); err != nil {
			return err
		}
	}
	b.dirty = b.dirty || len(entries) > 0
	b.fault = b.end.add(entries)
	return nil
}

// finish commits what was kept. An error means that none of it has happened, or is Log.fault.
func (b *batch) finish() error {
	switch {
	case b.fault != nil:
		_ = b.tx.Rollback()
		return errWrite(b.fault)
	case !b.dirty:
		_ = b.tx.Rollback()
		return nil
	}
	if err := b.end.putSize(); err != nil {
		_ = b.tx.Rollback()
		return errWrite(err)
	}
	if b.signer != nil { // no checkpoint is signed between the commit and the change of the key
		b.log.mu.Lock()
		defer b.log.mu.Unlock()
	}
	id := b.tx.ID()
	if err := b.log.commit(b.tx); err != nil {
		return b.log.failed(id, err)
	}
	if b.signer != nil {
		b.log.signer.Store(b.signer)
	}
	b.log.raise(b.end.size())
	return nil
}

// failed tells a commit that did not happen from one whose last sync failed. After the former, bbolt
// stands where it stood before. After the latter the file shows the change, the disk may lose it, and
// a second sync would prove nothing, since the kernel drops what it could not write.
func (l *Log) failed(id int, cause error) error {
	tx, err := l.db.Begin(false)
	if err != nil {
		l.fault = errUncertain(cause)
		return l.fault
	}
	defer func() { _ = tx.Rollback() }()
	if tx.ID() >= id {
		l.fault = errUncertain(cause)
		return l.fault
	}
	return errWrite(cause)
}

// raise makes a size known as durable.
func (l *Log) raise(size uint64) {
	for {
		old := l.durable.Load()
		if old >= size || l.durable.CompareAndSwap(old, size) {
			return
		}
	}
}
