package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// MaxStanding is the longest life of a standing approval.
const MaxStanding = 90 * 24 * time.Hour

// Standing is an approval for requests to come: those for its rule, target and scopes whose holder
// has its claims, until its end. It counts once the rule's approvers have agreed to it as they would
// to one request.
type Standing struct {
	ID         string            `json:"id"`
	Rule       string            `json:"rule"`
	Target     string            `json:"target"`
	Scopes     []string          `json:"scopes,omitempty"`
	Claims     map[string]string `json:"claims"` // of the holder, by name; values as configuration spells them
	NotAfter   time.Time         `json:"not_after"`
	Reason     string            `json:"reason"`
	ProposedBy cred.Principal    `json:"proposed_by"`
	At         time.Time         `json:"at"`
	Demand     cred.Demand       `json:"demand"` // of the rule when it was drafted
	Approvals  []cred.Approval   `json:"approvals,omitempty"`
	Uses       int64             `json:"uses,omitempty"` // how many grants it gave

	rev uint64 // owner: the store
}

// InForce reports whether its approvers have agreed.
func (s Standing) InForce() bool { return s.Demand.Met(s.Approvals) }

// Digest is what a verdict on it binds to.
func (s Standing) Digest() cred.Digest { return s.request().Digest }

// request is what its approvers agree to: a request for exactly what it covers. It is nobody's own,
// so a proposer who is an approver may agree to the draft; whose requests it then lets through is
// another matter, see covers.
func (s Standing) request() cred.Grant {
	covers := struct {
		ID, Rule, Target string
		Scopes           []string
		Claims           map[string]string
		NotAfter         time.Time
		Reason           string
	}{s.ID, s.Rule, s.Target, s.Scopes, s.Claims, s.NotAfter.UTC(), s.Reason}
	canonical, err := json.Marshal(covers) // struct order and sorted map keys make it canonical
	if err != nil {
		panic("broker: a standing approval of strings failed to encode: " + err.Error())
	}
	g := cred.NewRequest("", cred.Principal{}, cred.Request{Target: s.Target, Reason: string(canonical)}, s.Demand, 0, s.At)
	g.NotAfter, g.Approvals = s.NotAfter, s.Approvals
	return g
}

// Propose drafts a standing approval. The proposer is one of the rule's approvers, whose own approval
// it gets, or has the role "security".
func (b *Broker) Propose(ctx context.Context, who Caller, s Standing) (Standing, error) {
	now := b.now()
	s.ID, s.At, s.ProposedBy, s.Approvals, s.Uses = cred.NewStandingID(now), now, who.Principal, nil, 0
	s.NotAfter = s.NotAfter.UTC().Truncate(time.Millisecond)
	demand, err := b.standingDemand(s, now)
	groups := b.groupsAsked(who.Principal, demand)
	if len(groups) == 0 && !b.HasRole(who.Principal, RoleSecurity) {
		return Standing{}, b.Refused(ctx, who.Principal, "standing.propose") // before err: it tells what rules there are
	}
	if err != nil {
		return Standing{}, b.recordReviewRefusal(ctx, who.Principal, "", err)
	}
	s.Demand = demand
	if len(groups) > 0 {
		a := cred.Approval{By: who.Principal, Groups: groups, Verdict: cred.Verdict{Approve: true, Comment: s.Reason}, Digest: s.Digest(), At: now}
		if s, err = s.judge(a, who.SignedIn); err != nil {
			return Standing{}, b.recordReviewRefusal(ctx, who.Principal, "", err)
		}
	}
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := putStanding(tx, s); err != nil {
			return err
		}
		if err := b.notifyStanding(tx, s); err != nil {
			return err
		}
		return tx.Append(s.event(ctx, audit.StandingProposed, who.Principal, now))
	})
	if err != nil {
		return Standing{}, notRecorded(err)
	}
	s.rev = 1
	return s, nil
}

