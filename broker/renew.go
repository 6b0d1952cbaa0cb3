package broker

import (
	"context"
	"slices"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Renew gives a new grant in place of one that still lives, where the rule in force allows renewals:
// no grant's own life ever restarts. Policy decides again; approvals that the first grant needed are
// carried over where they are what policy asks for now, since the rule that asks for them allows the
// renewal. Each grant is renewed once; the
// old one lives until its own end. A zero ttl means as long as the rule allows.
func (b *Broker) Renew(ctx context.Context, who Caller, id cred.GrantID, ttl time.Duration) (cred.Grant, error) {
	old, err := b.holderGrant(ctx, who.Principal, id)
	if err != nil {
		return cred.Grant{}, err
	}
	want := old.Want
	want.TTL = ttl
	who.Actor, who.Key = old.Holder.Actor, old.Key
	a := b.ask(who, want)
	d, err := b.judge(a)
	if err != nil {
		return cred.Grant{}, b.recordDenial(ctx, a, d, err)
	}
	charge := b.charge(a, d)
	var out cred.Grant
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		old, err := getGrant(tx, id)
		if err != nil {
			return err
		}
		if err := b.mayRenew(a, d, old); err != nil {
			return refused{err}
		}
		if err := checkLocks(tx, who.Principal, want.Target, a.now); err != nil {
			return err
		}
		if err := charge(); err != nil {
			return err
		}
		out = a.active(d)
		out.Demand, out.Approvals, out.RenewedFrom = old.Demand, old.Approvals, old.ID
		out.Renewals = min(old.Renewals-1, d.Renewals)
		old.Renewals = 0
		if err := putGrant(tx, old, old.NotAfter); err != nil {
			return err
		}
		if err := createGrant(tx, out); err != nil {
			return err
		}
		out.Rev++
		e := a.event(ctx, audit.ExchangeGranted, out, decisionOf(d))
		e.Detail = map[string]any{"renews": string(id)}
		return tx.Append(e)
	})
	if err != nil {
		return cred.Grant{}, b.notGranted(ctx, a, d, err)
	}
	return out, nil
}

func (b *Broker) mayRenew(a asked, d policy.Decision, old cred.Grant) error {
	if err := old.Usable(a.now); err != nil {
		return err
	}
	switch {
	case !b.sameCaller(old.Holder, a.who.Principal):
		return &cred.Error{
			Kind: cred.Denied, Op: "renew", Reason: "NOT_THE_REQUESTER",
			Public: "this grant was given to an identity with other claims than yours; ask for a new one",
		}
	case old.Renewals <= 0:
		return &cred.Error{
			Kind: cred.Denied, Op: "renew", Reason: "NO_RENEWAL_LEFT", Rule: old.Rule,
			Public: "this grant can't be renewed, or has been already; ask for a new one",
		}
	case d.Demand != nil && !d.Demand.Met(old.Approvals):
		return &cred.Error{
			Kind: cred.Denied, Op: "renew", Reason: "APPROVAL_NEEDED", Rule: d.Rule,
			Public: "this needs an approval now that the grant does not have; ask for a new one",
		}
	case slices.ContainsFunc(old.Approvals, func(p cred.Approval) bool { return p.Standing != "" }):
		return &cred.Error{
			Kind: cred.Denied, Op: "renew", Reason: "NO_RENEWAL_LEFT", Rule: old.Rule,
			Public: "a grant that a standing approval let through is not renewed; ask again, and it lets that through too while it is in force",
		}
	case old.Review != nil || d.Review != nil:
		return &cred.Error{
			Kind: cred.Denied, Op: "renew", Reason: "NO_RENEWAL_LEFT", Rule: old.Rule,
			Public: "a grant that was given without approval can't be renewed; ask for approval",
		}
	}
	return nil
}
