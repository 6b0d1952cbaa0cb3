package keyfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/daypass-io/daypass/cred"
)

// Replace puts a secret into a file in the place of what it held, if anything, atomically and durably:
// whoever reads the file, now or after a crash, gets the whole old content or the whole new one. A new
// file has mode 0600; one that is there keeps its own, and where it is a link what it points to is
// replaced. Errors are Invalid where nothing has changed, and Unavailable where the new content is there
// but may not survive a loss of power.
func Replace(path string, secret cred.Secret) error {
	return replace(path, secret.Reveal(), func(is fs.FileMode) fs.FileMode { return is & 0o600 })
}

// ReplacePublic is Replace for what everybody may read, such as certificates: the file has mode 0644.
func ReplacePublic(path string, content []byte) error {
	return replace(path, content, func(fs.FileMode) fs.FileMode { return 0o644 })
}

func replace(path string, content []byte, mode func(is fs.FileMode) fs.FileMode) error {
	target, is, err := followed(path)
	if err != nil {
		return fault(err, "the file %s can't be examined", path)
	}
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*") // with mode 0600
	if err != nil {
		return fault(err, "no file can be made beside %s; daypass needs to write to its directory to replace it", path)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(mode(is)), f.Sync(), f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return fault(err, "the new content of %s can't be written beside it", path)
	}
	if err := os.Rename(f.Name(), target); err != nil {
		_ = os.Remove(f.Name())
		return fault(err, "%s can't be replaced", path)
	}
	return confirmed(path, SyncDir(target))
}

// followed returns what a path leads to, with its mode; where there is nothing yet, the path itself with
// that of a new secret.
func followed(path string) (target string, mode fs.FileMode, err error) {
	target, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, 0o600, nil
	}
	if err != nil {
		return path, 0, err
	}
	info, err := os.Stat(target)
	if err != nil {
		return target, 0, err
	}
	return target, info.Mode().Perm(), nil
}

func confirmed(path string, err error) error {
	if err == nil {
		return nil
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "keyfile", Reason: "KEY_FILE_SYNC", Err: err,
		Public: "the file " + path + " was replaced, but its disk did not confirm it; check the disk",
	}
}

// MayReplace tells why Replace would fail for a file that is there: nil where it can make files beside
// it. It changes nothing. Errors are Invalid.
func MayReplace(path string) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fault(err, "the key file %s can't be found", path)
	}
	const writeAndSearch = 2 | 1 // W_OK | X_OK, access(2)
	if err := syscall.Access(filepath.Dir(target), writeAndSearch); err != nil {
		return fault(err, "daypass may not write to the directory of the key file %s, and so can't replace it", path)
	}
	return nil
}
