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
	formatVersion    = 2
	versionPlain     = 1 // of a log without hand-overs, which every daypass reads
	versionHandOvers = 2
)

// The log's buckets, at the top of the file.
var (
	bucketHead    = []byte("log")         // the keys below
	bucketEntries = []byte("log.entries") // seq, 8 bytes big-endian -> canonical entry
	// bucketHashes holds one row for each entry, under its seq: the hashes that the entry completed,
	// from its leaf upwards. The hash of (level, n) is thus hash number level of row (n+1)<<level - 1.
	bucketHashes = []byte("log.hashes")
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

// create writes the head of an empty log into a file that has none.
func create(tx *bbolt.Tx, origin string) error {
	head, err := tx.CreateBucket(bucketHead)
	if err != nil {
		return err
	}
	for _, name := range [][]byte{bucketEntries, bucketHashes} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
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
	rows := tx.Bucket(bucketHashes)
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			level, n := tlog.SplitStoredHashIndex(index)
			seq := uint64(n+1)<<level - 1
			row := rows.Get(be(seq))
			if len(row) != rowLen(seq) {
				return nil, fmt.Errorf("the hashes of entry %d have %d bytes, want %d", seq, len(row), rowLen(seq))
			}
			hashes[i] = tlog.Hash(row[level*tlog.HashSize:])
		}
		return hashes, nil
	})
}
