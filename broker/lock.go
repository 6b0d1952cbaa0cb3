package broker

import (
	"context"
	"encoding/json"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Lock says for what nothing is granted or redeemed. It covers what fits all of its parts that are
// set; one without parts covers everything.
type Lock struct {
	ID       string         `json:"id"`
	Issuer   string         `json:"issuer,omitempty"`  // of the subject
	Subject  string         `json:"subject,omitempty"` // as holder, or as who acts for the holder
	Target   string         `json:"target,omitempty"`
	Reason   string         `json:"reason"`
	SetBy    cred.Principal `json:"set_by"`
	At       time.Time      `json:"at"`
	NotAfter time.Time      `json:"not_after,omitzero"` // zero: until it is lifted

	// Enforced is set once every grant that it covers has been ended.
	Enforced bool `json:"enforced,omitempty"`

	rev uint64 // owner: the store
}

func (l Lock) covers(who cred.Principal, target string) bool {
	if l.Target != "" && l.Target != target {
		return false
	}
	return l.coversPrincipal(who)
}

func (l Lock) coversPrincipal(who cred.Principal) bool {
	if (l.Issuer == "" || l.Issuer == who.Issuer) && (l.Subject == "" || l.Subject == who.Subject) {
		return true
	}
	return who.Actor != nil && l.coversPrincipal(*who.Actor)
}

// Lock ends every grant that a lock covers, and from its first transaction on lets nothing be granted
// or redeemed for it. It returns how many grants it ended; should that be cut off, the sweep goes on
// with it. For the role "security".
func (b *Broker) Lock(ctx context.Context, who cred.Principal, l Lock, ttl time.Duration) (Lock, int, error) {
	if !b.HasRole(who, RoleSecurity) {
		return Lock{}, 0, b.Refused(ctx, who, "lock.set")
	}
	now := b.now()
	l.ID, l.SetBy, l.At, l.Enforced = cred.NewLockID(now), who, now, false
	if ttl > 0 {
		l.NotAfter = now.Add(ttl)
	}
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := putLock(tx, l); err != nil {
			return err
		}
		return tx.Append(audit.Event{
			Kind: audit.LockSet, Time: now, Peer: peerOf(ctx), Principal: audit.PrincipalOf(who), Detail: l.detail(),
		})
	})
	if err != nil {
		return Lock{}, 0, notRecorded(err)
	}
	l.rev = 1
	ctx = context.WithoutCancel(ctx)
	over, err := b.enforce(ctx, l)
	if err != nil { // the lock holds all the same
		b.cfg.Logger.ErrorContext(ctx, "the sweep goes on to end what a lock covers", "lock", l.ID, "error", err)
	}
	b.endAll(ctx, over)
	return l, len(over), nil
}

// Unlock lifts a lock. What it ended stays ended. For the role "security".
func (b *Broker) Unlock(ctx context.Context, who cred.Principal, id, reason string) (Lock, error) {
	if !b.HasRole(who, RoleSecurity) {
		return Lock{}, b.Refused(ctx, who, "lock.lift")
	}
	var l Lock
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		r, err := tx.Get(store.Key{Table: store.Locks, ID: id})
		if err != nil {
			if cred.KindOf(err) == cred.NotFound || cred.KindOf(err) == cred.Invalid {
				err = &cred.Error{Kind: cred.NotFound, Op: "unlock", Reason: "LOCK_UNKNOWN", Public: "there is no such lock; 'daypass locks' lists them"}
			}
			return err
		}
		if l, err = decodeLock(r); err != nil {
			l = Lock{ID: id, rev: r.Rev} // also one that can't be read can be lifted
		}
		return b.lift(ctx, tx, l, who, reason)
	})
	if err != nil {
		return Lock{}, notRecorded(err)
	}
	return l, nil
}

func (b *Broker) lift(ctx context.Context, tx store.Tx, l Lock, who cred.Principal, reason string) error {
	if err := tx.Put(store.Record{Key: store.Key{Table: store.Locks, ID: l.ID}, Rev: l.rev}); err != nil {
		return err
	}
	e := audit.Event{Kind: audit.LockLifted, Time: b.now(), Peer: peerOf(ctx), Detail: l.detail()}
	e.Detail["why"] = reason
	if who.Subject != "" {
		e.Principal = audit.PrincipalOf(who)
	}
	return tx.Append(e)
}

