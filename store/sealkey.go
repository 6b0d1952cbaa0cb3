package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/daypass-io/daypass/cred"
)

// maxKeyFile bounds a sealing key's file, in bytes.
const maxKeyFile = 1 << 20

// SealingKey encrypts what a Sealed store writes, with XAES-256-GCM: its nonces of 192 random bits
// never run out, where AES-GCM's 96 last for 2^32 writes. It is a Tink keyset: it encrypts with its
// primary key and decrypts with each that it has. It is immutable and safe for concurrent use.
type SealingKey struct {
	handle *keyset.Handle
	aead   tink.AEAD
	ids    []uint32 // of the keys in the set
}

// NewSealingKey makes a key that stands in no file.
func NewSealingKey() (*SealingKey, error) {
	h, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return nil, cred.Errorf(cred.Internal, "store.key", "", "generate: %w", err)
	}
	return sealingKey(h)
}

func sealingKey(h *keyset.Handle) (*SealingKey, error) {
	a, err := aead.New(h)
	if err != nil {
		return nil, err
	}
	k := &SealingKey{handle: h, aead: a}
	for _, info := range h.KeysetInfo().GetKeyInfo() {
		k.ids = append(k.ids, info.GetKeyId())
	}
	return k, nil
}

// WriteSealingKey makes a key and writes it to a new file of mode 0600, durably. A file that is there
// already is never overwritten: what it sealed would be lost. Errors are Invalid.
func WriteSealingKey(path string) (*SealingKey, error) {
	k, err := NewSealingKey()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, keyFileError(err, "%s exists already and is left alone, since losing a sealing key loses what it sealed; "+
			"use it, or choose another name", path)
	}
	if err != nil {
		return nil, keyFileError(err, "%s can't be made; check that its directory exists and that daypass may write there", path)
	}
	err = errors.Join(insecurecleartextkeyset.Write(k.handle, keyset.NewJSONWriter(f)), f.Sync(), f.Close(), syncDir(path))
	if err != nil {
		return nil, keyFileError(err, "the sealing key could not be written to %s; remove the file and try again", path)
	}
	return k, nil
}

// ReadSealingKey reads a key from a file. It refuses, with an Invalid error, a file that others than
// its owner may read or write, and one that neither root nor this process's user owns.
func ReadSealingKey(path string) (*SealingKey, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe in its place must not hang us
	if err != nil {
		return nil, keyFileError(err, "the sealing key %s can't be opened; check that it exists and that daypass may read it", path)
	}
	defer func() { _ = f.Close() }()
	if err := checkKeyFile(f, path); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, keyFileError(err, "the sealing key %s can't be read", path)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err == nil {
		var k *SealingKey
		if k, err = sealingKey(h); err == nil {
			return k, nil
		}
	}
	return nil, keyFileError(err, "%s is not a sealing key; restore it from a backup", path)
}

// checkKeyFile looks at the opened file, which can't be exchanged any more.
func checkKeyFile(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return keyFileError(err, "the sealing key %s can't be examined", path)
	}
	if !info.Mode().IsRegular() {
		return keyFileError(nil, "the sealing key %s is not a regular file", path)
	}
	if wide := info.Mode().Perm() &^ 0o600; wide != 0 {
		return keyFileError(nil, "the sealing key %s has mode %04o and others may use it; run: chmod 600 %s",
			path, info.Mode().Perm(), path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !ownerAllowed(stat.Uid, os.Geteuid()) {
		return keyFileError(nil, "the sealing key %s belongs neither to root nor to the user that daypass runs as; "+
			"chown it to that user and run: chmod 600 %s", path, path)
	}
	return nil
}

func ownerAllowed(owner uint32, self int) bool { return owner == 0 || int(owner) == self }

func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func keyFileError(cause error, format string, args ...any) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "store.key", Reason: "SEALING_KEY", Public: fmt.Sprintf(format, args...), Err: cause,
	}
}

// openError says why a record did not open, as far as can be told: Tink puts a byte 1 and the key's
// ID before what it encrypts (developers.google.com/tink/wire-format).
func (k *SealingKey) openError(r Record, cause error) error {
	e := &cred.Error{
		Kind: cred.Internal, Op: "store.unseal", Reason: "RECORD_ALTERED",
		Public: fmt.Sprintf("the record %s/%s was changed, moved or rolled back behind daypass's back; "+
			"stop daypass and restore the store from a backup", r.Table, r.ID),
		Err: cause,
	}
	const prefix = 5
	if len(r.Value) > prefix && r.Value[0] == 1 && !slices.Contains(k.ids, binary.BigEndian.Uint32(r.Value[1:prefix])) {
		e.Reason = "SEALING_KEY_WRONG"
		e.Public = fmt.Sprintf("the record %s/%s was sealed with another key; "+
			"start daypass with the sealing key file that belongs to this store", r.Table, r.ID)
	}
	return e
}
