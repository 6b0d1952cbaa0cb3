package ownkeys

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// OpenLeases returns a count of the leases that some issuers, by name, made before an instant and that
// have not ended: for SealingConfig.Nested, with the issuers that seal what stands in their handles.
func OpenLeases(st store.Store, issuers ...string) func(ctx context.Context, before time.Time) (int, error) {
	return func(ctx context.Context, before time.Time) (int, error) {
		n := 0
		err := st.View(ctx, func(tx store.Tx) error {
			n = 0
			for r, err := range tx.Scan(store.Query{Table: store.Leases}) {
				if err != nil {
					return err
				}
				var l cred.Lease
				if err := json.Unmarshal(r.Value, &l); err != nil {
					return cred.Errorf(cred.Internal, "sealing_key.leases", "", "record %s: %w", r.ID, err)
				}
				if !l.Final() && l.CreatedAt.Before(before) && slices.Contains(issuers, l.Issuer) {
					n++
				}
			}
			return nil
		})
		return n, err
	}
}
