package bolt

import (
	"encoding/binary"
	"iter"
	"math"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/store"
)

// tx is a transaction: bbolt's own in a View, a part of the group's in an Update.
type tx struct {
	file   interface{ Bucket([]byte) *bbolt.Bucket }
	write  *boltlog.Tx // nil in a View
	writes int         // counts Puts, so that a scan knows when its cursor is no longer valid
	over   bool        // fn has returned
}

func (t *tx) Get(k store.Key) (store.Record, error) {
	if t.over {
		return store.Record{}, store.TxOver()
	}
	if err := k.Check(); err != nil {
		return store.Record{}, err
	}
	row := t.file.Bucket(names[k.Table].rows).Get([]byte(k.ID))
	if row != nil {
		return record(k, row)
	}
	rev, err := t.deletedRev(k)
	if err != nil {
		return store.Record{}, err
	}
	return store.Record{Key: k, Rev: rev}, store.NotFound(k)
}

// record decodes a row that was read.
func record(k store.Key, row []byte) (store.Record, error) {
	r, err := decodeRow(k, row)
	if err != nil {
		return store.Record{}, damaged("%s/%s: %w", k.Table, k.ID, err)
	}
	return r, nil
}

// deletedRev returns the Rev that the deletion of a key had, zero where there was none.
func (t *tx) deletedRev(k store.Key) (uint64, error) {
	b := t.file.Bucket(bucketGone).Get(goneKey(k))
	switch {
	case b == nil:
		return 0, nil
	case len(b) != 8:
		return 0, damaged("%s/%s: the revision of its deletion has %d bytes", k.Table, k.ID, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func (t *tx) Put(r store.Record) error {
	switch {
	case t.over:
		return store.TxOver()
	case t.write == nil:
		return store.ReadOnly()
	}
	if err := r.Check(); err != nil {
		return err
	}
	n := names[r.Table]
	row := t.file.Bucket(n.rows).Get([]byte(r.ID))
	if row == nil {
		return t.create(n, r)
	}
	old, err := record(r.Key, row)
	if err != nil {
		return err
	}
	if old.Rev != r.Rev {
		return store.Conflict(r.Key, old.Rev, r.Rev)
	}
	if r.Rev == math.MaxUint64 {
		return damaged("%s/%s: its revision can't grow", r.Table, r.ID)
	}
	r.Rev++
	return t.replace(n, old, r)
}

// create writes a record where there is none. The key counts on from its last deletion.
func (t *tx) create(n tableNames, r store.Record) error {
	if r.Rev != 0 {
		return store.Conflict(r.Key, 0, r.Rev)
	}
	if r.Value == nil {
		return nil
	}
	rev, err := t.deletedRev(r.Key)
	if err != nil {
		return err
	}
	if rev != 0 {
		if err := t.delete(bucketGone, goneKey(r.Key)); err != nil {
			return err
		}
	}
	r.Rev = rev + 1
	return t.replace(n, store.Record{}, r)
}

// replace writes a record, or its deletion, and keeps the index in step.
func (t *tx) replace(n tableNames, old, r store.Record) error {
	t.writes++
	if r.Value == nil {
		r.Due = store.Record{}.Due
	}
	if was, is := old.DueMillis(), r.DueMillis(); was != is {
		if was != 0 {
			if err := t.delete(n.due, dueKey(was, r.ID)); err != nil {
				return err
			}
		}
		if is != 0 {
			if err := t.put(n.due, dueKey(is, r.ID), dueMark); err != nil {
				return err
			}
		}
	}
	if r.Value != nil {
		return t.put(n.rows, []byte(r.ID), encodeRow(r))
	}
	if err := t.put(bucketGone, goneKey(r.Key), binary.BigEndian.AppendUint64(nil, r.Rev)); err != nil {
		return err
	}
	return t.delete(n.rows, []byte(r.ID))
}

func (t *tx) put(bucket, key, value []byte) error {
	return t.write.Put(t.file.Bucket(bucket), key, value)
}

func (t *tx) delete(bucket, key []byte) error {
	return t.write.Delete(t.file.Bucket(bucket), key)
}

func (t *tx) Append(e audit.Event) error {
	switch {
	case t.over:
		return store.TxOver()
	case t.write == nil:
		return store.ReadOnly()
	}
	_, err := t.write.Append(e)
	return err
}

func (t *tx) Scan(q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if t.over {
			yield(store.Record{}, store.TxOver())
			return
		}
		if err := q.Check(); err != nil {
			yield(store.Record{}, err)
			return
		}
		if q.DueBy.IsZero() {
			t.scanIDs(q, yield)
		} else {
			t.scanDue(q, yield)
		}
	}
}
