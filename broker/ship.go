package broker

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Shipped is one entry of a proxy's own log.
type Shipped struct {
	Seq       uint64
	Canonical []byte
}

// shippable are the kinds that a proxy may write into the broker's log: what it saw, never what only
// the broker decides.
var shippable = []audit.Kind{audit.UseBegin, audit.UseEnd, audit.UseRefused, audit.UseLost, audit.ProxyStarted}

// ShipUses copies consecutive entries of a proxy's log into ours, once each, and returns the next
// sequence number that it wants. Entries that it has are skipped; a gap copies nothing, so that the
// proxy goes back to where the answer says.
func (b *Broker) ShipUses(ctx context.Context, who cred.Principal, log string, entries []Shipped) (uint64, error) {
	if !isLogOf(who, log) {
		return 0, notShippable()
	}
	events, err := readShipped(log, who.Name, entries)
	if err != nil {
		return 0, err
	}
	key := store.Key{Table: store.Cursors, ID: log}
	var next uint64
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		r, err := tx.Get(key)
		if err != nil && cred.KindOf(err) != cred.NotFound {
			return err
		}
		var rev uint64
		next = 0
		if err == nil {
			next, rev = binary.BigEndian.Uint64(r.Value), r.Rev
		}
		before := next
		for i, e := range entries {
			if e.Seq != next {
				continue
			}
			if err := tx.Append(events[i]); err != nil {
				return err
			}
			next++
		}
		if next == before {
			return nil
		}
		return tx.Put(store.Record{Key: key, Rev: rev, Value: binary.BigEndian.AppendUint64(nil, next)})
	})
	if err != nil {
		return 0, notRecorded(err)
	}
	return next, nil
}

// isLogOf reports whether a log is one of a proxy's own: what follows the proxy's name is one part, so
// that the proxy "a" does not write for the proxy "a/b".
func isLogOf(who cred.Principal, log string) bool {
	file, ok := strings.CutPrefix(log, audit.ProxyOrigin(who.Name))
	return ok && who.Kind == cred.KindProxy && who.Name != "" && file != "" && !strings.Contains(file, "/")
}

// readShipped reads entries, refuses what a proxy may not say, and names where each came from.
func readShipped(log, proxy string, entries []Shipped) ([]audit.Event, error) {
	events := make([]audit.Event, len(entries))
	for i, s := range entries {
		seq, e, err := audit.Parse(s.Canonical)
		if err != nil || seq != s.Seq {
			return nil, cred.Errorf(cred.Invalid, "ship", "a shipped entry is not in its canonical form; nothing was taken over", "entry %d: %w", s.Seq, err)
		}
		if !mayShip(e, proxy) {
			return nil, notShippable()
		}
		e.Origin = &audit.Origin{Log: log, Seq: s.Seq}
		events[i] = e
	}
	return events, nil
}

// mayShip reports whether an entry says nothing but what a proxy sees.
func mayShip(e audit.Event, proxy string) bool {
	ours := e.Origin != nil || e.Request != nil || e.Decision != nil || e.Approvals != nil || e.Lease != nil || e.Rotation != nil
	ofProxy := e.Use != nil && e.Use.Proxy == proxy || e.Use == nil && e.Kind == audit.ProxyStarted
	return slices.Contains(shippable, e.Kind) && ofProxy && !ours
}

func notShippable() error {
	return &cred.Error{
		Kind: cred.Denied, Op: "ship", Reason: "NOT_SHIPPABLE",
		Public: "a proxy may ship its own uses alone; nothing was taken over",
	}
}
