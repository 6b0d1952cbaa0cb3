package broker

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// request writes a grant that waits for approval, and has those told who are asked.
func (b *Broker) request(ctx context.Context, tx store.Tx, a asked, d policy.Decision) (cred.Grant, error) {
	g := a.ruled(cred.NewRequest(a.id, a.who.Principal, a.want, *d.Demand, d.TTL, a.now), d)
	if err := createGrant(tx, g); err != nil {
		return g, err
	}
	g.Rev++
	if err := putRequest(tx, g.ID, remindAt(g, a.now)); err != nil {
		return g, err
	}
	if err := b.notify(tx, notice.RequestPending, g, d.Demand.Groups(), "asks for approval"); err != nil {
		return g, err
	}
	return g, tx.Append(a.event(ctx, audit.ExchangePending, g, decisionOf(d)))
}

// Claim turns an approved request into an active grant, which is the one use of its approvals. The
// caller shows a token of the same identity again, with the same immutable claims, and asks for what
// was approved. A request that still waits is returned as it stands, and so is one that is active.
func (b *Broker) Claim(ctx context.Context, who Caller, id cred.GrantID, want cred.Request) (cred.Grant, error) {
	return b.claimRequest(ctx, who, id, want, nil)
}

// claimRequest is Claim, with a lease that may begin in the transaction of the claim.
func (b *Broker) claimRequest(ctx context.Context, who Caller, id cred.GrantID, want cred.Request, e *early) (cred.Grant, error) {
	a := b.ask(who, want)
	out, err := b.holderGrant(ctx, who.Principal, id)
	if err != nil {
		return cred.Grant{}, err
	}
	if out.State() == cred.GrantPending || out.State() == cred.GrantActive {
		if err := b.mayComeAgain(ctx, a, out); err != nil {
			return cred.Grant{}, err
		}
		return out, nil
	}
	d, err := b.judge(a)
	if err != nil {
		return cred.Grant{}, b.recordDenial(ctx, a, d, err)
	}
	approved := func(tx store.Tx) (prospect, error) {
		g, err := getGrant(tx, id)
		if err == nil {
			err = checkLocks(tx, who.Principal, want.Target, a.now)
		}
		return prospect{outcome: isClaimed, grant: g}, err
	}
	e.prepare(ctx, a, d, approved, nil)
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		p, err := approved(tx)
		if err != nil {
			return err
		}
		if out, err = b.claim(ctx, tx, a, d, p.grant); err != nil {
			return err
		}
		return e.begin(ctx, tx, out)
	})
	if err != nil {
		return cred.Grant{}, b.notGranted(ctx, a, d, err)
	}
	b.waiters.changed(id)
	return out, nil
}

