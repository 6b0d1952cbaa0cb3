package bolt

import (
	"encoding/binary"
	"errors"

	"github.com/daypass-io/daypass/store"
)

// A row is a record's Rev and Due, 8 bytes big-endian each (Due in milliseconds since 1970, zero for
// never), and then its Value.
const rowHead = 16

var errRow = errors.New("a row is too short or has no revision")

func encodeRow(r store.Record) []byte {
	b := make([]byte, 0, rowHead+len(r.Value))
	b = binary.BigEndian.AppendUint64(b, r.Rev)
	b = binary.BigEndian.AppendUint64(b, r.DueMillis())
	return append(b, r.Value...)
}

// decodeRow returns a record that shares nothing with row. An error wraps what encodeRow can't have
// written.
func decodeRow(k store.Key, row []byte) (store.Record, error) {
	if len(row) < rowHead {
		return store.Record{}, errRow
	}
	r := store.Record{
		Key: k,
		Rev: binary.BigEndian.Uint64(row),
		Due: store.TimeOfDue(binary.BigEndian.Uint64(row[8:])),
		// Never nil: an empty Value is a Value.
		Value: append([]byte{}, row[rowHead:]...),
	}
	if r.Rev == 0 || r.Check() != nil {
		return store.Record{}, errRow
	}
	return r, nil
}

// dueKey is a record's key in the index: Due, then its ID.
func dueKey(due uint64, id string) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(id)), due), id...)
}

// splitDueKey is the inverse of dueKey.
func splitDueKey(key []byte) (due uint64, id string, err error) {
	if len(key) <= 8 {
		return 0, "", errRow
	}
	return binary.BigEndian.Uint64(key), string(key[8:]), nil
}