// ListLocks returns the locks in force. For the roles "security" and "auditor".
func (b *Broker) ListLocks(ctx context.Context, who cred.Principal) ([]Lock, error) {
	if err := b.MayRead(ctx, who, "lock.list"); err != nil {
		return nil, err
	}
	return b.locks(ctx)
}

func (b *Broker) locks(ctx context.Context) (out []Lock, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out = out[:0]
		for r, err := range tx.Scan(store.Query{Table: store.Locks}) {
			if err != nil {
				return err
			}
			l, err := decodeLock(r)
			if err != nil {
				return err
			}
			out = append(out, l)
		}
		return nil
	})
	return out, err
}

// checkLocks refuses what a lock covers. A lock that can't be read covers everything.
func checkLocks(tx store.Tx, who cred.Principal, target string, now time.Time) error {
	for r, err := range tx.Scan(store.Query{Table: store.Locks}) {
		if err != nil {
			return err
		}
		l, err := decodeLock(r)
		if err != nil {
			return refused{&cred.Error{
				Kind: cred.Unavailable, Op: "lock", Reason: "LOCK_UNREADABLE", Err: err,
				Public: "a lock can't be read, so nothing is granted; tell the people who run this broker",
			}}
		}
		if (l.NotAfter.IsZero() || now.Before(l.NotAfter)) && l.covers(who, target) {
			return refused{&cred.Error{
				Kind: cred.Denied, Op: "lock", Reason: "LOCKED",
				Public: "this is locked by the people who run this broker (" + l.ID + "); ask them",
			}}
		}
	}
	return nil
}

// enforce ends the grants that a lock covers, and notes that it has. Their leases are due then.
func (b *Broker) enforce(ctx context.Context, l Lock) (over []cred.GrantID, err error) {
	ids, err := b.covered(ctx, l)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		_, changed, err := b.endGrant(ctx, id, l.SetBy, "locked by "+l.ID, func(cred.Grant) bool { return true })
		if err != nil {
			return over, err
		}
		if changed {
			over = append(over, id)
		}
	}
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		r, err := tx.Get(store.Key{Table: store.Locks, ID: l.ID})
		if err != nil {
			if cred.KindOf(err) == cred.NotFound {
				return nil // lifted meanwhile
			}
			return err
		}
		if l, err = decodeLock(r); err != nil {
			return err
		}
		l.Enforced = true
		return putLock(tx, l)
	})
	return over, err
}

// covered lists the grants that a lock covers and that have not ended.
func (b *Broker) covered(ctx context.Context, l Lock) (ids []cred.GrantID, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) error {
		ids = ids[:0]
		for g, err := range grantsToCome(tx, b.now()) {
			if err != nil {
				return err
			}
			if !g.Over() && l.covers(g.Holder, g.Want.Target) {
				ids = append(ids, g.ID)
			}
		}
		return nil
	})
	return ids, err
}

// enforceLocks goes on with locks whose enforcement was cut off.
func (b *Broker) enforceLocks(ctx context.Context) error {
	all, err := b.locks(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.Enforced {
			continue
		}
		if _, err := b.enforce(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func (l Lock) detail() map[string]any {
	d := map[string]any{"lock": l.ID, "reason": l.Reason}
	for name, value := range map[string]string{"issuer": l.Issuer, "subject": l.Subject, "target": l.Target} {
		if value != "" {
			d[name] = value
		}
	}
	if !l.NotAfter.IsZero() {
		d["not_after"] = l.NotAfter.UTC().Format(time.RFC3339)
	}
	return d
}

func decodeLock(r store.Record) (Lock, error) {
	var l Lock
	if err := json.Unmarshal(r.Value, &l); err != nil {
		return l, cred.Errorf(cred.Internal, "lock.decode", "", "record %s: %w", r.ID, err)
	}
	l.rev = r.Rev
	return l, nil
}

func putLock(tx store.Tx, l Lock) error {
	value, err := json.Marshal(l)
	if err != nil {
		return cred.Errorf(cred.Internal, "lock.encode", "", "%w", err)
	}
	return tx.Put(store.Record{Key: store.Key{Table: store.Locks, ID: l.ID}, Rev: l.rev, Due: l.NotAfter, Value: value})
}
