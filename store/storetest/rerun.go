package storetest

import (
	"context"
	"errors"

	"github.com/daypass-io/daypass/store"
)

// Rerun returns a store that makes use of a driver's right to run fn more than once: each Update runs
// its fn, throws away what it did, and runs it again for good. An fn that keeps anything from its
// first run shows it here.
func Rerun(inner store.Store) store.Store { return rerun{inner} }

type rerun struct{ store.Store }

var errAgain = errors.New("run again")

func (s rerun) Update(ctx context.Context, fn func(store.Tx) error) error {
	var first error
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		first = fn(tx)
		return errAgain
	})
	switch {
	case !errors.Is(err, errAgain):
		return err // the driver's, or an event's that could not be logged
	case first != nil:
		return first
	}
	return s.Store.Update(context.WithoutCancel(ctx), fn)
}
