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
// one that its source can't end at all is issued and not revocable. Revoking again is not an error.
//
// The holder may revoke its own grant, and so may the role "security"; to everybody else the grant
// does not exist.
func (b *Broker) Revoke(ctx context.Context, who cred.Principal, id cred.GrantID, reason string) (cred.Grant, []cred.Lease, error) {
	g, changed, err := b.revokeGrant(ctx, who, id, reason)
	if err != nil {
		return g, nil, err
	}
	failpoint.Hit("revoke.after-grant")
	if changed {
		b.watchers.notify(Revocation{Grant: g.ID, NotAfter: g.NotAfter})
	}
	leases, err := b.endLeases(ctx, id)
	return g, leases, err
}

func (b *Broker) revokeGrant(ctx context.Context, who cred.Principal, id cred.GrantID, reason string) (cred.Grant, bool, error) {
	var g cred.Grant
	var changed bool
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		changed = false
		if g, err = getGrant(tx, id); err != nil {
			return err
		}
		if !who.Same(g.Holder) && !b.HasRole(who, RoleSecurity) {
			return noGrant()
		}
		if g.State() == cred.GrantRevoked {
			return nil
		}
		now := b.now()
		if g, err = g.Revoke(now, reason); err != nil {
			return err
		}
		changed = true
		if err := putGrant(tx, g, g.NotAfter); err != nil {
			return err
		}
		return tx.Append(audit.Event{
			Kind: audit.GrantRevoked, Time: now, Peer: peerOf(ctx), Grant: g.ID,
			Principal: audit.PrincipalOf(who), Detail: map[string]any{"reason": reason, "target": g.Want.Target},
		})
	})
	if err != nil {
		return g, false, notRecorded(err)
	}
	return g, changed, nil
}

// endLeases settles every lease of a grant that is over.
func (b *Broker) endLeases(ctx context.Context, id cred.GrantID) ([]cred.Lease, error) {
	leases, err := b.leases(ctx, id)
	if err != nil {
		return nil, err
	}
	for i, l := range leases {
		if l.Final() {
			continue
		}
		if leases[i], err = b.settle(ctx, leaseKey(l), whenDue); err != nil {
			return leases, err
		}
	}
	return leases, nil
}

func (b *Broker) leases(ctx context.Context, id cred.GrantID) ([]cred.Lease, error) {
	var out []cred.Lease
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out = out[:0]
		for l, err := range leasesOf(tx, id) {
			if err != nil {
				return err
			}
			out = append(out, l)
		}
		return nil
	})
	return out, err
}
