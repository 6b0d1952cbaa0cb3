package broker

import (
	"context"
	"maps"
	"slices"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// LeaseFilter selects leases.
type LeaseFilter struct {
	State  cred.LeaseState // empty: every one that has not ended
	Issuer string          // empty: any
	After  string          // where the page before ended
	Limit  int             // at most so many; zero means 100, and more than 1000 means 1000
}

// ListLeases returns leases, those of the newest grants first. For the roles "security" and "auditor".
// The second result is the After of the next page, empty at the end.
func (b *Broker) ListLeases(ctx context.Context, who cred.Principal, f LeaseFilter) ([]cred.Lease, string, error) {
	if err := b.MayRead(ctx, who, "lease.list"); err != nil {
		return nil, "", err
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, 1000)
	var out []cred.Lease
	var more string
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out, more = out[:0], ""
		for r, err := range tx.Scan(store.Query{Table: store.Leases, After: f.After, Reverse: true}) {
			if err != nil {
				return err
			}
			l, err := decodeLease(r)
			switch {
			case err != nil:
				return err
			case f.Issuer != "" && f.Issuer != l.Issuer,
				f.State == "" && l.Final(),
				f.State != "" && f.State != l.State():
				continue
			case len(out) == f.Limit:
				more = leaseKey(out[len(out)-1]).ID
				return nil
			}
			out = append(out, l)
		}
		return nil
	})
	return out, more, err
}

// ListSources returns what the last comparison of our leases with each source that can list its
// credentials found, by the issuers' names. For the roles "security" and "auditor".
func (b *Broker) ListSources(ctx context.Context, who cred.Principal) ([]Report, error) {
	if err := b.MayRead(ctx, who, "source.list"); err != nil {
		return nil, err
	}
	var out []Report
	for _, name := range slices.Sorted(maps.Keys(b.cfg.Issuers)) {
		if _, lists := b.cfg.Issuers[name].(issuer.Lister); lists {
			out = append(out, b.compared.of(name))
		}
	}
	return out, nil
}
