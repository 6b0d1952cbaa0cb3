package store

import (
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// KeyName is how people know a key of a SealingKey.
func KeyName(id uint32) string { return fmt.Sprintf("%08x", id) }

// Primary returns the ID of the key that seals.
func (k *SealingKey) Primary() uint32 { return k.set.Load().primary }

// IDs returns the IDs of all keys of the set, in the order in which they were added.
func (k *SealingKey) IDs() []uint32 { return slices.Clone(k.set.Load().ids) }

// Replaceable tells why the key's file can't be changed: nil where it can, or where there is none.
func (k *SealingKey) Replaceable() error {
	if k.path == "" {
		return nil
	}
	return keyfile.MayReplace(k.path)
}

// Reload reads the key's file, which another process may have changed. A key without a file stays as it
// is.
func (k *SealingKey) Reload() error {
	k.changing.Lock()
	defer k.changing.Unlock()
	_, err := k.read()
	return err
}

// read sets what the file holds, and returns it. It needs k.changing.
func (k *SealingKey) read() (*keySet, error) {
	if k.path == "" {
		return k.set.Load(), nil
	}
	s, err := readKeySet(k.path)
	if err != nil {
		return nil, err
	}
	k.set.Store(s)
	return s, nil
}

// Extend adds a fresh key, which only opens so far, and returns its ID. A key that came after the primary
// one was added before and has not been used yet: that one is returned.
//
// Like Use and Drop it changes the file first, atomically, and then what this process works with. Errors
// are Invalid where nothing has changed, and Unavailable where that is not known.
func (k *SealingKey) Extend() (id uint32, err error) {
	err = k.change(func(m *keyset.Manager, s *keySet) (bool, error) {
		if id = s.ids[len(s.ids)-1]; id != s.primary {
			return false, nil
		}
		id, err = m.Add(aead.XAES256GCM192BitNonceKeyTemplate())
		return true, err
	})
	return id, err
}

// Use makes a key of the set the one that seals. Where it returns, every transaction that sealed with
// another key in this process is over.
func (k *SealingKey) Use(id uint32) error {
	return k.change(func(m *keyset.Manager, s *keySet) (bool, error) {
		if !slices.Contains(s.ids, id) {
			return false, noKey(id)
		}
		return s.primary != id, m.SetPrimary(id)
	})
}

// Drop removes keys from the set. What they sealed can't be opened any more. The primary one can't be
// removed; one that is not there is removed already.
func (k *SealingKey) Drop(ids ...uint32) error {
	return k.change(func(m *keyset.Manager, s *keySet) (changed bool, err error) {
		for _, id := range ids {
			if id == s.primary {
				return false, cred.Errorf(cred.Invalid, "store.key", "the key that seals can't be removed", "key %s", KeyName(id))
			}
			if !slices.Contains(s.ids, id) {
				continue
			}
			changed = true
			if err := m.Delete(id); err != nil {
				return false, err
			}
		}
		return changed, nil
	})
}

// change lets one change what the file holds.
func (k *SealingKey) change(one func(*keyset.Manager, *keySet) (bool, error)) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	old, err := k.read()
	if err != nil {
		return err
	}
	m := keyset.NewManagerFromHandle(old.handle)
	changed, err := one(m, old)
	if err != nil || !changed {
		return keyChangeError(err)
	}
	h, err := m.Handle()
	if err != nil {
		return keyChangeError(err)
	}
	next, err := newKeySet(h)
	if err != nil {
		return keyChangeError(err)
	}
	if k.path != "" {
		text, err := next.encode()
		if err != nil {
			return err
		}
		if err := keyfile.Replace(k.path, text); err != nil {
			_, _ = k.read() // it may have been replaced all the same
			return err
		}
	}
	k.set.Store(next)
	return nil
}

func keyChangeError(err error) error {
	if err == nil || cred.KindOf(err) != cred.Internal {
		return err
	}
	return cred.Errorf(cred.Internal, "store.key", "", "change: %w", err)
}

func noKey(id uint32) error {
	return &cred.Error{Kind: cred.Invalid, Op: "store.key", Reason: "SEALING_KEY_UNKNOWN", Public: "the sealing key file has no key " + KeyName(id)}
}
