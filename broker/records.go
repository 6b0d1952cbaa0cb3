package broker

import (
	"encoding/json"
	"iter"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// createGrant writes a new grant, and the retry key that finds it.
func createGrant(tx store.Tx, g cred.Grant) error {
	if g.RetryKey != "" {
		err := tx.Put(store.Record{Key: store.Key{Table: store.Idempotency, ID: g.RetryKey}, Value: []byte(g.ID)})
		if err != nil {
			return err
		}
	}
	return putGrant(tx, g, g.NotAfter)
}

// forgetRetryKey removes a grant's retry key, once the grant can't be retried any more.
func forgetRetryKey(tx store.Tx, g cred.Grant) error {
	if g.RetryKey == "" {
		return nil
	}
	r, err := tx.Get(store.Key{Table: store.Idempotency, ID: g.RetryKey})
	if err != nil {
		if cred.KindOf(err) == cred.NotFound {
			return nil
		}
		return err
	}
	if cred.GrantID(r.Value) != g.ID {
		return nil // it stands for a later grant
	}
	return tx.Put(store.Record{Key: r.Key, Rev: r.Rev})
}

func getGrant(tx store.Tx, id cred.GrantID) (cred.Grant, error) {
	return rereadGrant(tx, cred.Grant{ID: id})
}

// rereadGrant is getGrant for who has read or written the grant before: it is decoded only if it has
// changed since.
func rereadGrant(tx store.Tx, known cred.Grant) (cred.Grant, error) {
	r, err := tx.Get(store.Key{Table: store.Grants, ID: string(known.ID)})
	switch k := cred.KindOf(err); {
	case err != nil && (k == cred.NotFound || k == cred.Invalid):
		return cred.Grant{}, noGrant()
	case err != nil:
		return cred.Grant{}, err
	case r.Rev == known.Rev:
		return known, nil
	}
	return decodeGrant(r)
}

// targetOf returns what a grant is for and decodes no more of it, for those who look at all leases.
func targetOf(tx store.Tx, id cred.GrantID) (string, error) {
	r, err := tx.Get(store.Key{Table: store.Grants, ID: string(id)})
	if err != nil {
		return "", err
	}
	var g struct {
		Want struct {
			Target string `json:"target"`
		} `json:"want"`
	}
	if err := jsonv2.Unmarshal(r.Value, &g); err != nil {
		return "", cred.Errorf(cred.Internal, "grant.decode", "", "record %s: %w", r.ID, err)
	}
	return g.Want.Target, nil
}

// noGrant is the one answer for a grant that does not exist and for one that the caller may not see.
func noGrant() error {
	return &cred.Error{Kind: cred.NotFound, Op: "grant", Reason: "GRANT_UNKNOWN", Public: "there is no such grant, or it is not yours to see"}
}

func decodeGrant(r store.Record) (cred.Grant, error) {
	var g cred.Grant
	if err := json.Unmarshal(r.Value, &g); err != nil {
		return g, cred.Errorf(cred.Internal, "grant.decode", "", "record %s: %w", r.ID, err)
	}
	g.Rev = r.Rev
	return g, nil
}

// grantsToCome yields the grants whose own end is still to come, revoked ones included: a grant is due
// at its end, so what is due by the farthest future is all of them.
func grantsToCome(tx store.Tx, now time.Time) iter.Seq2[cred.Grant, error] {
	return func(yield func(cred.Grant, error) bool) {
		for r, err := range tx.Scan(store.Query{Table: store.Grants, DueBy: now.AddDate(100, 0, 0)}) {
			var g cred.Grant
			if err == nil {
				g, err = decodeGrant(r)
			}
			if !yield(g, err) || err != nil {
				return
			}
		}
	}
}

func putGrant(tx store.Tx, g cred.Grant, due time.Time) error {
	value, err := g.MarshalJSON()
	if err != nil {
		return cred.Errorf(cred.Internal, "grant.encode", "", "%w", err)
	}
	return tx.Put(store.Record{Key: store.Key{Table: store.Grants, ID: string(g.ID)}, Rev: g.Rev, Due: due, Value: value})
}

// leaseKey keeps the leases of a grant side by side.
func leaseKey(l cred.Lease) store.Key {
	return store.Key{Table: store.Leases, ID: string(l.Grant) + "/" + string(l.ID)}
}

func getLease(tx store.Tx, key store.Key) (cred.Lease, error) {
	r, err := tx.Get(key)
	if err != nil {
		return cred.Lease{}, err
	}
	return decodeLease(r)
}

func decodeLease(r store.Record) (cred.Lease, error) {
	var l cred.Lease
	if err := json.Unmarshal(r.Value, &l); err != nil {
		return l, cred.Errorf(cred.Internal, "lease.decode", "", "record %s: %w", r.ID, err)
	}
	l.Rev = r.Rev
	return l, nil
}

func putLease(tx store.Tx, l cred.Lease, due time.Time) error {
	value, err := l.MarshalJSON()
	if err != nil {
		return cred.Errorf(cred.Internal, "lease.encode", "", "%w", err)
	}
	return tx.Put(store.Record{Key: leaseKey(l), Rev: l.Rev, Due: due, Value: value})
}

// leasesIn returns the leases of a grant, oldest first; beside an error, those that could be read.
func leasesIn(tx store.Tx, id cred.GrantID) ([]cred.Lease, error) {
	var out []cred.Lease
	for l, err := range leasesOf(tx, id) {
		if err != nil {
			return out, err
		}
		out = append(out, l)
	}
	return out, nil
}

// leasesOf yields the leases of a grant, oldest first.
func leasesOf(tx store.Tx, id cred.GrantID) iter.Seq2[cred.Lease, error] {
	return func(yield func(cred.Lease, error) bool) {
		for r, err := range tx.Scan(store.Query{Table: store.Leases, Prefix: string(id) + "/"}) {
			var l cred.Lease
			if err == nil {
				l, err = decodeLease(r)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}
