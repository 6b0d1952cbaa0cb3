package bolt

import (
	"context"
	"errors"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Options says how a file is opened. The zero Options are the defaults.
type Options struct {
	FileMode    os.FileMode   // of a file that is made; default 0600
	LockTimeout time.Duration // how long to wait for another process that has the file open; default 2 s

	noSync bool // tests alone: commits are not synced
}

// Store is a store.Store in a bbolt file, with the audit log in the same file.
type Store struct {
	db  *bbolt.DB
	log *boltlog.Log
}

var _ store.Store = (*Store)(nil)

// Open opens or makes a store, whose log has the origin of a signer. The directory must exist.
//
// Errors are Unavailable where another process has the file open; Invalid where the file can't be
// opened, was written by a newer daypass, or holds the log of another origin; Internal where it is
// damaged.
func Open(path string, s *audit.Signer, o Options) (*Store, error) {
	db, err := boltlog.OpenFile(path, boltlog.Options{FileMode: o.FileMode, LockTimeout: o.LockTimeout})
	if err != nil {
		return nil, err
	}
	db.NoSync = o.noSync
	log, err := boltlog.New(db, s)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := boltlog.Guard(path, func() error { return open(db) }); err != nil {
		return nil, errors.Join(openError(err), log.Close(), db.Close())
	}
	return &Store{db, log}, nil
}

// open checks the schema and makes what the file lacks.
func open(db *bbolt.DB) error {
	missing := false
	err := db.View(func(tx *bbolt.Tx) (err error) {
		missing, err = check(tx, db.Path())
		return err
	})
	if err != nil || !missing {
		return err
	}
	return db.Update(prepare)
}

// openError makes an error of ours of what bbolt returns.
func openError(err error) error {
	if _, ours := errors.AsType[*cred.Error](err); ours {
		return err
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "store.open", Reason: "STORE_WRITE_FAILED", Err: err,
		Public: "the store can't be written to; make space on its disk and start daypass again",
	}
}

// Log returns the audit log. It must not be closed: Close does that.
func (s *Store) Log() *boltlog.Log { return s.log }

// View runs fn on the state that the last commit left.
func (s *Store) View(ctx context.Context, fn func(store.Tx) error) error {
	if ctx.Err() != nil {
		return &cred.Error{
			Kind: cred.Unavailable, Op: "store.view", Reason: "STORE_DEADLINE",
			Public: "the request ended before the store could begin with it; try again", Err: context.Cause(ctx),
		}
	}
	btx, err := s.db.Begin(false)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return &cred.Error{
			Kind: cred.Unavailable, Op: "store.view", Reason: "STORE_CLOSED",
			Public: "daypass is stopping and takes no more work; try again in a moment",
		}
	}
	if err != nil {
		return damaged("begin: %w", err)
	}
	defer func() { _ = btx.Rollback() }()
	t := &tx{file: btx}
	defer func() { t.over = true }()
	return fn(t)
}

// Update runs fn in the next group commit, see boltlog.Log.Update.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.log.Update(ctx, func(w *boltlog.Tx) error {
		t := &tx{file: w, write: w}
		defer func() { t.over = true }()
		return fn(t)
	})
}

// Close waits for the transactions that run, and for the Updates that wait, and closes the file.
func (s *Store) Close() error { return errors.Join(s.log.Close(), s.db.Close()) }
