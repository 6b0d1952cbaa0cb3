package store

import (
	"context"
	"math"

	"github.com/daypass-io/daypass/cred"
)

// A page of Reseal ends after either, so that no transaction is long.
const (
	resealRecords = 64
	resealBytes   = 1 << 20
)

// notSealed is what Reseal and SealedByOthers return for a store that is no Sealed one, as an Invalid
// error.
func notSealed() error {
	return &cred.Error{Kind: cred.Invalid, Op: "store.reseal", Public: "the store is not a sealed one"}
}

// Reseal seals anew, with the primary key, every record that another key of the set sealed. What a
// record says stays as it is, and so does its Due; its Rev counts the write. It goes in short
// transactions and reads each record again in the one that writes it, so a write at the same time is
// never lost. It calls progress, unless that is nil, with the number of records so far. Where it is
// ended early it may begin again.
//
// The store must be a Sealed one. Errors are those of the store.
func Reseal(ctx context.Context, st Store, progress func(done int)) (done int, err error) {
	s, ok := st.(*sealed)
	if !ok {
		return 0, notSealed()
	}
	err = s.others(ctx, func(page []Key) error {
		n, err := s.reseal(ctx, page)
		if done += n; err == nil && progress != nil {
			progress(done)
		}
		return err
	})
	return done, err
}

// SealedByOthers counts the records that another key than the primary one sealed. The store must be a
// Sealed one.
func SealedByOthers(ctx context.Context, st Store) (n int, err error) {
	s, ok := st.(*sealed)
	if !ok {
		return 0, notSealed()
	}
	err = s.others(ctx, func(page []Key) error {
		n += len(page)
		return nil
	})
	return n, err
}

// others calls each, between transactions, with some of the records that another key sealed, until
// all were told.
func (s *sealed) others(ctx context.Context, each func([]Key) error) error {
	for _, table := range Tables {
		for after, more := "", true; more; {
			var page []Key
			err := s.inner.View(ctx, func(tx Tx) (err error) {
				page, after, more, err = s.page(tx, Query{Table: table, After: after})
				return err
			})
			if err != nil {
				return err
			}
			if len(page) > 0 {
				if err := each(page); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// page returns the next records of a table that another key sealed, where to go on, and whether there
// may be more.
func (s *sealed) page(tx Tx, q Query) (page []Key, after string, more bool, err error) {
	const look = 4096 // records that are looked at in one transaction
	primary, bytes, seen := s.key.Primary(), 0, 0
	after = q.After
	for r, err := range tx.Scan(q) {
		if err != nil {
			return nil, "", false, err
		}
		if len(page) == resealRecords || bytes >= resealBytes || seen == look {
			return page, after, true, nil
		}
		after, seen = r.ID, seen+1
		if id, ok := sealedBy(r.Value); !ok || id != primary {
			page = append(page, r.Key)
			bytes += len(r.Value)
		}
	}
	return page, after, false, nil
}

// reseal seals some records anew, where that is still needed.
func (s *sealed) reseal(ctx context.Context, page []Key) (done int, err error) {
	err = s.Update(ctx, func(tx Tx) error {
		done = 0
		t := tx.(*sealedTx)
		for _, k := range page {
			switch rewritten, err := t.reseal(k); {
			case err != nil:
				return err
			case rewritten:
				done++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return done, nil
}

// reseal seals one record anew, unless it is gone or was written meanwhile.
func (t *sealedTx) reseal(k Key) (bool, error) {
	raw, err := t.inner.Get(k)
	if cred.KindOf(err) == cred.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if id, ok := sealedBy(raw.Value); ok && id == t.key.Primary() || raw.Rev == math.MaxUint64 {
		return false, nil
	}
	r, err := t.open(raw)
	if err != nil {
		return false, err
	}
	return true, t.Put(r)
}
