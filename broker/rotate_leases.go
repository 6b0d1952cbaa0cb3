package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// hanging is what is kept of a lease that hangs on a root: there may be a million.
type hanging struct {
	key   store.Key
	state cred.LeaseState
	until time.Time // when it is over at the latest; zero: nobody knows
}

// leasesUnder returns the leases that hang on a root, are not over, and were begun before an instant;
// zero means all. A credential that stands for ever, and that nobody can end, is not among them: its
// lease says so, and nothing is to be waited for.
func (b *Broker) leasesUnder(ctx context.Context, root Root, before time.Time) (out []hanging, err error) {
	if root.Issuer == "" && root.Targets == nil {
		return nil, nil
	}
	err = b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out = nil
		for record, err := range tx.Scan(store.Query{Table: store.Leases, DueBy: b.now().AddDate(100, 0, 0)}) {
			if err != nil {
				return err
			}
			l, err := decodeLease(record)
			if err != nil {
				return err
			}
			if !before.IsZero() && !l.CreatedAt.Before(before) {
				continue
			}
			if under, err := b.hangsOn(tx, root, l); err != nil || !under {
				if err != nil {
					return err
				}
				continue
			}
			h := hanging{leaseKey(l), l.State(), l.End()}
			if h.until.IsZero() && h.state == cred.LeaseIssued {
				h.until = record.Due
			}
			out = append(out, h)
		}
		return nil
	})
	return out, err
}

func (b *Broker) hangsOn(tx store.Tx, root Root, l cred.Lease) (bool, error) {
	if l.Final() || root.Issuer != "" && l.Issuer != root.Issuer {
		return false, nil
	}
	if _, some := root.Rotator.(issuer.Scoped); root.Targets == nil && !some {
		return true, nil
	}
	name, err := targetOf(tx, l.Grant)
	if err != nil || root.Targets != nil {
		return err == nil && slices.Contains(root.Targets, name), err
	}
	t, known := b.policy.Load().Target(name)
	return !known || root.covers(t), nil // of one that is no longer configured nobody knows
}

// drain does with the credentials that the old root minted what the root's OldLeases says. It is done
// once none is left that has to end before the old root does.
func (b *Broker) drain(ctx context.Context, c claim) answer {
	left, err := b.leasesUnder(ctx, c.root, c.SwitchedAt)
	if err != nil {
		return answer{err: err}
	}
	ended := 0
	if c.root.OldLeases == OldLeasesRevoke && len(left) > 0 {
		before := len(left)
		b.endOld(ctx, left)
		if left, err = b.leasesUnder(ctx, c.root, c.SwitchedAt); err != nil {
			return answer{err: err}
		}
		ended = before - len(left)
	}
	a := answer{detail: map[string]any{"old_leases": string(c.root.oldLeases()), "leases": statesOf(left)}}
	if ended > 0 {
		a.detail["ended"] = ended
	}
	switch {
	case len(left) == 0:
		a.text = "none of the credentials that the old root minted is left"
	case c.root.oldLeases() == OldLeasesKeep:
		a.text = "credentials that the old root minted live until their own end: " + inWords(left)
	default:
		a.err = b.waitFor(left)
	}
	return a
}

func (r Root) oldLeases() OldLeases {
	if r.OldLeases == "" {
		return OldLeasesKeep
	}
	return r.OldLeases
}

// endOld ends leases as far as that can be done now. One that is being issued right now is let be: it
// would fail who asked for it, and a moment later it can be ended.
func (b *Broker) endOld(ctx context.Context, leases []hanging) {
	modes := map[store.Key]settling{}
	for _, l := range leases {
		modes[l.key] = endNow
		if l.state == cred.LeaseIntent {
			modes[l.key] = whenDue
		}
	}
	b.all(ctx, slices.Collect(maps.Keys(modes)), func(ctx context.Context, key store.Key) error {
		_, err := b.settle(ctx, key, modes[key])
		return err
	})
}

// waitFor says what is waited for: an error of the kind Pending while all of it has an end to come, else
// Unavailable.
func (b *Broker) waitFor(left []hanging) error {
	now := b.now()
	var last time.Time
	next := now.Add(time.Minute)
	for _, l := range left {
		if l.until.IsZero() || !now.Before(l.until.Add(stuckAfter)) {
			return &cred.Error{
				Kind: cred.Unavailable, Op: "rotation.drain", Reason: "OLD_LEASES_STAY",
				Public: "credentials that the old root minted do not end: " + inWords(left),
			}
		}
		if l.until.After(last) {
			last = l.until
		}
		if l.until.Before(next) {
			next = l.until
		}
	}
	return &cred.Error{
		Kind: cred.Pending, Op: "rotation.drain", Reason: "OLD_LEASES_LIVE", RetryAfter: max(next.Sub(now), time.Second),
		Public: "waits for the end of credentials that the old root minted, at " + last.UTC().Format(time.RFC3339) + " at the latest: " + inWords(left),
	}
}

// statesOf counts leases by their states.
func statesOf(leases []hanging) map[string]any {
	n := map[string]int{}
	for _, l := range leases {
		n[string(l.state)]++
	}
	all := map[string]any{}
	for state, count := range n {
		all[state] = count
	}
	return all
}

func inWords(leases []hanging) string {
	counts := statesOf(leases)
	var words []string
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[state], state))
	}
	return strings.Join(words, ", ")
}