// mayComeAgain refuses to show a grant that was claimed to somebody with other claims, or with a token
// that counts once and has been spent.
func (b *Broker) mayComeAgain(ctx context.Context, a asked, g cred.Grant) error {
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		if g.State() == cred.GrantActive && !b.sameCaller(g.Holder, a.who.Principal) {
			return refused{errOtherCaller}
		}
		for _, t := range a.who.once {
			if _, err := unspent(tx, t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return b.notGranted(ctx, a, policy.Decision{}, err)
	}
	return nil
}

var errOtherCaller = &cred.Error{
	Kind: cred.Denied, Op: "exchange", Reason: "NOT_THE_REQUESTER",
	Public: "this request was approved for an identity with other claims than yours; ask again",
}

// claim activates an approved grant in the transaction of its claim. Policy has been asked again by
// then: a rule that is gone, or asks for more people than agreed, gives nothing.
func (b *Broker) claim(ctx context.Context, tx store.Tx, a asked, d policy.Decision, g cred.Grant) (cred.Grant, error) {
	active, err := b.claimed(a, d, g)
	if err != nil {
		return g, refused{err}
	}
	if err := spend(tx, a.who.once, a.now); err != nil {
		return g, err
	}
	if err := b.owe(tx, &active, d); err != nil {
		return g, err
	}
	if err := putGrant(tx, active, active.NotAfter); err != nil {
		return g, err
	}
	active.Rev++
	return active, tx.Append(a.event(ctx, audit.ExchangeGranted, active, decisionOf(d)))
}

// claimed is what an approved grant is once it has been claimed.
func (b *Broker) claimed(a asked, d policy.Decision, g cred.Grant) (cred.Grant, error) {
	if err := b.mayClaim(a, d, g); err != nil {
		return g, err
	}
	g.TTL, g.Until, g.Params, g.Deliver = min(g.TTL, d.TTL), d.Until, d.Params, d.Deliver
	g.Rule, g.PolicyHash, g.Renewals = d.Rule, d.PolicyHash, d.Renewals
	return g.Activate(a.now)
}

func (b *Broker) mayClaim(a asked, d policy.Decision, g cred.Grant) error {
	refuse := func(kind cred.Kind, reason, public string) error {
		return &cred.Error{Kind: kind, Op: "exchange", Reason: reason, Public: public}
	}
	switch {
	case g.State() == cred.GrantDenied:
		return refuse(cred.Denied, "REQUEST_DENIED", "an approver refused this request; ask again if something has changed")
	case g.State() == cred.GrantExpired:
		return refuse(cred.Expired, "REQUEST_EXPIRED", "the time for this request's approval is over; ask again")
	case g.State() == cred.GrantRevoked:
		return refuse(cred.Denied, "GRANT_REVOKED", "this request was taken back; ask again")
	case !b.sameCaller(g.Holder, a.who.Principal):
		return errOtherCaller
	case g.Digest != a.digest || g.Key != a.who.Key:
		return refuse(cred.Conflict, "DIGEST_MISMATCH", "what you ask for is not what was approved; ask for exactly that, or make a new request")
	case d.Demand != nil && !d.Demand.Met(g.Approvals):
		return refuse(cred.Conflict, "POLICY_CHANGED", "the policy has changed since this was approved, and asks for other approvals now; make a new request")
	}
	return nil
}

// sameCaller reports whether two principals are the same for an approval: identity and immutable
// claims, of the holder and of who acts for it.
func (b *Broker) sameCaller(p, q cred.Principal) bool {
	if (p.Actor == nil) != (q.Actor == nil) || !b.cfg.Identity.SameCaller(p, q) {
		return false
	}
	return p.Actor == nil || b.sameCaller(*p.Actor, *q.Actor)
}

// owe notes what is owed for a grant that was given without approval, and has the approvers told.
func (b *Broker) owe(tx store.Tx, g *cred.Grant, d policy.Decision) error {
	if d.Review == nil {
		return nil
	}
	g.Review = &cred.Review{Groups: d.Review.Groups, Due: g.NotBefore.Add(d.Review.Within)}
	if err := putRequest(tx, g.ID, g.Review.Due); err != nil {
		return err
	}
	groups := slices.Concat(d.Review.Groups, d.NoticeGroups)
	slices.Sort(groups)
	return b.notify(tx, notice.BreakGlassUsed, *g, slices.Compact(groups), "broke the glass: it has this without approval, and a review is owed")
}

// notify queues a notice about a grant for those who are asked, if there is anybody to tell it.
func (b *Broker) notify(tx store.Tx, kind notice.Kind, g cred.Grant, groups []string, text string) error {
	if b.cfg.Notify == nil {
		return nil
	}
	n := notice.Notice{
		ID: noticeID(string(g.ID), kind, b.now()), Kind: kind, At: b.now(), Grant: g.ID, Requester: nameOf(g.Holder), Target: g.Want.Target,
		Scopes: g.Want.Scopes, Reason: g.Want.Reason, Rule: g.Rule, Digest: g.Digest.String(), Deadline: g.NotAfter, Groups: groups, Text: text,
	}
	if g.Holder.Actor != nil {
		n.Actor = nameOf(*g.Holder.Actor)
	}
	return b.cfg.Notify(tx, n)
}

// noticeID names what is told of: a transaction that runs twice tells it once.
func noticeID(of string, kind notice.Kind, now time.Time) string {
	id := of + ":" + strings.ReplaceAll(string(kind), ".", "-")
	if kind == notice.RequestReminder || kind == notice.RotationWaits {
		id += ":" + strconv.FormatInt(now.UnixMilli(), 10) // each of them is another
	}
	return id
}

func nameOf(p cred.Principal) string {
	if p.Name == "" || p.Name == p.Subject {
		return p.Subject
	}
	return p.Name + " (" + p.Subject + ")"
}

// Waited is how a request stands for who waits for it.
type Waited struct {
	Grant     cred.Grant
	Asked     string // who is asked, in words
	Approvals int    // how many have agreed
}

// waitPoll is how often a waiting call looks by itself, in case another broker on the same store
// brought the change.
const waitPoll = 2 * time.Second

// Wait calls send with a request of the caller's as it stands, again each time it changes, and
// returns once it waits no more.
func (b *Broker) Wait(ctx context.Context, who Caller, id cred.GrantID, send func(Waited) error) error {
	changed, leave := b.waiters.join(id) // before the first look, so that no change falls between
	defer leave()
	poll := time.NewTicker(waitPoll)
	defer poll.Stop()
	for last := uint64(0); ; {
		g, err := b.holderGrant(ctx, who.Principal, id)
		if err != nil {
			return err
		}
		if g.Rev != last {
			if err := send(waited(g)); err != nil || g.State() != cred.GrantPending {
				return err
			}
			last = g.Rev
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-poll.C:
		}
	}
}

// holderGrant returns a grant to its holder alone.
func (b *Broker) holderGrant(ctx context.Context, who cred.Principal, id cred.GrantID) (g cred.Grant, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		g, err = getGrant(tx, id)
		return err
	})
	if err == nil && !who.Same(g.Holder) {
		return cred.Grant{}, noGrant()
	}
	return g, err
}

func waited(g cred.Grant) Waited {
	w := Waited{Grant: g, Asked: g.Demand.InWords()}
	for _, a := range g.Approvals {
		if a.Verdict.Approve {
			w.Approvals++
		}
	}
	return w
}

// remindAt is when those who are asked are to be reminded; zero: never.
func remindAt(g cred.Grant, now time.Time) time.Time {
	if g.Demand == nil || g.Demand.Remind <= 0 {
		return time.Time{}
	}
	if at := now.Add(g.Demand.Remind); at.Before(g.NotAfter) {
		return at
	}
	return time.Time{}
}

// putRequest lists a grant among those that wait for somebody's verdict.
func putRequest(tx store.Tx, id cred.GrantID, due time.Time) error {
	key := store.Key{Table: store.Requests, ID: string(id)}
	r, err := tx.Get(key)
	if err != nil && cred.KindOf(err) != cred.NotFound {
		return err
	}
	return tx.Put(store.Record{Key: key, Rev: r.Rev, Due: due, Value: []byte("{}")})
}

// dropRequest takes a grant from that list, if it is on it.
func dropRequest(tx store.Tx, id cred.GrantID) error {
	r, err := tx.Get(store.Key{Table: store.Requests, ID: string(id)})
	if err != nil {
		if cred.KindOf(err) == cred.NotFound {
			return nil
		}
		return err
	}
	return tx.Put(store.Record{Key: r.Key, Rev: r.Rev})
}
