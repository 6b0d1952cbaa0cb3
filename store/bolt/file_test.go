package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

func wantError(t testing.TB, err error, kind cred.Kind, reason string) {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != kind || e.Reason != reason || e.Public == "" {
		t.Errorf("got %v, want kind %s and reason %s", err, kind, reason)
	}
}

// closeWith makes a store with one record, changes its file with bbolt alone, and leaves it closed.
func closeWith(t testing.TB, path string, s *audit.Signer, change func(*bbolt.Tx) error) {
	t.Helper()
	st, err := Open(path, s, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = st.Update(context.Background(), func(tx store.Tx) error {
		return tx.Put(store.Record{Key: key, Due: time.UnixMilli(7), Value: []byte("v")})
	})
	if err := errors.Join(err, st.db.Update(change), st.Close()); err != nil {
		t.Fatal(err)
	}
}

var key = store.Key{Table: store.Grants, ID: "a"}

func TestNewerSchema(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "store.db"), newSigner(t)
	closeWith(t, path, s, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketStore).Put(keySchema, binary.BigEndian.AppendUint64(nil, schemaVersion+1))
	})
	_, err := Open(path, s, Options{})
	wantError(t, err, cred.Invalid, "STORE_SCHEMA_NEWER")
	for _, part := range []string{path, "schema 2", "up to 1", "newer daypass"} {
		if !strings.Contains(cred.PublicText(err), part) {
			t.Errorf("%q does not say %q", cred.PublicText(err), part)
		}
	}
}

func TestBadSchema(t *testing.T) {
	for _, version := range [][]byte{{1}, make([]byte, 8), nil} {
		path, s := filepath.Join(t.TempDir(), "store.db"), newSigner(t)
		closeWith(t, path, s, func(tx *bbolt.Tx) error { return tx.Bucket(bucketStore).Put(keySchema, version) })
		_, err := Open(path, s, Options{})
		wantError(t, err, cred.Internal, "STORE_DAMAGED")
	}
}

// TestAddedTable: a file from before a table existed gets it.
func TestAddedTable(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "store.db"), newSigner(t)
	closeWith(t, path, s, func(tx *bbolt.Tx) error { return tx.DeleteBucket(names[store.Policies].due) })
	st, err := Open(path, s, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	err = st.Update(t.Context(), func(tx store.Tx) error {
		_, err := tx.Get(key)
		return errors.Join(err, tx.Put(store.Record{Key: store.Key{Table: store.Policies, ID: "a"}, Due: time.UnixMilli(1), Value: []byte("v")}))
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLocked(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "store.db"), newSigner(t)
	st, err := Open(path, s, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	_, err = Open(path, s, Options{LockTimeout: time.Millisecond})
	wantError(t, err, cred.Unavailable, "LOG_LOCKED")
}

// TestOpenAgain: a refused opening does not keep the file.
func TestOpenAgain(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "store.db"), newSigner(t)
	other, err := audit.GenerateSigner("daypass.example.com/other")
	if err != nil {
		t.Fatal(err)
	}
	closeWith(t, path, s, func(*bbolt.Tx) error { return nil })
	_, err = Open(path, other, Options{})
	wantError(t, err, cred.Invalid, "LOG_ORIGIN_DIFFERS")
	st, err := Open(path, s, Options{LockTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_ = st.Close()
}

// TestDamagedRecords: what this driver can't have written is an Internal error, and nothing else.
func TestDamagedRecords(t *testing.T) {
	n := names[store.Grants]
	get := func(tx store.Tx) error { _, err := tx.Get(key); return err }
	put := func(tx store.Tx) error { return tx.Put(store.Record{Key: key, Rev: 1, Value: []byte("w")}) }
	scan := func(q store.Query) func(store.Tx) error {
		return func(tx store.Tx) error {
			for _, err := range tx.Scan(q) {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	byID, byDue := scan(store.Query{Table: store.Grants}), scan(store.Query{Table: store.Grants, DueBy: time.UnixMilli(1 << 40)})
	short := func(tx *bbolt.Tx) error { return tx.Bucket(n.rows).Put([]byte(key.ID), []byte("short")) }
	for name, test := range map[string]struct {
		change func(*bbolt.Tx) error
		do     func(store.Tx) error
	}{
		"get of a short row":  {short, get},
		"put on a short row":  {short, put},
		"scan of a short row": {short, byID},
		"due, without a row":  {func(tx *bbolt.Tx) error { return tx.Bucket(n.rows).Delete([]byte(key.ID)) }, byDue},
		"due, differently": {func(tx *bbolt.Tx) error {
			return tx.Bucket(n.rows).Put([]byte(key.ID), encodeRow(store.Record{Rev: 1, Due: time.UnixMilli(8)}))
		}, byDue},
		"due, a short key": {func(tx *bbolt.Tx) error { return tx.Bucket(n.due).Put([]byte{0}, dueMark) }, byDue},
		"scan of a bad ID": {func(tx *bbolt.Tx) error {
			return tx.Bucket(n.rows).Put([]byte("a b"), encodeRow(store.Record{Rev: 1}))
		}, byID},
		"deletion": {func(tx *bbolt.Tx) error {
			return errors.Join(tx.Bucket(n.rows).Delete([]byte(key.ID)), tx.Bucket(bucketGone).Put(goneKey(key), []byte("short")))
		}, get},
		"revision at its end": {func(tx *bbolt.Tx) error {
			return tx.Bucket(n.rows).Put([]byte(key.ID), encodeRow(store.Record{Rev: 1<<64 - 1}))
		}, func(tx store.Tx) error { return tx.Put(store.Record{Key: key, Rev: 1<<64 - 1, Value: []byte("w")}) }},
	} {
		t.Run(name, func(t *testing.T) {
			path, s := filepath.Join(t.TempDir(), "store.db"), newSigner(t)
			closeWith(t, path, s, test.change)
			st, err := Open(path, s, Options{noSync: true})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = st.Close() }()
			wantError(t, st.Update(t.Context(), test.do), cred.Internal, "STORE_DAMAGED")
		})
	}
}

// TestALogBecomesAStore: opening died after it had made the log and before it made the tables.
func TestALogBecomesAStore(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "store.db"), newSigner(t)
	l, err := boltlog.Open(path, s, boltlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Append(t.Context(), audit.Event{Kind: audit.BrokerStarted, Time: time.Now()})
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	st, err := Open(path, s, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if size, err := st.Log().Size(); size != 1 || err != nil {
		t.Errorf("%d entries, %v; want 1", size, err)
	}
}