// standingDemand returns whose agreement a standing approval needs.
func (b *Broker) standingDemand(s Standing, now time.Time) (cred.Demand, error) {
	invalid := func(public string) error {
		return &cred.Error{Kind: cred.Invalid, Op: "standing", Reason: "STANDING_INVALID", Public: public}
	}
	demand, ok := b.policy.Load().DemandOf(s.Rule, s.Target)
	switch {
	case !ok:
		return demand, invalid(fmt.Sprintf("no rule %q asks for approval of target %q", s.Rule, s.Target))
	case !s.NotAfter.After(now) || s.NotAfter.Sub(now) > MaxStanding:
		return demand, invalid("a standing approval ends in the future, at most 90 days ahead")
	case len(s.Claims) == 0:
		return demand, invalid("name at least one claim that a holder must have, so that it is not for everybody")
	}
	return demand, nil
}

// judge adds a verdict. The errors are those of cred.Grant.Judge.
func (s Standing) judge(a cred.Approval, signedIn time.Time) (Standing, error) {
	if s.InForce() {
		return s, &cred.Error{Kind: cred.Conflict, Op: "review", Reason: "NOT_PENDING", Public: "this standing approval is in force and waits for no verdict"}
	}
	judged, err := s.request().Judge(a, signedIn)
	if err != nil {
		return s, err
	}
	s.Approvals = judged.Approvals
	return s, nil
}

// ReviewStanding gives a person's verdict on a draft. A refusal ends it.
func (b *Broker) ReviewStanding(ctx context.Context, who Caller, id string, digest cred.Digest, v cred.Verdict) (Standing, error) {
	now := b.now()
	var s Standing
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		if s, err = b.visibleStanding(tx, who.Principal, id); err != nil {
			return err
		}
		a := cred.Approval{By: who.Principal, Groups: b.groupsAsked(who.Principal, s.Demand), Verdict: v, Digest: digest, At: now}
		if s, err = s.judge(a, who.SignedIn); err != nil {
			return refused{err}
		}
		if err := tx.Append(s.event(ctx, audit.StandingReviewed, who.Principal, now)); err != nil {
			return err
		}
		if !v.Approve {
			return dropStanding(tx, s)
		}
		return putStanding(tx, s)
	})
	if r, ok := errors.AsType[refused](err); ok {
		return Standing{}, b.recordReviewRefusal(ctx, who.Principal, "", r.why)
	}
	if err != nil {
		return Standing{}, notRecorded(err)
	}
	return s, nil
}

// RevokeStanding ends a standing approval. Grants that it gave live on. It is for those who are asked
// for its rule, and for the role "security".
func (b *Broker) RevokeStanding(ctx context.Context, who cred.Principal, id, reason string) (Standing, error) {
	var s Standing
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		if s, err = b.visibleStanding(tx, who, id); err != nil {
			return err
		}
		if len(b.groupsAsked(who, s.Demand)) == 0 && !b.HasRole(who, RoleSecurity) {
			return noStanding()
		}
		if err := dropStanding(tx, s); err != nil {
			return err
		}
		e := s.event(ctx, audit.StandingRevoked, who, b.now())
		e.Detail["why"] = reason
		return tx.Append(e)
	})
	if err != nil {
		return Standing{}, notRecorded(err)
	}
	return s, nil
}

// ListStanding returns the standing approvals that the caller may see: those of rules that it is
// asked for, all for the roles "auditor" and "security".
func (b *Broker) ListStanding(ctx context.Context, who cred.Principal) ([]Standing, error) {
	var out []Standing
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out = out[:0]
		for r, err := range tx.Scan(store.Query{Table: store.Standing}) {
			if err != nil {
				return err
			}
			s, err := decodeStanding(r)
			if err != nil {
				return err
			}
			if b.seesStanding(who, s) {
				out = append(out, s)
			}
		}
		return nil
	})
	return out, err
}

func (b *Broker) seesStanding(who cred.Principal, s Standing) bool {
	return b.readsAll(who) || len(b.groupsAsked(who, s.Demand)) > 0
}

func (b *Broker) visibleStanding(tx store.Tx, who cred.Principal, id string) (Standing, error) {
	r, err := tx.Get(store.Key{Table: store.Standing, ID: id})
	if err != nil {
		if cred.KindOf(err) == cred.NotFound || cred.KindOf(err) == cred.Invalid {
			err = noStanding()
		}
		return Standing{}, err
	}
	s, err := decodeStanding(r)
	if err == nil && !b.seesStanding(who, s) {
		err = noStanding()
	}
	return s, err
}

func noStanding() error {
	return &cred.Error{Kind: cred.NotFound, Op: "standing", Reason: "STANDING_UNKNOWN", Public: "there is no such standing approval, or it is not yours to see"}
}

