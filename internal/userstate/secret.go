package userstate

import (
	"errors"
	"io/fs"
	"os"

	"github.com/daypass-io/daypass/cred"
)

// secretSuffix ends the names of files that stand in for the keyring.
const secretSuffix = ".secret"

// KeepSecret keeps a small secret: in the keyring, else in a file of mode 0600.
func (d *Dir) KeepSecret(name string, s cred.Secret) error {
	if d.Ring != nil && d.Ring.Set(d.account(name), s.RevealString()) == nil {
		return d.remove(name + secretSuffix)
	}
	d.tell()
	return d.write(name+secretSuffix, s.Reveal())
}

// Secret returns a secret that was kept; the error for one that was not wraps fs.ErrNotExist. A file
// goes before the keyring, since a write to the keyring deletes it: where there is one, it is newer.
func (d *Dir) Secret(name string) (cred.Secret, error) {
	s, err := d.read(name + secretSuffix)
	if d.Ring == nil || !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	value, err := d.Ring.Get(d.account(name))
	switch {
	case errors.Is(err, ErrNotInRing):
		return cred.Secret{}, fault(fs.ErrNotExist, "%s is not there", name)
	case err != nil:
		return cred.Secret{}, &cred.Error{
			Kind: cred.Unavailable, Op: "userstate", Reason: "KEYRING_SILENT",
			Public: "the system's keyring does not answer; unlock it, or set DAYPASS_KEYRING=off and sign in again to do without it", Err: err,
		}
	}
	return cred.SecretString(value), nil
}

// DropSecret forgets a secret. One that is not there is forgotten already; a keyring that does not
// answer can't forget, and is an error.
func (d *Dir) DropSecret(name string) error {
	err := d.remove(name + secretSuffix)
	if d.Ring == nil {
		return err
	}
	if ringErr := d.Ring.Delete(d.account(name)); ringErr != nil && !errors.Is(ringErr, ErrNotInRing) && !errors.Is(ringErr, ErrNoRing) {
		err = errors.Join(err, fault(ringErr, "the system's keyring did not delete %q", d.account(name)))
	}
	return err
}

// account is the secret's name in the keyring, which all folders of state share.
func (d *Dir) account(name string) string { return name + " in " + d.path }

// tell says that secrets go into files, unless there is such a file already.
func (d *Dir) tell() {
	if d.Notice == nil || d.hasSecretFile() {
		return
	}
	d.Notice("there is no keyring here that works, so the sign-in is kept in files that you alone may read, in " + d.path)
}

func (d *Dir) hasSecretFile() bool {
	matches, err := fs.Glob(os.DirFS(d.path), "*"+secretSuffix)
	return err == nil && len(matches) > 0
}
