package boltlog

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

// formatVersion is the greatest version of the layout below that is read. A file of a greater one is
// refused.
const (
	formatVersion    = 4
	versionPlain     = 3 // of a log without hand-overs, which every daypass reads
	versionHandOvers = 4
)

// The log's buckets, at the top of the file.
var (
	bucketHead = []byte("log") // the keys below
	// bucketEntries holds one row for each entry, under its seq, 8 bytes big-endian: the hashes that the
	// entry completed, from its leaf upwards, and then the canonical entry. The hash of (level, n) is thus
	// hash number level of row (n+1)<<level - 1. They stand in one row because each further tree of pages
	// that a commit touches costs it two or three writes.
	bucketEntries = []byte("log.entries")
	// bucketHandOvers is made by the first hand-over: number, 8 bytes big-endian -> storedHandOver, JSON.
	bucketHandOvers = []byte("log.handovers")
)

// The keys of bucketHead.
var (
	keyVersion = []byte("version") // 8 bytes big-endian
	keyOrigin  = []byte("origin")  // the log's origin line
	keySize    = []byte("size")    // number of entries, 8 bytes big-endian
)

// be returns a number as a key or value whose byte order is the order of numbers.
func be(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// fromBE reads what be wrote.
func fromBE(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("a number of %d bytes, want 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// splitRow takes a row apart. Both parts are bbolt's memory: valid within the transaction.
func splitRow(seq uint64, row []byte) (hashes, canonical []byte, err error) {
	n := rowLen(seq)
	switch {
	case row == nil:
		return nil, nil, fmt.Errorf("entry %d is missing", seq)
	case len(row) <= n:
		return nil, nil, fmt.Errorf("the row of entry %d has %d bytes, want more than %d", seq, len(row), n)
	}
	return row[:n], row[n:], nil
}

// create writes the head of an empty log into a file that has none.
func create(tx *bbolt.Tx, origin string) error {
	head, err := tx.CreateBucket(bucketHead)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(bucketEntries); err != nil {
		return err
	}
	for _, kv := range [][2][]byte{{keyVersion, be(versionPlain)}, {keyOrigin, []byte(origin)}, {keySize, be(0)}} {
		if err := head.Put(kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

// checkHead refuses a log of a newer format or of another origin.
func checkHead(tx *bbolt.Tx, path, origin string) error {
	head := tx.Bucket(bucketHead)
	version, err := fromBE(head.Get(keyVersion))
	if err != nil {
		return errDamaged(path, fmt.Errorf("log version: %w", err))
	}
	if version > formatVersion {
		return &cred.Error{
			Kind: cred.Invalid, Op: "log.open", Reason: reasonNewer,
			Public: fmt.Sprintf("%s holds an audit log of format %d and this daypass reads formats up to %d; "+
				"run the newer daypass that wrote it, or restore the backup made before the upgrade", path, version, formatVersion),
		}
	}
	if version == 0 {
		return errDamaged(path, fmt.Errorf("log version is zero"))
	}
	if version < versionPlain {
		return &cred.Error{
			Kind: cred.Invalid, Op: "log.open", Reason: reasonOlder,
			Public: fmt.Sprintf("%s holds an audit log of format %d, which was in use before the first release and is read no more; "+
				"export it with the daypass that wrote it, and begin with a new file", path, version),
		}
	}
	if got := string(head.Get(keyOrigin)); got != origin {
		return &cred.Error{
			Kind: cred.Invalid, Op: "log.open", Reason: reasonOrigin,
			Public: fmt.Sprintf("%s holds the audit log of %q, not of %q; point daypass at its own file, "+
				"or give it the log key that belongs to this one", path, got, origin),
		}
	}
	return nil
}

// sizeOf returns the number of entries that a transaction sees.
func sizeOf(tx *bbolt.Tx) (uint64, error) {
	n, err := fromBE(tx.Bucket(bucketHead).Get(keySize))
	if err != nil {
		return 0, fmt.Errorf("log size: %w", err)
	}
	return n, nil
}

// hashReader reads the tree's hashes in a transaction.
func hashReader(tx *bbolt.Tx) tlog.HashReader {
	rows := tx.Bucket(bucketEntries)
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			level, n := tlog.SplitStoredHashIndex(index)
			seq := uint64(n+1)<<level - 1
			row, _, err := splitRow(seq, rows.Get(be(seq)))
			if err != nil {
				return nil, err
			}
			hashes[i] = tlog.Hash(row[level*tlog.HashSize:])
		}
		return hashes, nil
	})
}
