package cred

import (
	"fmt"
	"slices"
	"time"
)

// Review is what is owed for a grant that nobody approved beforehand: that somebody looks at it
// afterwards.
type Review struct {
	Groups    []string  `json:"groups"`               // whose members may sign it off
	Due       time.Time `json:"due"`                  // when it is overdue; it stays open until it is signed off
	SignedOff *Approval `json:"signed_off,omitempty"` // nil while it is open
	Overdue   bool      `json:"overdue,omitempty"`    // that it is overdue has been told
}

// NewRequest returns a grant that waits for approval.
func NewRequest(id GrantID, holder Principal, want Request, demand Demand, ttl time.Duration, now time.Time) Grant {
	demand.AllOf, demand.AnyOf = slices.Clone(demand.AllOf), slices.Clone(demand.AnyOf)
	return Grant{
		ID: id, Holder: holder, Want: want, Digest: want.Digest(holder), Demand: &demand, TTL: ttl,
		CreatedAt: now, NotAfter: now.Add(demand.Within), state: GrantPending,
	}
}

// Judge adds a person's verdict to a pending grant. A refusal ends it at once; the approval that
// completes what is demanded makes it approved. A refusal also ends a grant that is approved and not
// yet used, and may come from one who approved before: whoever finds a mistake can stop it.
//
// The errors are Denied for whoever is no person, asked, acts for who asked or is acted for, for a
// member of no group that is asked and for a sign-in that is too old (signedIn is when By last proved
// who it is; zero: unknown); Conflict for a digest of another request, a second approval of the same
// person and a grant that waits no more; Expired after its deadline. Whoever has no part in a request
// gets the same error whatever its state.
func (g Grant) Judge(a Approval, signedIn time.Time) (Grant, error) {
	if err := g.judgeable(a, signedIn); err != nil {
		return g, err
	}
	g.Approvals = append(slices.Clip(slices.Clone(g.Approvals)), a)
	switch {
	case !a.Verdict.Approve:
		return g.end(GrantDenied, a.At, "refused by an approver", GrantPending, GrantApproved)
	case g.agreed():
		g.state = GrantApproved
	}
	return g, nil
}

func (g Grant) judgeable(a Approval, signedIn time.Time) error {
	var demand Demand
	if g.Demand != nil {
		demand = *g.Demand
	}
	if err := g.concerns(a, demand.Groups()); err != nil {
		return err
	}
	open := g.state == GrantPending || g.state == GrantApproved && !a.Verdict.Approve
	switch {
	case !open:
		return reviewError(Conflict, "NOT_PENDING", "this request is "+string(g.state)+" and waits for no verdict")
	case a.At.IsZero() || !a.At.Before(g.NotAfter):
		return reviewError(Expired, "REQUEST_EXPIRED", "the time for this request's approval is over; it has to be asked for again")
	case a.Verdict.Approve && slices.ContainsFunc(g.Approvals, func(b Approval) bool { return b.By.SamePerson(a.By) }):
		return reviewError(Conflict, "ALREADY_REVIEWED", "you have given your verdict on this request already")
	case demand.Fresh > 0 && !fresh(signedIn, a.At, demand.Fresh):
		return reviewError(Denied, "SIGN_IN_TOO_OLD", fmt.Sprintf("to decide about this request you must have signed in within the last %s; sign in again", demand.Fresh))
	}
	return nil
}

// concerns returns why somebody has no say about a grant, or says it about something else.
func (g Grant) concerns(a Approval, groups []string) error {
	switch {
	case !a.By.isPerson():
		return reviewError(Denied, "NOT_A_PERSON", "only people who sign in themselves give verdicts; no job, service or agent does it for them")
	case g.Holder.Involves(a.By):
		return reviewError(Denied, "OWN_REQUEST", "nobody decides about a request of their own, or of an agent that acts for them")
	case !slices.ContainsFunc(groups, func(group string) bool { return slices.Contains(a.Groups, group) }):
		return reviewError(Denied, "NOT_AN_APPROVER", "you are in none of the groups that this is put to")
	case a.Digest != g.Digest || !g.intact():
		return reviewError(Conflict, "DIGEST_MISMATCH", "this is not the request that you were shown; look at it again")
	}
	return nil
}

// intact reports whether the grant is still what its digest says.
func (g Grant) intact() bool { return g.Digest == g.Want.Digest(g.Holder) }

// agreed reports whether the approvals that the grant has are those that it needs. They were checked
// as they came; a mistake elsewhere that changed the grant since must not make it active.
func (g Grant) agreed() bool {
	if g.Demand == nil || !g.intact() {
		return false
	}
	var count []Approval
	for _, a := range g.Approvals {
		if g.concerns(a, g.Demand.Groups()) == nil && a.At.Before(g.NotAfter) {
			count = append(count, a)
		}
	}
	return g.Demand.Met(count)
}

// fresh reports whether a sign-in is within an age of an instant. One that lies further in the future
// than that is a mistake of somebody's clock, and proves nothing.
func fresh(signedIn, at time.Time, age time.Duration) bool {
	return !signedIn.IsZero() && at.Sub(signedIn).Abs() <= age
}

// Activate turns an approved grant into an active one: the one use of its approvals. It lives for its
// TTL from now, at most until Until. The errors are Conflict for a grant that is not approved, or no
// longer what was approved, and Expired where its deadline or Until has passed.
func (g Grant) Activate(now time.Time) (Grant, error) {
	switch {
	case g.state != GrantApproved:
		return g, transitionError("grant", string(g.state), string(GrantActive))
	case !now.Before(g.NotAfter):
		return g, &Error{Kind: Expired, Op: "grant", Reason: "REQUEST_EXPIRED", Public: "the time for this request's approval is over; ask again"}
	case !g.Until.IsZero() && !now.Before(g.Until):
		return g, &Error{Kind: Expired, Op: "grant", Reason: "WINDOW_CLOSED", Public: "the time window in which this was allowed is over; ask again"}
	case !g.agreed():
		return g, &Error{Kind: Conflict, Op: "grant", Reason: "NOT_AS_APPROVED", Public: "this is no longer what was approved; ask again"}
	}
	g.state, g.NotBefore, g.NotAfter = GrantActive, now, now.Add(g.TTL)
	if !g.Until.IsZero() && g.Until.Before(g.NotAfter) {
		g.NotAfter = g.Until
	}
	return g, nil
}

// SignOff records that somebody looked at a grant that was given without approval. The errors are
// those of Judge.
func (g Grant) SignOff(a Approval) (Grant, error) {
	var owed Review
	if g.Review != nil {
		owed = *g.Review
	}
	if err := g.concerns(a, owed.Groups); err != nil {
		return g, err
	}
	if owed.SignedOff != nil {
		return g, reviewError(Conflict, "NO_REVIEW_OWED", "no review of this grant is owed")
	}
	owed.SignedOff = &a
	g.Review = &owed
	return g, nil
}

func reviewError(kind Kind, reason, public string) error {
	return &Error{Kind: kind, Op: "review", Reason: reason, Public: public}
}
