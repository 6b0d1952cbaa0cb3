// Package keyfile reads, makes and replaces files that hold a secret: mode 0600, owned by root or by the user
// that the process runs as. A file that others may use is refused, with the command that mends it.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/daypass-io/daypass/cred"
)

// maxBytes bounds what is read: keys are small.
const maxBytes = 1 << 20

// Create writes a secret into a new file of mode 0600 and syncs it. A file that exists is left alone,
// with an error that wraps os.ErrExist: losing a key loses what it protects.
func Create(path string, secret cred.Secret) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fault(err, "%s exists already and is left alone, since losing a key loses what it protects; use it, or choose another name", path)
	}
	if err != nil {
		return fault(err, "%s can't be made; check that its directory exists and that daypass may write there", path)
	}
	_, err = f.Write(secret.Reveal())
	if err := errors.Join(err, f.Sync(), f.Close(), SyncDir(path)); err != nil {
		return fault(err, "the key could not be written to %s; remove the file and try again", path)
	}
	return nil
}

// Read returns the content of a file that holds a secret. Errors are of kind Invalid and say which
// file, what is wrong and what to do; one for a file that does not exist wraps os.ErrNotExist.
func Read(path string) (cred.Secret, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe in its place must not hang us
	if err != nil {
		return cred.Secret{}, fault(err, "the key file %s can't be opened; check that it exists and that daypass may read it", path)
	}
	defer func() { _ = f.Close() }()
	if err := check(f, path); err != nil {
		return cred.Secret{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return cred.Secret{}, fault(err, "the key file %s can't be read", path)
	}
	if len(b) == 0 || len(b) > maxBytes {
		return cred.Secret{}, fault(nil, "the key file %s is empty, or larger than a key can be", path)
	}
	return cred.NewSecret(b), nil
}

// check looks at the opened file, which can't be exchanged any more.
func check(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return fault(err, "the key file %s can't be examined", path)
	}
	if !info.Mode().IsRegular() {
		return fault(nil, "the key file %s is not a regular file", path)
	}
	if wide := info.Mode().Perm() &^ 0o600; wide != 0 {
		return fault(nil, "the key file %s has mode %04o and others may use it; run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !ownerAllowed(stat.Uid, os.Geteuid()) {
		return fault(nil, "the key file %s belongs neither to root nor to the user that daypass runs as; chown it to that user and run: chmod 600 %s", path, path)
	}
	return nil
}

func ownerAllowed(owner uint32, self int) bool { return owner == 0 || int(owner) == self }

// SyncDir makes durable what became of the names in the directory of a file: new ones, replaced ones,
// and those that are gone.
func SyncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func fault(cause error, format string, args ...any) error {
	return &cred.Error{Kind: cred.Invalid, Op: "keyfile", Reason: "KEY_FILE", Public: fmt.Sprintf(format, args...), Err: cause}
}
