package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Review gives a person's verdict on a request, or signs off a grant that was given without approval.
// digest is that of the request as the person was shown it. To somebody who is not asked, made no
// request and may not read the log, the request does not exist; every other refusal is recorded. No
// role stands above the rules: nobody decides about their own request, nor about that of an agent
// that acts for them.
func (b *Broker) Review(ctx context.Context, who Caller, id cred.GrantID, digest cred.Digest, v cred.Verdict) (cred.Grant, error) {
	var g cred.Grant
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		if g, err = getGrant(tx, id); err != nil {
			return err
		}
		groups := b.askedGroups(who.Principal, g)
		if len(groups) == 0 && !who.Same(g.Holder) && !b.readsAll(who.Principal) {
			return noGrant()
		}
		g, err = b.judged(ctx, tx, who, g, cred.Approval{
			By: who.Principal, Groups: groups, Verdict: v, Digest: digest, At: b.now(),
		})
		return err
	})
	if r, ok := errors.AsType[refused](err); ok {
		return cred.Grant{}, b.recordReviewRefusal(ctx, who.Principal, id, r.why)
	}
	if err != nil {
		return cred.Grant{}, notRecorded(err)
	}
	b.waiters.changed(id)
	b.rotationReviewed(ctx, g)
	return g, nil
}

// judged adds a verdict to a grant, and writes what follows from it.
func (b *Broker) judged(ctx context.Context, tx store.Tx, who Caller, g cred.Grant, a cred.Approval) (cred.Grant, error) {
	if g.Review != nil {
		return b.signedOff(ctx, tx, g, a)
	}
	next, err := g.Judge(a, who.SignedIn)
	if err != nil {
		return g, refused{err}
	}
	if err := putGrant(tx, next, next.NotAfter); err != nil {
		return g, err
	}
	next.Rev++
	if next.State() != cred.GrantPending {
		if err := dropRequest(tx, g.ID); err != nil {
			return g, err
		}
	}
	switch next.State() {
	case cred.GrantApproved:
		err = b.notify(tx, notice.RequestApproved, next, g.Demand.Groups(), "was approved")
	case cred.GrantDenied:
		err = b.notify(tx, notice.RequestDenied, next, g.Demand.Groups(), "was refused")
	}
	if err != nil {
		return g, err
	}
	return next, tx.Append(reviewEvent(ctx, audit.RequestReviewed, next, a))
}

func (b *Broker) signedOff(ctx context.Context, tx store.Tx, g cred.Grant, a cred.Approval) (cred.Grant, error) {
	if !a.Verdict.Approve {
		return g, refused{&cred.Error{
			Kind: cred.Invalid, Op: "review", Reason: "NOT_A_REFUSAL",
			Public: "this grant has been given already; revoke it if it must end, and sign the review off with what you found",
		}}
	}
	next, err := g.SignOff(a)
	if err != nil {
		return g, refused{err}
	}
	due := g.NotAfter // also of one that was revoked: proxies must remember it until then
	if g.Over() && !a.At.Before(g.NotAfter) {
		due = time.Time{}
	}
	if err := putGrant(tx, next, due); err != nil {
		return g, err
	}
	next.Rev++
	if err := dropRequest(tx, g.ID); err != nil {
		return g, err
	}
	return next, tx.Append(reviewEvent(ctx, audit.ReviewSignedOff, next, a))
}

func reviewEvent(ctx context.Context, kind audit.Kind, g cred.Grant, a cred.Approval) audit.Event {
	return audit.Event{
		Kind: kind, Time: a.At, Peer: peerOf(ctx), Grant: g.ID, Principal: audit.PrincipalOf(a.By),
		Approvals: audit.ApprovalsOf(a), Detail: map[string]any{"state": string(g.State()), "target": g.Want.Target},
	}
}

