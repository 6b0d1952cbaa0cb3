package broker

import (
	"context"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/failpoint"
	"github.com/daypass-io/daypass/store"
)

// RoleSecurity may revoke any grant and read everything; RoleAuditor may read everything.
const (
	RoleSecurity = "security"
	RoleAuditor  = "auditor"
)

// Revoke ends a grant and asks the sources to end its leases before it returns. The leases come back
// as they then stand: one that its source could not end yet is revoking and is tried again by Run;
// one that its source can't end at all is issued and not revocable, or unknown. Revoking a grant that
// is over is not an error: its state tells.
//
// The holder may revoke its own grant, and so may the role "security"; to everybody else the grant
// does not exist.
func (b *Broker) Revoke(ctx context.Context, who cred.Principal, id cred.GrantID, reason string) (cred.Grant, []cred.Lease, error) {
	g, _, err := b.endGrant(ctx, id, who, reason, func(g cred.Grant) bool {
		return who.Same(g.Holder) || b.HasRole(who, RoleSecurity)
	})
	if err != nil {
		return cred.Grant{}, nil, err
	}
	failpoint.Hit("revoke.after-grant")
	leases, err := b.endLeases(context.WithoutCancel(ctx), id) // the caller's leaving changes nothing
	return g, leases, err
}

// endGrant records the revocation of a grant, and in the same transaction which leases are to be
// revoked, so that a crash right after it leaves none behind. It reports whether that changed
// anything. To whoever may not, the grant does not exist.
func (b *Broker) endGrant(ctx context.Context, id cred.GrantID, who cred.Principal, reason string, may func(cred.Grant) bool) (g cred.Grant, changed bool, err error) {
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		changed = false
		if g, err = getGrant(tx, id); err != nil {
			return err
		}
		if !may(g) {
			return noGrant()
		}
		if g.Over() {
			return nil
		}
		g, err = b.revokeIn(ctx, tx, g, who, reason)
		changed = err == nil
		return err
	})
	if changed {
		// Also if the store's answer was lost: it is the safe side to refuse a grant that was to end.
		b.watchers.notify(Revocation{Grant: id, NotAfter: g.NotAfter})
		b.waiters.changed(id)
	}
	if err != nil {
		return cred.Grant{}, changed, notRecorded(err)
	}
	return g, changed, nil
}

func (b *Broker) revokeIn(ctx context.Context, tx store.Tx, g cred.Grant, who cred.Principal, reason string) (cred.Grant, error) {
	now := b.now()
	g, err := g.Revoke(now, reason)
	if err != nil {
		return g, err
	}
	if err := putGrant(tx, g, g.NotAfter); err != nil {
		return g, err
	}
	if g.Review == nil {
		if err := dropRequest(tx, g.ID); err != nil {
			return g, err
		}
	}
	err = tx.Append(audit.Event{
		Kind: audit.GrantRevoked, Time: now, Peer: peerOf(ctx), Grant: g.ID,
		Principal: audit.PrincipalOf(who), Detail: map[string]any{"reason": reason, "target": g.Want.Target},
	})
	if err != nil {
		return g, err
	}
	leases, _ := leasesIn(tx, g.ID) // one that can't be read must not keep the grant alive; endLeases tells
	for _, l := range leases {
		if _, err := b.advance(ctx, tx, l, g, whenDue); err != nil {
			return g, err
		}
	}
	return g, nil
}

// endLeases settles every lease of a grant that is over. One that can't be settled now comes back as
// it stands; the sweep has it on its list.
func (b *Broker) endLeases(ctx context.Context, id cred.GrantID) ([]cred.Lease, error) {
	leases, err := b.leases(ctx, id)
	if err != nil {
		return nil, err
	}
	for i, l := range leases {
		if l.Final() {
			continue
		}
		settled, err := b.settle(ctx, leaseKey(l), whenDue)
		if err != nil {
			b.cfg.Logger.ErrorContext(ctx, "the sweep will settle this lease", "grant", id, "lease", l.ID, "error", err)
			continue
		}
		leases[i] = settled
	}
	return leases, nil
}

func (b *Broker) leases(ctx context.Context, id cred.GrantID) (out []cred.Lease, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		out, err = leasesIn(tx, id)
		return err
	})
	return out, err
}
