package bolt

import (
	"bytes"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/store"
)

// behindAll sorts behind every ID, for IDs are ASCII.
const behindAll = "\xff"

// scanIDs yields records in the order of their IDs.
func (t *tx) scanIDs(q store.Query, yield func(store.Record, error) bool) {
	w := t.walk(names[q.Table].rows, q.Reverse)
	for key, row := w.start(q); key != nil && strings.HasPrefix(string(key), q.Prefix); key, row = w.next() {
		r, err := record(store.Key{Table: q.Table, ID: string(key)}, row)
		if !yield(r, err) || err != nil {
			return
		}
		if w.n == q.Limit {
			return
		}
	}
}

// scanDue yields records in the order of their index.
func (t *tx) scanDue(q store.Query, yield func(store.Record, error) bool) {
	rows := t.file.Bucket(names[q.Table].rows)
	w := t.walk(names[q.Table].due, false)
	by := max(q.DueBy.UnixMilli(), 0)
	for key, _ := w.start(store.Query{}); key != nil; key, _ = w.next() {
		due, id, err := splitDueKey(key)
		if err != nil {
			yield(store.Record{}, damaged("index of %s: %w", q.Table, err))
			return
		}
		if due > uint64(by) {
			return
		}
		k := store.Key{Table: q.Table, ID: id}
		r, err := record(k, rows.Get([]byte(id)))
		if err == nil && r.DueMillis() != due {
			err = damaged("%s/%s is due at %d, and its index says %d", q.Table, id, r.DueMillis(), due)
		}
		if !yield(r, err) || err != nil {
			return
		}
		if w.n == q.Limit {
			return
		}
	}
}

// walk is a way through a bucket that writes on the way do not disturb.
type walk struct {
	tx      *tx
	bucket  *bbolt.Bucket
	cursor  *bbolt.Cursor
	reverse bool
	last    []byte // the key that was returned last
	writes  int    // tx.writes at that time
	n       int    // keys returned
}

func (t *tx) walk(bucket []byte, reverse bool) *walk {
	b := t.file.Bucket(bucket)
	return &walk{tx: t, bucket: b, cursor: b.Cursor(), reverse: reverse}
}

// start returns the first key of a query.
func (w *walk) start(q store.Query) (key, value []byte) {
	if w.reverse {
		from := q.Prefix + behindAll
		if q.After != "" && q.After < from {
			from = q.After
		}
		return w.at(w.before([]byte(from)))
	}
	if q.After >= q.Prefix && q.After != "" {
		return w.at(w.behind([]byte(q.After)))
	}
	return w.at(w.cursor.Seek([]byte(q.Prefix)))
}

// next returns the key that follows the last one.
func (w *walk) next() (key, value []byte) {
	moved := w.writes != w.tx.writes // the cursor stands nowhere
	switch {
	case w.reverse && moved:
		return w.at(w.before(w.last))
	case w.reverse:
		return w.at(w.previous(w.last))
	case moved:
		return w.at(w.behind(w.last))
	}
	return w.at(w.cursor.Next())
}

func (w *walk) at(key, value []byte) (_, _ []byte) {
	if key != nil {
		w.last, w.writes = bytes.Clone(key), w.tx.writes
		w.n++
	}
	return key, value
}

// behind returns the first key greater than key.
func (w *walk) behind(key []byte) (_, _ []byte) {
	k, v := w.cursor.Seek(key)
	if bytes.Equal(k, key) {
		return w.cursor.Next()
	}
	return k, v
}

// before returns the last key smaller than key.
func (w *walk) before(key []byte) (_, _ []byte) {
	w.cursor.Seek(key)
	return w.previous(key)
}

// previous moves the cursor, which stands at key or behind it, back by one. bbolt's Prev also returns
// nil at a page that the transaction has emptied; another Prev goes on from there.
func (w *walk) previous(key []byte) (k, v []byte) {
	if k, v = w.cursor.Prev(); k != nil {
		return k, v
	}
	first, _ := w.bucket.Cursor().First()
	if first == nil || bytes.Compare(first, key) >= 0 {
		return nil, nil
	}
	for k == nil {
		k, v = w.cursor.Prev()
	}
	return k, v
}
