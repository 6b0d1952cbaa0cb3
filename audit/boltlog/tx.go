package boltlog

import (
	"cmp"
	"errors"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// Tx is one caller's part of a write transaction, valid until its fn returns.
type Tx struct {
	tx      *bbolt.Tx
	next    uint64   // sequence number of the first of entries
	entries [][]byte // canonical; they join the log when fn has succeeded
	undo    []change // what to put back if it fails
	fault   error    // the first Append or write that failed: fn can't succeed any more
	over    bool     // fn has returned
}

// change is a key's value before a write.
type change struct {
	bucket   *bbolt.Bucket
	key, old []byte // old is nil where there was none
}

var errTxOver = &cred.Error{
	Kind: cred.Internal, Op: "log.update", Reason: "TX_OVER",
	Public: "a transaction was used after its function had returned",
}

// Bucket returns a bucket of the file to read from, nil where there is none. Writes go through Put
// and Delete, so that they can be undone.
func (t *Tx) Bucket(name []byte) *bbolt.Bucket { return t.tx.Bucket(name) }

// Put sets a key of a bucket. Neither key nor value may be changed before Update returns.
func (t *Tx) Put(b *bbolt.Bucket, key, value []byte) error { return t.write(b, key, value) }

// Delete removes a key of a bucket.
func (t *Tx) Delete(b *bbolt.Bucket, key []byte) error { return t.write(b, key, nil) }

func (t *Tx) write(b *bbolt.Bucket, key, value []byte) error {
	if t.over {
		return errTxOver
	}
	t.undo = append(t.undo, change{b, key, b.Get(key)})
	if err := set(b, key, value); err != nil {
		t.fault = cmp.Or[error](t.fault, cred.Errorf(cred.Internal, "log.update", "", "writing %q: %w", key, err))
		return t.fault
	}
	return nil
}

// Append adds an event to the log and returns the sequence number that it has if fn succeeds. An
// event that has no canonical form is an Invalid error, and fails the whole fn even if fn goes on:
// nothing happens without its entry.
func (t *Tx) Append(e audit.Event) (seq uint64, err error) {
	if t.over {
		return 0, errTxOver
	}
	seq = t.next + uint64(len(t.entries))
	canonical, err := audit.Canonical(seq, e)
	if err != nil {
		t.fault = cmp.Or(t.fault, err)
		return 0, err
	}
	t.entries = append(t.entries, canonical)
	return seq, nil
}

// undoAll puts back what fn wrote, the last write first.
func (t *Tx) undoAll() error {
	var errs []error
	for _, c := range slices.Backward(t.undo) {
		errs = append(errs, set(c.bucket, c.key, c.old))
	}
	return errors.Join(errs...)
}

func set(b *bbolt.Bucket, key, value []byte) error {
	if value == nil {
		return b.Delete(key)
	}
	return b.Put(key, value)
}
