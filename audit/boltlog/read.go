package boltlog

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/audit"
)

// A page of entries ends after either: a read transaction keeps bbolt from using freed pages again,
// so none is held while the caller works.
const (
	pageEntries = 256
	pageBytes   = 1 << 20
)

// Entries yields the entries from seq from up to, and without, seq to, or up to the log's size where
// that is less. They have no proofs. It stops at the first error: Unavailable where ctx has ended or
// the log is closed, Internal where an entry can't be read.
func (l *Log) Entries(ctx context.Context, from, to uint64) iter.Seq2[audit.Exported, error] {
	return func(yield func(audit.Exported, error) bool) {
		to := min(to, l.durable.Load())
		for from := from; from < to; {
			page, err := l.page(ctx, from, to)
			if err != nil {
				yield(audit.Exported{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			from += uint64(len(page))
		}
	}
}

// page reads some entries, at least one.
func (l *Log) page(ctx context.Context, from, to uint64) (page []audit.Exported, err error) {
	err = l.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketEntries).Cursor()
		total := 0
		for key, row := c.Seek(be(from)); from < to && len(page) < pageEntries && total < pageBytes; key, row = c.Next() {
			if !bytes.Equal(key, be(from)) {
				row = nil
			}
			_, canonical, err := splitRow(from, row)
			if err != nil {
				return errRead(err)
			}
			page = append(page, audit.Exported{Seq: from, Canonical: bytes.Clone(canonical)})
			total += len(canonical)
			from++
		}
		return nil
	})
	return page, err
}

// Checkpoint returns the signed checkpoint of everything that is on disk. It signs once for each
// size.
func (l *Log) Checkpoint(ctx context.Context) (audit.Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := l.durable.Load()
	if l.checkpoint.Note != nil && l.checkpoint.Size == size {
		return l.checkpoint, nil
	}
	var root tlog.Hash
	err := l.view(ctx, func(tx *bbolt.Tx) (err error) {
		root, err = tlog.TreeHash(int64(size), hashReader(tx))
		return readError(err)
	})
	if err != nil {
		return audit.Checkpoint{}, err
	}
	signer := l.Signer()
	note, err := signer.Checkpoint(size, root)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	l.checkpoint = audit.Checkpoint{Origin: signer.Origin(), Size: size, Root: root, Note: note, VerifierKey: signer.VerifierKey()}
	return l.checkpoint, nil
}

// Prove returns the proof that entry seq is in the tree of a size (RFC 6962 section 2.1.1).
func (l *Log) Prove(ctx context.Context, seq, size uint64) (proof []tlog.Hash, err error) {
	if durable := l.durable.Load(); size > durable || seq >= size {
		return nil, errRange("there is no proof for entry %d in a log of %d entries; this log has %d", seq, size, durable)
	}
	err = l.view(ctx, func(tx *bbolt.Tx) error {
		p, err := tlog.ProveRecord(int64(size), int64(seq), hashReader(tx))
		proof = p
		return readError(err)
	})
	return proof, err
}

// ProveTree returns the proof that the tree of size older is a prefix of the tree of a size (RFC 6962
// section 2.1.2).
func (l *Log) ProveTree(ctx context.Context, older, size uint64) (proof []tlog.Hash, err error) {
	if durable := l.durable.Load(); size > durable || older > size || older == 0 {
		return nil, errRange("there is no proof from %d to %d entries; this log has %d", older, size, durable)
	}
	err = l.view(ctx, func(tx *bbolt.Tx) error {
		p, err := tlog.ProveTree(int64(size), int64(older), hashReader(tx))
		proof = p
		return readError(err)
	})
	return proof, err
}

// view runs fn in a read transaction.
func (l *Log) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if ctx.Err() != nil {
		return errDeadline(ctx)
	}
	err := l.db.View(fn)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return errClosed()
	}
	return err
}

func readError(err error) error {
	if err == nil {
		return nil
	}
	return errRead(err)
}
