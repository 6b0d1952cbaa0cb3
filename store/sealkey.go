package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

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

// AEAD returns the key itself, for what has to be sealed outside of a store's records. Whoever uses it
// says in the associated data what the record is.
func (k *SealingKey) AEAD() tink.AEAD { return k.aead }

// WriteSealingKey makes a key and writes it to a new file of mode 0600, durably. A file that is there
// already is never overwritten: what it sealed would be lost. Errors are Invalid.
func WriteSealingKey(path string) (*SealingKey, error) {
	k, err := NewSealingKey()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(k.handle, keyset.NewJSONWriter(&text)); err != nil {
		return nil, cred.Errorf(cred.Internal, "store.key", "", "encode: %w", err)
	}
	if err := keyfile.Create(path, cred.NewSecret(text.Bytes())); err != nil {
		return nil, err
	}
	return k, nil
}

// ReadSealingKey reads a key from a file. It refuses, with an Invalid error, a file that others than
// its owner may read or write, and one that neither root nor this process's user owns.
func ReadSealingKey(path string) (*SealingKey, error) {
	text, err := keyfile.Read(path)
	if err != nil {
		return nil, err
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text.Reveal())))
	if err == nil {
		var k *SealingKey
		if k, err = sealingKey(h); err == nil {
			return k, nil
		}
	}
	return nil, &cred.Error{
		Kind: cred.Invalid, Op: "store.key", Reason: "SEALING_KEY", Err: err,
		Public: path + " is not a sealing key; restore it from a backup",
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
