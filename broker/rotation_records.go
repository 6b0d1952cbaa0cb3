package broker

import (
	"context"
	"iter"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

func rotationKey(id cred.RotationID) store.Key {
	return store.Key{Table: store.Rotations, ID: string(id)}
}

func getRotation(tx store.Tx, id cred.RotationID) (cred.Rotation, error) {
	r, err := tx.Get(rotationKey(id))
	if err != nil {
		if cred.KindOf(err) == cred.NotFound || cred.KindOf(err) == cred.Invalid {
			err = &cred.Error{Kind: cred.NotFound, Op: "rotation", Reason: "ROTATION_UNKNOWN", Public: "there is no such rotation; 'daypass rotations list' shows them"}
		}
		return cred.Rotation{}, err
	}
	return decodeRotation(r)
}

func decodeRotation(record store.Record) (cred.Rotation, error) {
	r, err := cred.DecodeRotation(record.Value)
	if err != nil {
		return r, cred.Errorf(cred.Internal, "rotation.decode", "", "record %s: %w", record.ID, err)
	}
	r.Rev = record.Rev
	return r, nil
}

// putRotation writes a rotation. One that is not over is always due at some time, which is how those
// are found; one that waits for its approval is due from its beginning.
func putRotation(tx store.Tx, r cred.Rotation) error {
	value, err := r.Encode()
	if err != nil {
		return cred.Errorf(cred.Internal, "rotation.encode", "", "%w", err)
	}
	record := store.Record{Key: rotationKey(r.ID), Rev: r.Rev, Due: r.NextAt, Value: value.Reveal()}
	return tx.Put(record)
}

// openRotations yields the rotations that are not over.
func (b *Broker) openRotations(tx store.Tx) iter.Seq2[cred.Rotation, error] {
	return decoded(tx, store.Query{Table: store.Rotations, DueBy: b.now().AddDate(100, 0, 0)})
}

// pastRotations yields all rotations, newest first.
func pastRotations(tx store.Tx) iter.Seq2[cred.Rotation, error] {
	return decoded(tx, store.Query{Table: store.Rotations, Reverse: true})
}

func decoded(tx store.Tx, q store.Query) iter.Seq2[cred.Rotation, error] {
	return func(yield func(cred.Rotation, error) bool) {
		for record, err := range tx.Scan(q) {
			var r cred.Rotation
			if err == nil {
				r, err = decodeRotation(record)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// openRotationOf returns the rotation of a root that is not over, if there is one.
func (b *Broker) openRotationOf(tx store.Tx, root string) (cred.Rotation, bool, error) {
	for r, err := range b.openRotations(tx) {
		if err != nil || r.Root == root {
			return r, err == nil, err
		}
	}
	return cred.Rotation{}, false, nil
}

func (b *Broker) rotation(ctx context.Context, id cred.RotationID) (r cred.Rotation, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		r, err = getRotation(tx, id)
		return err
	})
	return r, err
}