// groupsAsked returns the groups of a principal that a demand names.
func (b *Broker) groupsAsked(who cred.Principal, d cred.Demand) []string {
	asked := d.Groups()
	return slices.DeleteFunc(b.policy.Load().Groups(who), func(group string) bool { return !slices.Contains(asked, group) })
}

// standingFor finds a standing approval that covers what is asked for, nil where none does or none is
// needed. One whose approvers do not meet what the rule asks for now does not count, nor does the
// approval of anybody who is, or acts for, the holder.
func (b *Broker) standingFor(tx store.Tx, a asked, d policy.Decision) (*Standing, error) {
	if d.Demand == nil {
		return nil, nil
	}
	for r, err := range tx.Scan(store.Query{Table: store.Standing}) {
		if err != nil {
			return nil, err
		}
		s, err := decodeStanding(r)
		if err != nil {
			return nil, err
		}
		if s.covers(a, d) {
			return &s, nil
		}
	}
	return nil, nil
}

func (s Standing) covers(a asked, d policy.Decision) bool {
	if s.Rule != d.Rule || s.Target != a.want.Target || !a.now.Before(s.NotAfter) || len(s.Claims) == 0 || !s.InForce() {
		return false
	}
	for _, scope := range a.want.Scopes {
		if !slices.Contains(s.Scopes, scope) {
			return false
		}
	}
	for claim, want := range s.Claims {
		value, present := a.who.Claims[claim]
		if got, ok := cred.ClaimText(value); !present || !ok || got != want {
			return false
		}
	}
	others := slices.DeleteFunc(slices.Clone(s.Approvals), func(p cred.Approval) bool { return a.who.Involves(p.By) })
	return d.Demand.Met(others)
}

// lend returns its approvals for a grant.
func (s Standing) lend() []cred.Approval {
	all := slices.Clone(s.Approvals)
	for i := range all {
		all[i].Standing = s.ID
	}
	return all
}

// used counts a grant.
func (s Standing) used(tx store.Tx) error {
	s.Uses++
	return putStanding(tx, s)
}

func (b *Broker) notifyStanding(tx store.Tx, s Standing) error {
	if b.cfg.Notify == nil || s.InForce() {
		return nil
	}
	return b.cfg.Notify(tx, notice.Notice{
		ID: noticeID(s.ID, notice.StandingProposed, s.At), Kind: notice.StandingProposed, At: s.At, Requester: nameOf(s.ProposedBy), Target: s.Target, Scopes: s.Scopes,
		Reason: s.Reason, Rule: s.Rule, Digest: s.Digest().String(), Deadline: s.NotAfter, Groups: s.Demand.Groups(),
		Text: "proposes a standing approval",
	})
}

func (s Standing) event(ctx context.Context, kind audit.Kind, who cred.Principal, now time.Time) audit.Event {
	claims := map[string]any{}
	for name, value := range s.Claims {
		claims[name] = value
	}
	return audit.Event{
		Kind: kind, Time: now, Peer: peerOf(ctx), Principal: audit.PrincipalOf(who), Approvals: audit.ApprovalsOf(s.Approvals...),
		Detail: map[string]any{
			"standing": s.ID, "rule": s.Rule, "target": s.Target, "claims": claims, "digest": s.Digest().String(),
			"not_after": s.NotAfter.UTC().Format(time.RFC3339), "reason": s.Reason, "in_force": s.InForce(),
		},
	}
}

func decodeStanding(r store.Record) (Standing, error) {
	var s Standing
	if err := json.Unmarshal(r.Value, &s); err != nil {
		return s, cred.Errorf(cred.Internal, "standing.decode", "", "record %s: %w", r.ID, err)
	}
	s.rev = r.Rev
	return s, nil
}

func putStanding(tx store.Tx, s Standing) error {
	value, err := json.Marshal(s)
	if err != nil {
		return cred.Errorf(cred.Internal, "standing.encode", "", "%w", err)
	}
	return tx.Put(store.Record{Key: store.Key{Table: store.Standing, ID: s.ID}, Rev: s.rev, Due: s.NotAfter, Value: value})
}

func dropStanding(tx store.Tx, s Standing) error {
	return tx.Put(store.Record{Key: store.Key{Table: store.Standing, ID: s.ID}, Rev: s.rev})
}
