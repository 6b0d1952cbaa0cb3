// Package userstate keeps what the command line remembers for a person between two calls: small
// secrets in the system's keyring, or in files where there is none; larger ones in files that are
// sealed with a key from the same place; and locks between processes.
package userstate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// Dir is a folder of state. It is safe for concurrent use, by several processes too: each write
// replaces a whole file.
type Dir struct {
	path string
	Options
}

// Options say where secrets go. The zero Options use files alone, and tell nobody.
type Options struct {
	Ring   Ring              // nil: there is no keyring
	Notice func(text string) // is told once that secrets go into files; nil: nobody is
}

// DefaultPath returns where state is kept: the variable DAYPASS_HOME, else daypass in the user's
// folder for configuration (os.UserConfigDir).
func DefaultPath() (string, error) {
	if home := os.Getenv("DAYPASS_HOME"); home != "" {
		return filepath.Abs(home)
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fault(err, "there is no folder to keep state in; set DAYPASS_HOME")
	}
	return filepath.Join(base, "daypass"), nil
}

// Open returns the state in a folder, which is made at the first write. One that others may write to
// is refused: they could put their own state there.
func Open(path string, o Options) (*Dir, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fault(err, "the folder %s can't be examined", path)
	case !info.IsDir():
		return nil, fault(nil, "%s is not a folder", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fault(nil, "others may write to the folder %s; run: chmod 700 %s", path, path)
	}
	return &Dir{path, o}, nil
}

// Name returns the name of a piece of state: its kind, and a hash of what it belongs to. Names of one
// kind that share their first words begin alike, see Prefix.
func Name(kind string, first string, more ...string) string {
	return Prefix(kind, first) + digest(more)
}

// Prefix returns what all names of a kind with the same first word begin with.
func Prefix(kind, first string) string { return kind + "-" + digest([]string{first}) + "-" }

// digest is 80 bits: enough for names that nobody profits from colliding.
func digest(words []string) string {
	b, err := json.Marshal(words)
	if err != nil {
		panic("userstate: words failed to encode: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:10])
}

// Names returns the names of sealed state that begin with a prefix.
func (d *Dir) Names(prefix string) ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault(err, "the folder %s can't be read", d.path)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), sealedSuffix); ok && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// read returns a file's content; the error for one that is not there wraps fs.ErrNotExist. A file
// that others may use is refused.
func (d *Dir) read(file string) (cred.Secret, error) {
	return keyfile.Read(filepath.Join(d.path, file))
}

// write replaces a file, mode 0600, as a whole.
func (d *Dir) write(file string, content []byte) (err error) {
	path := filepath.Join(d.path, file)
	defer func() {
		if err != nil {
			err = fault(err, "%s can't be written; check that daypass may write there", path)
		}
	}()
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.path, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// remove deletes a file; one that is not there is deleted already.
func (d *Dir) remove(file string) error {
	err := os.Remove(filepath.Join(d.path, file))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault(err, "%s can't be deleted", filepath.Join(d.path, file))
}

func fault(cause error, format string, args ...any) error {
	return &cred.Error{Kind: cred.Invalid, Op: "userstate", Reason: "LOCAL_STATE", Public: fmt.Sprintf(format, args...), Err: cause}
}
