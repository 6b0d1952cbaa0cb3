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
	if tx.Bucket(bucketEntries) == nil {
		return errDamaged(path, errors.New("the log has no bucket of entries"))
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
	c := tx.Bucket(bucketEntries).Cursor()
	first, _ := c.First()
	last, _ := c.Last()
	switch {
	case size == 0 && first != nil:
		return errors.New("there are entries, and the stored size is zero")
	case size > 0 && (!bytes.Equal(first, be(0)) || !bytes.Equal(last, be(size-1))):
		return fmt.Errorf("the entries run from %x to %x, and the stored size is %d", first, last, size)
	}
	return nil
}

// checkTail computes the hashes of the last entries again.
func checkTail(tx *bbolt.Tx, size uint64) error {
	rows, hashes := tx.Bucket(bucketEntries), hashReader(tx)
	for seq := size - min(size, checkedAtOpen); seq < size; seq++ {
		stored, canonical, err := splitRow(seq, rows.Get(be(seq)))
		if err != nil {
			return err
		}
		want, err := tlog.StoredHashesForRecordHash(int64(seq), audit.LeafHash(canonical), hashes)
		if err != nil {
			return err
		}
		var computed []byte
		for _, h := range want {
			computed = append(computed, h[:]...)
		}
		if !bytes.Equal(computed, stored) {
			return fmt.Errorf("entry %d does not have the hash that was stored for it", seq)
		}
	}
	return nil
}