// askedGroups returns the groups of a principal that a grant is put to.
func (b *Broker) askedGroups(who cred.Principal, g cred.Grant) []string {
	var asked []string
	if g.Demand != nil {
		asked = g.Demand.Groups()
	}
	if g.Review != nil {
		asked = append(asked, g.Review.Groups...)
	}
	return slices.DeleteFunc(b.policy.Load().Groups(who), func(group string) bool { return !slices.Contains(asked, group) })
}

func (b *Broker) recordReviewRefusal(ctx context.Context, who cred.Principal, id cred.GrantID, why error) error {
	err := b.append(ctx, audit.Event{Kind: audit.ReviewRefused, Grant: id, Principal: audit.PrincipalOf(who), Error: audit.ErrorOf(why)})
	if err != nil {
		return err
	}
	return why
}

// Put is a request as somebody sees it to whom it is put.
type Put struct {
	Grant  cred.Grant
	Groups []string // of those that are asked, the caller's own; empty for one who may look and not decide
}

// ListRequests returns what waits for a verdict and the caller may see, oldest first: requests, and
// grants whose review is owed.
func (b *Broker) ListRequests(ctx context.Context, who cred.Principal) ([]Put, error) {
	var out []Put
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out = out[:0]
		for r, err := range tx.Scan(store.Query{Table: store.Requests}) {
			if err != nil {
				return err
			}
			g, err := getGrant(tx, cred.GrantID(r.ID))
			if err != nil {
				return err
			}
			if p, visible := b.putTo(who, g); visible {
				out = append(out, p)
			}
		}
		return nil
	})
	return out, err
}

// GetRequest returns a request, whatever became of it.
func (b *Broker) GetRequest(ctx context.Context, who cred.Principal, id cred.GrantID) (Put, error) {
	var g cred.Grant
	err := b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		g, err = getGrant(tx, id)
		return err
	})
	if err != nil {
		return Put{}, err
	}
	p, visible := b.putTo(who, g)
	if !visible || g.Demand == nil && g.Review == nil {
		return Put{}, noGrant()
	}
	return p, nil
}

func (b *Broker) putTo(who cred.Principal, g cred.Grant) (Put, bool) {
	p := Put{Grant: g, Groups: b.askedGroups(who, g)}
	return p, len(p.Groups) > 0 || who.Same(g.Holder) || b.readsAll(who)
}

// WatchRequests calls send for each request that waits and the caller may see, then current, then
// send for each that comes or changes, until ctx ends.
func (b *Broker) WatchRequests(ctx context.Context, who cred.Principal, send func(Put) error, current func() error) error {
	changed, leave := b.waiters.join("")
	defer leave()
	poll := time.NewTicker(waitPoll)
	defer poll.Stop()
	seen := map[cred.GrantID]uint64{}
	for first := true; ; first = false {
		if err := b.sendChanged(ctx, who, seen, send); err != nil {
			return err
		}
		if first {
			if err := current(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-poll.C:
		}
	}
}

// sendChanged sends what has changed since it was last seen, what waits no more included.
func (b *Broker) sendChanged(ctx context.Context, who cred.Principal, seen map[cred.GrantID]uint64, send func(Put) error) error {
	open, err := b.ListRequests(ctx, who)
	if err != nil {
		return err
	}
	still := map[cred.GrantID]bool{}
	for _, p := range open {
		still[p.Grant.ID] = true
	}
	for id := range seen {
		if still[id] {
			continue
		}
		delete(seen, id)
		p, err := b.GetRequest(ctx, who, id)
		if cred.KindOf(err) == cred.NotFound && err != nil {
			continue // the caller may see it no more
		}
		if err != nil {
			return err
		}
		if err := send(p); err != nil {
			return err
		}
	}
	for _, p := range open {
		if seen[p.Grant.ID] == p.Grant.Rev {
			continue
		}
		seen[p.Grant.ID] = p.Grant.Rev
		if err := send(p); err != nil {
			return err
		}
	}
	return nil
}
