package keyfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/daypass-io/daypass/cred"
)

// Exchange writes a secret over the file of one that Read takes, atomically and durably: whoever reads
// the file, now or after a crash, gets the whole old content or the whole new one. The file must exist;
// its mode stays, and a link stays and what it points to is replaced. Errors are Invalid where nothing
// has changed, and Unavailable where the new content is there but may not survive a loss of power.
func Exchange(path string, secret cred.Secret) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fault(err, "the key file %s can't be found", path)
	}
	info, err := os.Stat(target)
	if err != nil {
		return fault(err, "the key file %s can't be examined", path)
	}
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*") // with mode 0600
	if err != nil {
		return fault(err, "no file can be made beside the key file %s; daypass needs to write to its directory to replace it", path)
	}
	_, err = f.Write(secret.Reveal())
	if err := errors.Join(err, f.Chmod(info.Mode().Perm()&0o600), f.Sync(), f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return fault(err, "the new content of the key file %s can't be written beside it", path)
	}
	if err := os.Rename(f.Name(), target); err != nil {
		_ = os.Remove(f.Name())
		return fault(err, "the key file %s can't be replaced", path)
	}
	if err := syncDir(target); err != nil {
		return &cred.Error{
			Kind: cred.Unavailable, Op: "keyfile", Reason: "KEY_FILE_SYNC", Err: err,
			Public: "the key file " + path + " was replaced, but its disk did not confirm it; check the disk",
		}
	}
	return nil
}

// MayExchange tells why Exchange would fail: nil where it can make files beside the key's. It changes
// nothing. Errors are Invalid.
func MayExchange(path string) error {
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
