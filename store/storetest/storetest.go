// Package storetest is the contract of store.Store as tests. A driver's own test is three lines: it
// calls Test with a function that says how the driver is opened.
package storetest

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Driver is one store under test, with data of its own.
type Driver struct {
	// Open opens the store. Called again after Close it opens the same data.
	Open func() (store.Store, Log, error)
}

// rerun returns a driver whose stores run each fn twice.
func (d Driver) rerun() Driver {
	return Driver{Open: func() (store.Store, Log, error) {
		s, log, err := d.Open()
		if err != nil {
			return nil, nil, err
		}
		return Rerun(s), log, nil
	}}
}

// Log is how the suite reads the audit log of an open store. *boltlog.Log is one.
type Log interface {
	Size() (uint64, error)
	Entries(ctx context.Context, from, to uint64) iter.Seq2[audit.Exported, error]
	Checkpoint(ctx context.Context) (audit.Checkpoint, error)
	VerifierKey() string
}

// contract is every test but the one against a model.
var contract = []struct {
	name string
	run  func(t *testing.T, s *subject)
}{
	{"Records", testRecords},
	{"Revisions", testRevisions},
	{"RevisionsGoOnAfterDelete", testRevisionsGoOn},
	{"Bounds", testBounds},
	{"ValuesAreCopies", testValuesAreCopies},
	{"Isolation", testIsolation},
	{"ViewSeesOneState", testViewSeesOneState},
	{"OwnWrites", testOwnWrites},
	{"FailedUpdate", testFailedUpdate},
	{"PanickingUpdate", testPanickingUpdate},
	{"FailuresAmongOthers", testFailuresAmongOthers},
	{"BadEvent", testBadEvent},
	{"ViewCannotWrite", testViewCannotWrite},
	{"TxAfterItsEnd", testTxAfterItsEnd},
	{"Counters", testCounters},
	{"Log", testLog},
	{"ScanByID", testScanByID},
	{"ScanByDue", testScanByDue},
	{"ScanWhileWriting", testScanWhileWriting},
	{"ScanStops", testScanStops},
	{"Reopen", testReopen},
	{"Closed", testClosed},
	{"CloseWaits", testCloseWaits},
	{"Context", testContext},
}

// Test runs the whole contract. It calls fresh for each test, for a store that is still empty.
// Whatever a test did, its cleanup verifies the audit log from the first entry to the last.
func Test(t *testing.T, fresh func(t testing.TB) Driver) {
	for _, test := range contract {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t, fresh(t))) })
	}
	t.Run("Rerun", func(t *testing.T) {
		for _, test := range contract {
			if test.name != "CloseWaits" { // it counts how often its fn begins
				t.Run(test.name, func(t *testing.T) { test.run(t, open(t, fresh(t).rerun())) })
			}
		}
	})
	t.Run("Model", func(t *testing.T) { testModel(t, fresh) })
}

// subject is an open store with the few moves that most tests make.
type subject struct {
	store.Store
	t      failer
	driver Driver
	log    Log
}

// failer is what a subject needs of a *testing.T or of a *rapid.T.
type failer interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

func open(t testing.TB, d Driver) *subject {
	t.Helper()
	s := &subject{t: t, driver: d}
	s.reopen()
	t.Cleanup(func() {
		_ = s.Close() // a test may have closed it
		s.reopen()
		VerifyLog(t, s.log)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// reopen opens the store after Close.
func (s *subject) reopen() {
	s.t.Helper()
	var err error
	if s.Store, s.log, err = s.driver.Open(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *subject) update(fn func(store.Tx) error) {
	s.t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *subject) put(r store.Record) {
	s.t.Helper()
	s.update(func(tx store.Tx) error { return tx.Put(r) })
}

// get returns a record, or the error of Get.
func (s *subject) get(k store.Key) (r store.Record, err error) {
	s.t.Helper()
	verr := s.View(context.Background(), func(tx store.Tx) error {
		r, err = tx.Get(k)
		return err
	})
	if verr != err {
		s.t.Errorf("View returned %v, and its fn %v", verr, err)
	}
	return r, err
}

func (s *subject) scan(q store.Query) []store.Record {
	s.t.Helper()
	var all []store.Record
	err := s.View(context.Background(), func(tx store.Tx) (err error) {
		all, err = collect(tx.Scan(q))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

func collect(records iter.Seq2[store.Record, error]) ([]store.Record, error) {
	var all []store.Record
	for r, err := range records {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

// differ returns how two values differ, "" if they don't. cmp alone is slow on long Values.
func differ(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}

// grant is a key in the table that most tests use.
func grant(id string) store.Key { return store.Key{Table: store.Grants, ID: id} }

func record(k store.Key, rev uint64, value string) store.Record {
	return store.Record{Key: k, Rev: rev, Value: []byte(value)}
}

// event returns an event that logged tells from others by its id.
func event(id string) audit.Event {
	return audit.Event{Kind: audit.ExchangeGranted, Time: time.Unix(1_800_000_000, 0).UTC(), Grant: cred.GrantID(id)}
}

// logged returns the ids of the events in the log, in order.
func (s *subject) logged() []string {
	s.t.Helper()
	grants, err := verifyLog(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return grants
}

// VerifyLog checks everything that a log holds: that its checkpoint is signed and says the tree hash
// of exactly the entries that it yields, and that each is canonical and in its place. It returns the
// grant of each entry.
func VerifyLog(t testing.TB, log Log) (grants []string) {
	t.Helper()
	grants, err := verifyLog(log)
	if err != nil {
		t.Error(err)
	}
	return grants
}

func verifyLog(log Log) (grants []string, err error) {
	c, err := log.Checkpoint(context.Background())
	if err != nil {
		return nil, err
	}
	if c, err = audit.OpenCheckpoint(c.Note, log.VerifierKey()); err != nil {
		return nil, err
	}
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	for e, err := range log.Entries(context.Background(), 0, c.Size) {
		if err != nil {
			return nil, err
		}
		seq, ev, err := audit.Parse(e.Canonical)
		if n := uint64(len(grants)); err != nil || seq != n || e.Seq != n {
			return nil, fmt.Errorf("entry %d is numbered %d and %d: %w", n, e.Seq, seq, err)
		}
		more, err := tlog.StoredHashes(int64(seq), e.Canonical, reader)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, more...)
		grants = append(grants, string(ev.Grant))
	}
	root, err := tlog.TreeHash(int64(len(grants)), reader)
	if err != nil {
		return nil, err
	}
	if uint64(len(grants)) != c.Size || root != c.Root {
		return nil, fmt.Errorf("the checkpoint says %d entries, root %v; the entries say %d, %v", c.Size, c.Root, len(grants), root)
	}
	if size, err := log.Size(); err != nil || size < c.Size {
		return nil, fmt.Errorf("the log's size is %d (%w), its checkpoint's %d", size, err, c.Size)
	}
	return grants, nil
}
