package store

import (
	"context"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// SealOverhead is the greatest number of bytes by which sealing makes a Value longer.
const SealOverhead = 64

// Sealed returns a Store that keeps its records in inner with their Values encrypted. Each is bound
// to its table, ID and revision: one that was moved to another key, or put beside another revision,
// does not open. Keys, revisions, Due and the audit log stay readable.
//
// The key may change while the store is used: what is written is sealed with the primary key of the
// moment, and Reseal rewrites what older ones sealed.
//
// Reading a record with the wrong key, or one that was changed behind daypass's back, is an Internal
// error that says which of the two it looks like.
func Sealed(inner Store, key *SealingKey) Store { return &sealed{inner, key} }

type sealed struct {
	inner Store
	key   *SealingKey
}

func (s *sealed) View(ctx context.Context, fn func(Tx) error) error {
	set := s.key.set.Load()
	return s.inner.View(ctx, func(tx Tx) error { return fn(&sealedTx{tx, s.key, set}) })
}

func (s *sealed) Update(ctx context.Context, fn func(Tx) error) error {
	// What is sealed in here is on disk before the key changes, see SealingKey.Use.
	s.key.changing.RLock()
	defer s.key.changing.RUnlock()
	set := s.key.set.Load()
	return s.inner.Update(ctx, func(tx Tx) error { return fn(&sealedTx{tx, s.key, set}) })
}

func (s *sealed) Close() error { return s.inner.Close() }

type sealedTx struct {
	inner Tx
	key   *SealingKey
	// begun is the set when the transaction began: what it sees may be sealed with a key that has been
	// dropped since.
	begun *keySet
}

func (t *sealedTx) Get(k Key) (Record, error) {
	r, err := t.inner.Get(k)
	if err != nil {
		return r, err
	}
	return t.open(r)
}

func (t *sealedTx) Put(r Record) error {
	if r.Value == nil {
		return t.inner.Put(r)
	}
	if len(r.Value) > MaxValue {
		return invalid("the record %s/%s has %d bytes and may have %d", r.Table, r.ID, len(r.Value), MaxValue)
	}
	rev := r.Rev
	if rev == 0 { // the key may have been used before
		old, err := t.inner.Get(r.Key)
		if err == nil {
			return Conflict(r.Key, old.Rev, 0)
		}
		if cred.KindOf(err) != cred.NotFound {
			return err
		}
		rev = old.Rev
	}
	value, err := t.key.set.Load().aead.Encrypt(r.Value, place(r.Key, rev+1))
	if err != nil {
		return cred.Errorf(cred.Internal, "store.seal", "", "%s/%s: %w", r.Table, r.ID, err)
	}
	r.Value = value
	return t.inner.Put(r)
}

func (t *sealedTx) Scan(q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for r, err := range t.inner.Scan(q) {
			if err == nil {
				r, err = t.open(r)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func (t *sealedTx) Append(e audit.Event) error { return t.inner.Append(e) }

func (t *sealedTx) open(r Record) (Record, error) {
	set := t.setFor(r)
	value, err := set.aead.Decrypt(r.Value, place(r.Key, r.Rev))
	if err != nil {
		return Record{}, set.openError(r, err)
	}
	r.Value = append([]byte{}, value...) // never nil: an empty Value is a Value
	return r, nil
}

// setFor returns a set with the key that sealed a record: that from when the transaction began, the one
// of now, or the file's, which another process may have changed. Where none has it, it is the one of now.
func (t *sealedTx) setFor(r Record) *keySet {
	now := t.key.set.Load()
	id, ok := sealedBy(r.Value)
	switch {
	case !ok || slices.Contains(now.ids, id):
		return now
	case slices.Contains(t.begun.ids, id):
		return t.begun
	case t.key.path == "":
		return now
	}
	stored, err := readKeySet(t.key.path)
	if err != nil || !slices.Contains(stored.ids, id) {
		return now
	}
	t.key.set.CompareAndSwap(now, stored)
	return stored
}

// place is the associated data of a sealed Value: table, ID and revision, so that no two places have
// the same bytes.
func place(k Key, rev uint64) []byte {
	b := make([]byte, 0, 24+len(k.Table)+len(k.ID))
	for _, part := range []string{string(k.Table), k.ID} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	return binary.BigEndian.AppendUint64(b, rev)
}
