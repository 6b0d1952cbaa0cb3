package boltlog

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/audit"
)

// checkedAtOpen is how many of the last entries are verified when a log is opened.
const checkedAtOpen = 256

// load checks the log that a transaction sees and takes over its end.
func (l *Log) load(tx *bbolt.Tx, s *audit.Signer) error {
	path := l.db.Path()
	if err := checkHead(tx, path, s.Origin()); err != nil {
		return err
	}
	right, err := rightSigner(tx, path, s)
	if err != nil {
		return err
	}
	l.signer.Store(right)
	if tx.Bucket(bucketEntries) == nil || tx.Bucket(bucketHashes) == nil {
		return errDamaged(path, errors.New("a bucket of the log is missing"))
	}
	size, err := sizeOf(tx)
	if err != nil {
		return errDamaged(path, err)
	}
	if err := checkEnds(tx, size); err != nil {
		return errDamaged(path, err)
	}
	if err := checkTail(tx, size); err != nil {
		return errDamaged(path, err)
	}
	if l.tree, err = loadTree(size, hashReader(tx)); err != nil {
		return errDamaged(path, err)
	}
	return nil
}

// checkEnds compares the first and last keys with the stored size.
func checkEnds(tx *bbolt.Tx, size uint64) error {
	for _, name := range [][]byte{bucketEntries, bucketHashes} {
		c := tx.Bucket(name).Cursor()
		first, _ := c.First()
		last, _ := c.Last()
		if size == 0 {
			if first != nil {
				return fmt.Errorf("%s is not empty, and the stored size is zero", name)
			}
			continue
		}
		if !bytes.Equal(first, be(0)) || !bytes.Equal(last, be(size-1)) {
			return fmt.Errorf("%s runs from %x to %x, and the stored size is %d", name, first, last, size)
		}
	}
	return nil
}

// checkTail computes the hashes of the last entries again.
func checkTail(tx *bbolt.Tx, size uint64) error {
	entries, rows, hashes := tx.Bucket(bucketEntries), tx.Bucket(bucketHashes), hashReader(tx)
	for seq := size - min(size, checkedAtOpen); seq < size; seq++ {
		canonical := entries.Get(be(seq))
		if canonical == nil {
			return fmt.Errorf("entry %d is missing", seq)
		}
		want, err := tlog.StoredHashesForRecordHash(int64(seq), audit.LeafHash(canonical), hashes)
		if err != nil {
			return err
		}
		var row []byte
		for _, h := range want {
			row = append(row, h[:]...)
		}
		if !bytes.Equal(row, rows.Get(be(seq))) {
			return fmt.Errorf("entry %d does not have the hash that was stored for it", seq)
		}
	}
	return nil
}
