package oauth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/failpoint"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// Keeper holds the broker's refresh token. Save returns once it would survive a crash of the machine,
// and a crash in the midst of it leaves the old one or the new one, whole.
type Keeper interface {
	Load(ctx context.Context) (cred.Secret, error)
	Save(ctx context.Context, s cred.Secret) error
}

// Locker is a Keeper that several processes can reach. The lock is held from Load to Save.
type Locker interface {
	Lock(ctx context.Context) (unlock func(), err error)
}

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 25 * time.Millisecond

// FileKeeper keeps a refresh token in a file of mode 0600. It is a Keeper and a Locker. The folder must
// let the broker make files: a save writes a new file beside it, syncs it and renames it.
type FileKeeper struct{ path string }

// NewFileKeeper returns the keeper of a file. It reads nothing yet.
func NewFileKeeper(path string) *FileKeeper { return &FileKeeper{path} }

// Load reads the file. One line break at its end does not count.
func (k *FileKeeper) Load(context.Context) (cred.Secret, error) {
	content, err := keyfile.Read(k.path)
	if err != nil {
		return cred.Secret{}, err
	}
	return cred.SecretString(strings.TrimSuffix(strings.TrimSuffix(content.RevealString(), "\n"), "\r")), nil
}

// Save replaces the file as a whole.
func (k *FileKeeper) Save(_ context.Context, s cred.Secret) error {
	next := k.path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) { // of a save that a crash cut short
		return fmt.Errorf("oauth: keep: %w", err)
	}
	if err := writeSynced(next, s); err != nil {
		return fmt.Errorf("oauth: keep: %w", err)
	}
	failpoint.Hit("oauth.before-rename")
	if err := os.Rename(next, k.path); err != nil {
		return fmt.Errorf("oauth: keep: %w", errors.Join(err, os.Remove(next)))
	}
	failpoint.Hit("oauth.after-rename")
	dir, err := os.Open(filepath.Dir(k.path))
	if err != nil {
		return fmt.Errorf("oauth: keep: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("oauth: keep: %w", err)
	}
	return nil
}

func writeSynced(path string, s cred.Secret) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	failpoint.Hit("oauth.before-write")
	_, err = f.Write(append(s.Reveal()[:len(s.Reveal()):len(s.Reveal())], '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

// Lock waits until no other process uses the file's token, and takes the lock (flock(2)) of a file
// beside it. The system frees the lock of a process that dies.
func (k *FileKeeper) Lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(k.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("oauth: lock: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("oauth: lock: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("oauth: lock: another process has it: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}
