package boltlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/daypass-io/daypass/cred"
)

// Options says how a file is opened. The zero Options are the defaults.
type Options struct {
	FileMode    os.FileMode   // of a file that is made; default 0600
	LockTimeout time.Duration // how long to wait for another process that has the file open; default 2 s

	noSync bool // tests alone: commits are not synced
}

// mapSize is how much address space a file is mapped to at first. Growing the map waits for every
// reader, and address space costs nothing, so it is large: about ten million entries.
const mapSize = min(16<<30, int64(^uint(0)>>2))

// OpenFile opens or makes a bbolt file as a log and a store need it. The directory must exist.
//
// Errors are Unavailable where another process has the file open, Invalid where it can't be opened
// or made, Internal where it is damaged.
func OpenFile(path string, o Options) (*bbolt.DB, error) {
	if o.FileMode == 0 {
		o.FileMode = 0o600
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = 2 * time.Second
	}
	var db *bbolt.DB
	err := Guard(path, func() (err error) {
		db, err = bbolt.Open(path, o.FileMode, &bbolt.Options{
			Timeout:         o.LockTimeout,
			FreelistType:    bbolt.FreelistMapType,
			InitialMmapSize: int(mapSize),
			NoStatistics:    true, // they cost a shared lock in each transaction
			NoSync:          o.noSync,
		})
		if err != nil {
			return openError(path, err)
		}
		return checkLength(db, path)
	})
	if err == nil && !o.noSync {
		err = syncDir(path)
	}
	if err != nil && db != nil {
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

// Guard runs what reads a file that may be damaged. bbolt panics on a page that makes no sense, and
// a mapped page behind the end of the file is a fault of memory: both become Internal errors here.
// After a panic within bbolt.Open the file stays locked until the process ends.
func Guard(path string, read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = errDamaged(path, fmt.Errorf("%v", p))
		}
	}()
	return read()
}

// checkLength refuses a file that ends before its last page.
func checkLength(db *bbolt.DB, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return openError(path, err)
	}
	return db.View(func(tx *bbolt.Tx) error {
		if want := tx.Size(); info.Size() < want {
			return errDamaged(path, fmt.Errorf("it has %d bytes, want at least %d", info.Size(), want))
		}
		return nil
	})
}

// syncDir makes a new file's name durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return openError(path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return openError(path, err)
	}
	return nil
}

func openError(path string, cause error) error {
	_, atPath := errors.AsType[*os.PathError](cause)
	_, atCall := errors.AsType[syscall.Errno](cause)
	switch {
	case errors.Is(cause, berrors.ErrTimeout):
		return &cred.Error{
			Kind: cred.Unavailable, Op: "log.open", Reason: reasonLocked, Err: cause,
			Public: fmt.Sprintf("another process has %s open; stop it first, or give this one a file of its own", path),
		}
	case atPath, atCall:
		return &cred.Error{
			Kind: cred.Invalid, Op: "log.open", Reason: "LOG_NOT_OPENED", Err: cause,
			Public: fmt.Sprintf("%s can't be opened; check that its directory exists and that daypass may write there", path),
		}
	}
	return errDamaged(path, cause) // bbolt does not know the file as one of its own
}
