package broker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Bounds of what is told of the strays of a source.
const (
	maxStrayNames = 20     // named in an entry and in a report
	maxStrayName  = 256    // bytes of a name
	maxToldStrays = 50_000 // remembered, so that each is told once; a record holds no more
)

// tellStrays records those strays of a source that nobody was told of, and tells people.
func (b *Broker) tellStrays(ctx context.Context, name string, strays []string) error {
	if len(strays) == 0 {
		return nil
	}
	fresh, err := b.untold(ctx, name, strays)
	if err != nil || len(fresh) == 0 {
		return err
	}
	now := b.now()
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		told, err := toldStrays(tx, name)
		if err != nil {
			return err
		}
		if fresh = told.add(strays); len(fresh) == 0 {
			return nil // another broker was first
		}
		if err := told.put(tx); err != nil {
			return err
		}
		names := []any{}
		for _, n := range nameSome(fresh) {
			names = append(names, n)
		}
		text := fmt.Sprintf("the source of issuer %s has %d credentials that no lease here is of, %d of them new", name, len(strays), len(fresh))
		if err := b.notifyLeases(tx, notice.LeasesStray, name, text, now); err != nil {
			return err
		}
		return tx.Append(audit.Event{
			Kind: audit.LeaseStray, Time: now,
			Detail: map[string]any{"issuer": name, "new": len(fresh), "strays": len(strays), "names": names},
		})
	})
	if err != nil {
		return notRecorded(err)
	}
	b.cfg.Logger.WarnContext(ctx, "a source has credentials that no lease here is of", "issuer", name, "new", len(fresh), "strays", len(strays))
	return nil
}

// untold returns those strays that are not on record. It only reads: most rounds find nothing new, and need no
// commit to say so.
func (b *Broker) untold(ctx context.Context, name string, strays []string) (fresh []string, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) error {
		told, err := toldStrays(tx, name)
		fresh = told.add(strays)
		return err
	})
	return fresh, err
}

// told are the strays of a source that people were told of, as they are stored.
type told struct {
	record store.Record
	hashes []strayHash
}

// strayHash is the beginning of the SHA-256 of a stray's name.
type strayHash [8]byte

func hashOfStray(name string) strayHash {
	sum := sha256.Sum256([]byte(name))
	return strayHash(sum[:])
}

func toldStrays(tx store.Tx, name string) (told, error) {
	r, err := tx.Get(store.Key{Table: store.Strays, ID: name})
	if cred.KindOf(err) == cred.NotFound {
		return told{record: store.Record{Key: store.Key{Table: store.Strays, ID: name}, Rev: r.Rev}}, nil
	}
	t := told{record: r}
	if err != nil {
		return t, err
	}
	var hashes []byte
	if err := json.Unmarshal(r.Value, &hashes); err != nil || len(hashes)%len(strayHash{}) != 0 {
		return t, cred.Errorf(cred.Internal, "strays.decode", "", "record %s: %d bytes of hashes, %w", r.ID, len(hashes), err)
	}
	for rest := hashes; len(rest) > 0; rest = rest[len(strayHash{}):] {
		t.hashes = append(t.hashes, strayHash(rest))
	}
	return t, nil
}

// add takes in those strays that are not there yet, and returns them. It forgets those that there are no
// longer. Once no more fit, new ones are counted among the strays and told by nobody.
func (t *told) add(strays []string) (fresh []string) {
	before := map[strayHash]bool{}
	for _, h := range t.hashes {
		before[h] = true
	}
	var kept, added []strayHash
	for _, s := range strays {
		if h := hashOfStray(s); before[h] {
			kept = append(kept, h)
		}
	}
	for _, s := range strays {
		if h := hashOfStray(s); !before[h] && len(kept)+len(added) < maxToldStrays {
			added, fresh = append(added, h), append(fresh, s)
		}
	}
	t.hashes = slices.Concat(kept, added)
	return fresh
}

func (t *told) put(tx store.Tx) error {
	hashes := make([]byte, 0, len(t.hashes)*len(strayHash{}))
	for _, h := range t.hashes {
		hashes = append(hashes, h[:]...)
	}
	value, err := json.Marshal(hashes)
	if err != nil {
		return cred.Errorf(cred.Internal, "strays.encode", "", "%w", err)
	}
	t.record.Value = value
	return tx.Put(t.record)
}

// nameSome returns some names of many, each cut to what a reader needs.
func nameSome(strays []string) []string {
	var out []string
	for _, s := range strays[:min(len(strays), maxStrayNames)] {
		out = append(out, cut(s, maxStrayName))
	}
	return out
}
