package boltlog

import (
	"errors"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/audit"
)

// Log is an append-only log with one writer process. It is safe for concurrent use.
type Log struct {
	db    *bbolt.DB
	group group

	// signer is the key in use. It changes with mu held, together with durable.
	signer atomic.Pointer[audit.Signer]

	// tree is the log as the last write transaction left it, committed or not. Owner: whoever holds
	// the write transaction.
	tree tree
	// fault, once set, refuses every further write. Owner: the group's goroutine.
	fault error

	durable atomic.Uint64 // entries that are known to be on disk; only grows

	mu         sync.Mutex
	checkpoint audit.Checkpoint // the last one that was signed; guarded by mu

	// commit is bbolt's Commit but in tests.
	commit func(*bbolt.Tx) error
	// closeFile is what Close ends with: the file's Close where the log owns the file.
	closeFile func() error
}

// Open opens or makes a log in a file of its own. Errors are those of OpenFile and New.
func Open(path string, s *audit.Signer, o Options) (*Log, error) {
	db, err := OpenFile(path, o)
	if err != nil {
		return nil, err
	}
	l, err := New(db, s)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l.closeFile = db.Close
	return l, nil
}

// New opens the log in a file that OpenFile opened, or makes an empty one in it. The file stays the
// caller's: it is closed after the Log.
//
// A log belongs to its signer's origin for ever: New refuses, with an Invalid error, a log of another
// origin and one that a newer version of daypass wrote. It reads the log's last entries and refuses,
// with an Internal error, a log whose end does not hold together. A log that was handed over is signed by
// the key that it was handed over to last: s or the one beside it (audit.Signer.Beside), and it is an
// Invalid error where neither is that key. Signer tells which.
func New(db *bbolt.DB, s *audit.Signer) (*Log, error) {
	l := &Log{
		db:        db,
		commit:    (*bbolt.Tx).Commit,
		closeFile: func() error { return nil },
	}
	err := Guard(db.Path(), func() error {
		if err := l.init(s); err != nil {
			return err
		}
		return db.View(func(tx *bbolt.Tx) error { return l.load(tx, s) })
	})
	if err != nil {
		return nil, err
	}
	if !db.NoSync { // what a killed process left may be in the page cache alone
		if err := db.Sync(); err != nil {
			return nil, openError(db.Path(), err)
		}
	}
	l.durable.Store(l.tree.size)
	l.group.start(l)
	return l, nil
}

// init makes the log where the file has none.
func (l *Log) init(s *audit.Signer) error {
	missing := false
	err := l.db.View(func(tx *bbolt.Tx) error {
		missing = tx.Bucket(bucketHead) == nil
		return nil
	})
	if err != nil || !missing {
		return err
	}
	err = l.db.Update(func(tx *bbolt.Tx) error { return create(tx, s.Origin()) })
	if err != nil {
		return errWrite(err)
	}
	return nil
}

// Close waits for the writers that have asked already, refuses those that come later, and closes the
// file where the log has one of its own.
func (l *Log) Close() error {
	l.group.close()
	return l.closeFile()
}

// Signer returns the key that signs the log's checkpoints now.
func (l *Log) Signer() *audit.Signer { return l.signer.Load() }

// VerifierKey returns the public key with which the log's checkpoints are verified now. A checkpoint names
// its own, which a hand-over may have replaced since.
func (l *Log) VerifierKey() string { return l.Signer().VerifierKey() }

// Size returns the number of entries that are on disk.
func (l *Log) Size() (uint64, error) { return l.durable.Load(), nil }
