package bolt

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// schemaVersion is the version of the layout below. A file of a greater one is refused.
const schemaVersion = 1

var (
	bucketStore = []byte("store")
	keySchema   = []byte("schema") // in bucketStore: schemaVersion, 8 bytes big-endian
	// bucketGone holds the Rev, 8 bytes big-endian, of the deletion of each record that was deleted and not
	// made again, under its table, a slash and its ID. It is one bucket for all tables so that the file's
	// list of buckets, which every commit writes, fits one page.
	bucketGone = []byte("gone")
	dueMark    = []byte{1} // the value of every row of an index
)

// tableNames are the names of a table's buckets.
type tableNames struct {
	rows []byte // ID -> row
	due  []byte // Due and ID -> dueMark, for records that have a Due
}

// names are the buckets of every table.
var names = func() map[store.Table]tableNames {
	all := make(map[store.Table]tableNames)
	for _, t := range store.Tables {
		all[t] = tableNames{
			rows: []byte("table." + t),
			due:  []byte("table." + t + ".due"),
		}
	}
	return all
}()

// check refuses a file of a newer schema. Missing is whether the file lacks a part that prepare makes:
// everything, or a table that this version has added, which starts empty and needs no new schema.
func check(tx *bbolt.Tx, path string) (missing bool, err error) {
	head := tx.Bucket(bucketStore)
	if head == nil {
		return true, nil
	}
	switch version := head.Get(keySchema); {
	case len(version) != 8 || binary.BigEndian.Uint64(version) == 0:
		return false, damaged("%s: schema version %x", path, version)
	case binary.BigEndian.Uint64(version) > schemaVersion:
		return false, errNewer(path, binary.BigEndian.Uint64(version))
	}
	missing = tx.Bucket(bucketGone) == nil
	for _, n := range names {
		missing = missing || tx.Bucket(n.rows) == nil || tx.Bucket(n.due) == nil
	}
	return missing, nil
}

// prepare makes the buckets that a file lacks.
func prepare(tx *bbolt.Tx) error {
	head, err := tx.CreateBucketIfNotExists(bucketStore)
	if err != nil {
		return err
	}
	if err := head.Put(keySchema, binary.BigEndian.AppendUint64(nil, schemaVersion)); err != nil {
		return err
	}
	all := [][]byte{bucketGone}
	for _, n := range names {
		all = append(all, n.rows, n.due)
	}
	for _, name := range all {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// goneKey is a record's key in bucketGone; no table's name has a slash.
func goneKey(k store.Key) []byte { return []byte(string(k.Table) + "/" + k.ID) }

func errNewer(path string, version uint64) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "store.open", Reason: "STORE_SCHEMA_NEWER",
		Public: fmt.Sprintf("%s has schema %d and this daypass reads schemas up to %d; "+
			"run the newer daypass that wrote it, or restore the backup made before the upgrade", path, version, schemaVersion),
	}
}

func damaged(format string, args ...any) error {
	return &cred.Error{
		Kind: cred.Internal, Op: "store", Reason: "STORE_DAMAGED",
		Public: "the store can't be read as it was written; stop daypass and restore the file from a backup",
		Err:    fmt.Errorf(format, args...),
	}
}
