package store

import (
	"context"
	"encoding/binary"
	"iter"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// SealOverhead is the greatest number of bytes by which sealing makes a Value longer.
const SealOverhead = 64

// Sealed returns a Store that keeps its records in inner with their Values encrypted. Each is bound
// to its table, ID and revision: one that was moved to another key, or put beside another revision,
// does not open. Keys, revisions, Due and the audit log stay readable.
//
// Reading a record with the wrong key, or one that was changed behind daypass's back, is an Internal
// error that says which of the two it looks like.
func Sealed(inner Store, key *SealingKey) Store { return &sealed{inner, key} }

type sealed struct {
	inner Store
	key   *SealingKey
}

func (s *sealed) View(ctx context.Context, fn func(Tx) error) error {
	return s.inner.View(ctx, func(tx Tx) error { return fn(&sealedTx{tx, s.key}) })
}

func (s *sealed) Update(ctx context.Context, fn func(Tx) error) error {
	return s.inner.Update(ctx, func(tx Tx) error { return fn(&sealedTx{tx, s.key}) })
}

func (s *sealed) Close() error { return s.inner.Close() }

type sealedTx struct {
	inner Tx
	key   *SealingKey
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
	value, err := t.key.aead.Encrypt(r.Value, place(r.Key, rev+1))
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
	value, err := t.key.aead.Decrypt(r.Value, place(r.Key, r.Rev))
	if err != nil {
		return Record{}, t.key.openError(r, err)
	}
	r.Value = append([]byte{}, value...) // never nil: an empty Value is a Value
	return r, nil
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
