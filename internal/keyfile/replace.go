package keyfile

import (
	"crypto/rand"
	"errors"
	"os"

	"github.com/daypass-io/daypass/cred"
)

// Replace puts a secret into a file of mode 0600 in the place of what it held, if anything. Whoever
// reads the file, also after a crash, finds the old secret or the new one, whole. The error is Invalid;
// it may come when the new one is there already, and is only not durable yet.
func Replace(path string, secret cred.Secret) error {
	next := path + ".next-" + rand.Text()
	if err := Create(next, secret); err != nil {
		return errors.Join(err, ignoreAbsent(os.Remove(next)))
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(fault(err, "%s can't be replaced; check that daypass may write to its directory", path), os.Remove(next))
	}
	if err := syncDir(path); err != nil {
		return fault(err, "%s was replaced, but the disk did not confirm it", path)
	}
	return nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
