package boltlog

import (
	"context"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/audit"
)

// fillPercent is how full bbolt packs the log's pages: keys only grow, so no room is left between.
const fillPercent = 0.95

// Append adds events, in order and next to each other, and returns the sequence number of the first
// when they are on disk. Errors are those of Update, and Invalid for an event that has no canonical
// form.
func (l *Log) Append(ctx context.Context, events ...audit.Event) (first uint64, err error) {
	c := &call{append: make([]audit.Encoded, len(events))}
	for i, e := range events {
		if c.append[i], err = audit.Encode(e); err != nil {
			return 0, err
		}
	}
	err = l.do(ctx, c)
	return c.first, err
}

// AppendTx adds events in a write transaction of the caller's own, who commits it. It is for what
// can't go through Update.
func (l *Log) AppendTx(tx *bbolt.Tx, events ...audit.Event) (first uint64, err error) {
	end, err := l.endOf(tx)
	if err != nil {
		return 0, err
	}
	first = end.size()
	entries := make([][]byte, len(events))
	for i, e := range events {
		if entries[i], err = audit.Canonical(first+uint64(i), e); err != nil {
			return 0, err
		}
	}
	if err := end.add(entries); err != nil {
		return 0, errWrite(err)
	}
	if err := end.putSize(); err != nil {
		return 0, errWrite(err)
	}
	size := end.size()
	tx.OnCommit(func() { l.raise(size) })
	return first, nil
}

// end is the end of the log in a write transaction: where entries are added.
type end struct {
	tree          *tree
	head, entries *bbolt.Bucket
}

// endOf returns the end of the log in a write transaction. The tree in memory is read anew if the
// transaction that left it was rolled back.
func (l *Log) endOf(tx *bbolt.Tx) (*end, error) {
	size, err := sizeOf(tx)
	if err != nil {
		return nil, errRead(err)
	}
	if size != l.tree.size {
		if l.tree, err = loadTree(size, hashReader(tx)); err != nil {
			return nil, errRead(err)
		}
	}
	e := &end{&l.tree, tx.Bucket(bucketHead), tx.Bucket(bucketEntries)}
	e.entries.FillPercent = fillPercent
	return e, nil
}

func (e *end) size() uint64 { return e.tree.size }

func (e *end) add(entries [][]byte) error {
	for _, canonical := range entries {
		key := be(e.size())
		row := e.tree.add(audit.LeafHash(canonical), make([]byte, 0, rowLen(e.size())+len(canonical)))
		if err := e.entries.Put(key, append(row, canonical...)); err != nil {
			return err
		}
	}
	return nil
}

func (e *end) putSize() error { return e.head.Put(keySize, be(e.size())) }
