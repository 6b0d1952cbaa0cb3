package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// SealingKey encrypts what a Sealed store writes, with XAES-256-GCM: its nonces of 192 random bits
// never run out, where AES-GCM's 96 last for 2^32 writes. It is a Tink keyset: it encrypts with its
// primary key and decrypts with each that it has. Extend, Use and Drop change the set while it is in
// use. It is safe for concurrent use and prints without its keys.
type SealingKey struct {
	path string // of its file; empty where it has none
	set  atomic.Pointer[keySet]

	// changing is held, shared, by each transaction of a Sealed store that writes, so that once the set
	// has changed nothing is still to be written that was encrypted before.
	changing sync.RWMutex
}

// keySet is one state of a SealingKey. It is immutable.
type keySet struct {
	handle  *keyset.Handle
	aead    tink.AEAD
	primary uint32
	ids     []uint32 // of the keys in the set, in the order in which they came
}

// NewSealingKey makes a key that stands in no file.
func NewSealingKey() (*SealingKey, error) {
	h, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return nil, cred.Errorf(cred.Internal, "store.key", "", "generate: %w", err)
	}
	return sealingKey("", h)
}

func sealingKey(path string, h *keyset.Handle) (*SealingKey, error) {
	s, err := newKeySet(h)
	if err != nil {
		return nil, err
	}
	k := &SealingKey{path: path}
	k.set.Store(s)
	return k, nil
}

func newKeySet(h *keyset.Handle) (*keySet, error) {
	a, err := aead.New(h)
	if err != nil {
		return nil, err
	}
	info := h.KeysetInfo()
	s := &keySet{handle: h, aead: a, primary: info.GetPrimaryKeyId()}
	for _, key := range info.GetKeyInfo() {
		s.ids = append(s.ids, key.GetKeyId())
	}
	return s, nil
}

// encode writes the set as it stands in a file.
func (s *keySet) encode() (cred.Secret, error) {
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(s.handle, keyset.NewJSONWriter(&text)); err != nil {
		return cred.Secret{}, cred.Errorf(cred.Internal, "store.key", "", "encode: %w", err)
	}
	return cred.NewSecret(text.Bytes()), nil
}

// AEAD returns the key itself, for what has to be sealed outside of a store's records. Whoever uses it
// says in the associated data what the record is. It follows the changes of the set.
func (k *SealingKey) AEAD() tink.AEAD { return liveAEAD{k} }

type liveAEAD struct{ key *SealingKey }

func (a liveAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.key.set.Load().aead.Encrypt(plaintext, associatedData)
}

func (a liveAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.key.set.Load().aead.Decrypt(ciphertext, associatedData)
}

// WriteSealingKey makes a key and writes it to a new file of mode 0600, durably. A file that is there
// already is never overwritten: what it sealed would be lost. Errors are Invalid.
func WriteSealingKey(path string) (*SealingKey, error) {
	k, err := NewSealingKey()
	if err != nil {
		return nil, err
	}
	text, err := k.set.Load().encode()
	if err != nil {
		return nil, err
	}
	if err := keyfile.Create(path, text); err != nil {
		return nil, err
	}
	k.path = path
	return k, nil
}

// ReadSealingKey reads a key from a file. It refuses, with an Invalid error, a file that others than
// its owner may read or write, and one that neither root nor this process's user owns.
func ReadSealingKey(path string) (*SealingKey, error) {
	s, err := readKeySet(path)
	if err != nil {
		return nil, err
	}
	k := &SealingKey{path: path}
	k.set.Store(s)
	return k, nil
}

func readKeySet(path string) (*keySet, error) {
	text, err := keyfile.Read(path)
	if err != nil {
		return nil, err
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text.Reveal())))
	if err == nil {
		var s *keySet
		if s, err = newKeySet(h); err == nil {
			return s, nil
		}
	}
	return nil, &cred.Error{
		Kind: cred.Invalid, Op: "store.key", Reason: "SEALING_KEY", Err: err,
		Public: path + " is not a sealing key; restore it from a backup",
	}
}

// Format writes which key seals, under every verb of fmt, and no key.
func (k *SealingKey) Format(f fmt.State, _ rune) {
	if k == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = fmt.Fprintf(f, "store.SealingKey(%s)", KeyName(k.Primary()))
}

// keyPrefix is how many bytes Tink puts before what it encrypts: a byte 1 and the key's ID
// (developers.google.com/tink/wire-format).
const keyPrefix = 5

// sealedBy returns the ID of the key that a Value names as the one that sealed it.
func sealedBy(value []byte) (id uint32, ok bool) {
	if len(value) <= keyPrefix || value[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(value[1:keyPrefix]), true
}

// openError says why a record did not open, as far as can be told.
func (s *keySet) openError(r Record, cause error) error {
	e := &cred.Error{
		Kind: cred.Internal, Op: "store.unseal", Reason: "RECORD_ALTERED",
		Public: fmt.Sprintf("the record %s/%s was changed, moved or rolled back behind daypass's back; "+
			"stop daypass and restore the store from a backup", r.Table, r.ID),
		Err: cause,
	}
	if id, ok := sealedBy(r.Value); ok && !slices.Contains(s.ids, id) {
		e.Reason = "SEALING_KEY_WRONG"
		e.Public = fmt.Sprintf("the record %s/%s was sealed with another key; "+
			"start daypass with the sealing key file that belongs to this store", r.Table, r.ID)
	}
	return e
}
