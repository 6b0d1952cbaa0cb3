package userstate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 25 * time.Millisecond

// Lock waits until no other holder, in this process or another, has the lock of a name, and takes it
// (flock(2)). The system frees the lock of a process that dies.
func (d *Dir) Lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, fault(err, "the folder %s can't be made", d.path)
	}
	path := filepath.Join(d.path, name+".lock")
	for {
		f, err := tryLock(path)
		if err != nil {
			return nil, fault(err, "the lock %s can't be taken", path)
		}
		if f != nil {
			return func() { _ = os.Remove(path); f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			return nil, &cred.Error{Kind: cred.Unavailable, Op: "userstate", Reason: "LOCKED", Public: "another daypass is at work with the same sign-in and did not end in time; try again", Err: ctx.Err()}
		case <-time.After(lockPoll):
		}
	}
}

// tryLock returns the locked file, or nil while somebody else has it. A holder deletes the file before
// it lets go, so whoever then gets the lock of the deleted file has nothing.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && isAt(f, path) {
		return f, nil
	}
	f.Close()
	if err == nil || errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil, nil //nolint:nilnil // no file means that it is not our turn
	}
	return nil, err
}

func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}
