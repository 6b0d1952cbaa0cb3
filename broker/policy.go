package broker

import (
	"context"
	"fmt"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// SetPolicy puts another rule set into force, as a whole and for every decision from now on, once it
// is recorded. Grants that were given live on; requests that wait are held against it when they are
// claimed. The rule set that is in force already changes nothing.
func (b *Broker) SetPolicy(ctx context.Context, set *policy.Set) error {
	if set.Hash() == b.policy.Load().Hash() {
		return nil
	}
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error { return b.recordPolicy(tx, set) })
	if err != nil {
		return notRecorded(err)
	}
	b.policy.Store(set)
	return nil
}

// RefusePolicy records that a changed rule set has mistakes, so that the one before stays in force.
// The text is for people, and says what is wrong and where.
func (b *Broker) RefusePolicy(ctx context.Context, problems string) error {
	now := b.now()
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if b.cfg.Notify != nil {
			err := b.cfg.Notify(tx, notice.Notice{
				ID: fmt.Sprintf("policy:%d", now.UnixMilli()), Kind: notice.PolicyRefused, At: now,
				Text: "a changed rule set has mistakes and was not put into force: " + problems,
			})
			if err != nil {
				return err
			}
		}
		return tx.Append(audit.Event{
			Kind: audit.PolicyRefused, Time: now, Decision: &audit.Decision{PolicyHash: b.policy.Load().Hash()},
			Detail: map[string]any{"problems": cut(problems, 8000)},
		})
	})
	if err != nil {
		return notRecorded(err)
	}
	return nil
}

// cut shortens a text to so many bytes at the most, and never inside a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

// recordPolicy keeps the text of a rule set, so that whoever reads a decision later can read what
// decided it, and records that it is in force.
func (b *Broker) recordPolicy(tx store.Tx, set *policy.Set) error {
	key := store.Key{Table: store.Policies, ID: set.Hash()}
	_, err := tx.Get(key)
	switch {
	case cred.KindOf(err) == cred.NotFound && err != nil:
		if err := tx.Put(store.Record{Key: key, Value: set.Text()}); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	return tx.Append(audit.Event{Kind: audit.PolicyLoaded, Time: b.now(), Decision: &audit.Decision{Allowed: true, PolicyHash: set.Hash()}})
}

// PolicyText returns a rule set that is or was in force, by its hash; empty: the one in force. For the
// roles "auditor" and "security".
func (b *Broker) PolicyText(ctx context.Context, who cred.Principal, hash string) (string, []byte, error) {
	if err := b.MayRead(ctx, who, "policy.get"); err != nil {
		return "", nil, err
	}
	if current := b.policy.Load(); hash == "" || hash == current.Hash() {
		return current.Hash(), current.Text(), nil
	}
	var text []byte
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		r, err := tx.Get(store.Key{Table: store.Policies, ID: hash})
		text = append([]byte(nil), r.Value...)
		return err
	})
	if k := cred.KindOf(err); err != nil && (k == cred.NotFound || k == cred.Invalid) {
		err = &cred.Error{Kind: cred.NotFound, Op: "policy.get", Reason: "POLICY_UNKNOWN", Public: "no rule set with this hash was ever in force here"}
	}
	return hash, text, err
}

// Policies returns the hashes of every rule set that was ever in force, and that of the one in force.
// For the roles "auditor" and "security".
func (b *Broker) Policies(ctx context.Context, who cred.Principal) (all []string, current string, err error) {
	if err := b.MayRead(ctx, who, "policy.list"); err != nil {
		return nil, "", err
	}
	err = b.cfg.Store.View(ctx, func(tx store.Tx) error {
		all = all[:0]
		for r, err := range tx.Scan(store.Query{Table: store.Policies}) {
			if err != nil {
				return err
			}
			all = append(all, r.ID)
		}
		return nil
	})
	return all, b.policy.Load().Hash(), err
}

// Explain tells how a request would be decided now. What each rule says is told in full to the roles
// "auditor" and "security", to others as far as they may know of the rule.
func (b *Broker) Explain(who cred.Principal, want cred.Request) policy.Decision {
	d := b.policy.Load().Explain(who, want, b.now())
	if b.readsAll(who) {
		return d
	}
	visible := d.Rules[:0]
	for _, r := range d.Rules {
		if r.Visible {
			visible = append(visible, r)
		}
	}
	d.Rules = visible
	return d
}
