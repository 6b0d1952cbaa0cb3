package cred

import (
	"encoding/json"
	"fmt"
	"time"
)

// GrantState is where a grant stands. Only the methods of Grant change it.
type GrantState string

// The states of a grant. Denied, Expired and Revoked are final.
const (
	GrantPending  GrantState = "pending"  // a request that waits for approval
	GrantApproved GrantState = "approved" // a request that has its approvals and waits for its holder to come for it
	GrantActive   GrantState = "active"   // may be redeemed
	GrantDenied   GrantState = "denied"   // an approver refused
	GrantExpired  GrantState = "expired"  // its time, or the time for its approval, ran out
	GrantRevoked  GrantState = "revoked"  // taken back before its time
)

// Grant is what policy, and people where it says so, decided: that Holder may have what it wants
// until NotAfter. Its life never restarts.
//
// Grant is a value; its methods return the changed copy, or a Conflict where the state does not
// allow the change.
type Grant struct {
	ID          GrantID
	Holder      Principal
	Want        Request
	Digest      Digest            // of Want and Holder
	Rule        string            // the rule that allowed it
	PolicyHash  string            // SHA-256 of the rule set that decided, in hex
	RetryKey    string            // SHA-256 of holder and idempotency key, in hex; empty where none was sent
	Deliver     Delivery          // where the credential goes, as policy decided
	Params      map[string]string // what the issuer gets: those of Want within the bounds of the rule, with its defaults
	Key         string            // thumbprint of the key that it is bound to, see Want.Binding; empty: to none
	Demand      *Demand           // whose agreement it needs or needed; nil: nobody's
	TTL         time.Duration     // how long it is to live once it is active; zero for one that was never pending
	Until       time.Time         // the instant beyond which policy lets it live in no case, such as the end of a time window; zero: none
	Approvals   []Approval
	Renewals    int     // how often what it allows may still be renewed
	RenewedFrom GrantID // the grant that it carries on; empty where it is the first
	Review      *Review // owed where it was given without the approvals that it needed
	CreatedAt   time.Time
	NotBefore   time.Time
	NotAfter    time.Time // absolute; for a pending or approved grant the deadline of its approval
	EndedAt     time.Time // when it was denied, expired or revoked
	EndReason   string

	state GrantState // owner: the methods below
	Rev   uint64     // owner: the store; zero for a grant not yet stored
}

// NewGrant returns an active grant.
func NewGrant(id GrantID, holder Principal, want Request, now, notAfter time.Time) Grant {
	return Grant{
		ID: id, Holder: holder, Want: want, Digest: want.Digest(holder),
		CreatedAt: now, NotBefore: now, NotAfter: notAfter, state: GrantActive,
	}
}

// State returns where the grant stands.
func (g Grant) State() GrantState { return g.state }

// Over reports whether the grant has ended for good.
func (g Grant) Over() bool {
	return g.state == GrantDenied || g.state == GrantExpired || g.state == GrantRevoked
}

// Usable returns nil if the grant may be redeemed at an instant, else why not.
func (g Grant) Usable(now time.Time) error {
	switch {
	case g.state == GrantRevoked:
		return &Error{Kind: Denied, Op: "grant", Reason: "GRANT_REVOKED", Public: "this grant was revoked; ask for a new one"}
	case g.state == GrantExpired, g.state == GrantActive && !now.Before(g.NotAfter):
		return &Error{Kind: Expired, Op: "grant", Reason: "GRANT_EXPIRED", Public: "this grant has ended; ask for a new one"}
	case (g.state == GrantPending || g.state == GrantApproved) && now.Before(g.NotAfter):
		return &Error{Kind: Pending, Op: "grant", Reason: "GRANT_PENDING", Public: "this request is " + string(g.state) + " and no grant yet"}
	case g.state == GrantPending, g.state == GrantApproved:
		return &Error{Kind: Expired, Op: "grant", Reason: "REQUEST_EXPIRED", Public: "the time for this request's approval is over; ask again"}
	case g.state != GrantActive:
		return &Error{Kind: Denied, Op: "grant", Reason: "GRANT_NOT_ACTIVE", Public: "this grant is " + string(g.state) + " and can't be used"}
	case now.Before(g.NotBefore):
		return &Error{Kind: Denied, Op: "grant", Reason: "GRANT_NOT_YET", Public: "this grant is not valid yet"}
	}
	return nil
}

// Revoke takes the grant back.
func (g Grant) Revoke(now time.Time, reason string) (Grant, error) {
	return g.end(GrantRevoked, now, reason, GrantActive, GrantPending, GrantApproved)
}

// Expire ends a grant whose deadline has passed.
func (g Grant) Expire(now time.Time) (Grant, error) {
	if now.Before(g.NotAfter) {
		return g, transitionError("grant", string(g.state), string(GrantExpired))
	}
	return g.end(GrantExpired, now, "its time ran out", GrantActive, GrantPending, GrantApproved)
}

func (g Grant) end(to GrantState, now time.Time, reason string, from ...GrantState) (Grant, error) {
	for _, s := range from {
		if g.state == s {
			g.state, g.EndedAt, g.EndReason = to, now, reason
			return g, nil
		}
	}
	return g, transitionError("grant", string(g.state), string(to))
}

func transitionError(what, from, to string) error {
	return &Error{
		Kind: Conflict, Op: what, Reason: "WRONG_STATE",
		Public: fmt.Sprintf("this %s is %s and can't become %s", what, from, to),
	}
}

// grantWire is how a grant is stored: what UnmarshalJSON reads, and what MarshalJSON writes by hand. It
// exists because state is unexported.
type grantWire struct {
	ID          GrantID           `json:"id"`
	Holder      Principal         `json:"holder"`
	Want        Request           `json:"want"`
	Digest      Digest            `json:"digest"`
	Rule        string            `json:"rule"`
	PolicyHash  string            `json:"policy_hash"`
	RetryKey    string            `json:"retry_key,omitempty"`
	Deliver     Delivery          `json:"deliver"`
	Params      map[string]string `json:"params,omitempty"`
	Key         string            `json:"key,omitempty"`
	Demand      *Demand           `json:"demand,omitempty"`
	TTL         time.Duration     `json:"ttl,omitempty"`
	Until       time.Time         `json:"until,omitzero"`
	Approvals   []Approval        `json:"approvals,omitempty"`
	Renewals    int               `json:"renewals,omitempty"`
	RenewedFrom GrantID           `json:"renewed_from,omitempty"`
	Review      *Review           `json:"review,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
	NotBefore   time.Time         `json:"not_before"`
	NotAfter    time.Time         `json:"not_after"`
	EndedAt     time.Time         `json:"ended_at,omitzero"`
	EndReason   string            `json:"end_reason,omitempty"`
	State       GrantState        `json:"state"`
}

// MarshalJSON writes the grant as grantWire has it, with its state; Rev is the store's.
func (g Grant) MarshalJSON() ([]byte, error) {
	w := &jsonWriter{b: make([]byte, 0, 2<<10)}
	w.text(`{"id":`, string(g.ID))
	w.principal(`,"holder":`, g.Holder)
	w.request(`,"want":`, g.Want)
	w.text(`,"digest":`, g.Digest.String())
	w.text(`,"rule":`, g.Rule)
	w.text(`,"policy_hash":`, g.PolicyHash)
	w.textIf(`,"retry_key":`, g.RetryKey)
	w.text(`,"deliver":`, string(g.Deliver))
	w.textMapIf(`,"params":`, g.Params)
	w.textIf(`,"key":`, g.Key)
	if g.Demand != nil {
		w.other(`,"demand":`, g.Demand)
	}
	w.intIf(`,"ttl":`, int64(g.TTL))
	w.timeIf(`,"until":`, g.Until)
	if len(g.Approvals) > 0 {
		w.other(`,"approvals":`, g.Approvals)
	}
	w.intIf(`,"renewals":`, int64(g.Renewals))
	w.textIf(`,"renewed_from":`, string(g.RenewedFrom))
	if g.Review != nil {
		w.other(`,"review":`, g.Review)
	}
	w.time(`,"created_at":`, g.CreatedAt)
	w.time(`,"not_before":`, g.NotBefore)
	w.time(`,"not_after":`, g.NotAfter)
	w.timeIf(`,"ended_at":`, g.EndedAt)
	w.textIf(`,"end_reason":`, g.EndReason)
	w.text(`,"state":`, string(g.state))
	w.b = append(w.b, '}')
	return w.b, w.err
}

// UnmarshalJSON reads what MarshalJSON wrote and refuses a state that does not exist.
func (g *Grant) UnmarshalJSON(b []byte) error {
	var w grantWire
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	switch w.State {
	case GrantPending, GrantApproved, GrantActive, GrantDenied, GrantExpired, GrantRevoked:
	default:
		return fmt.Errorf("cred: unknown grant state %q", w.State)
	}
	*g = Grant{
		w.ID, w.Holder, w.Want, w.Digest, w.Rule, w.PolicyHash, w.RetryKey,
		w.Deliver, w.Params, w.Key, w.Demand, w.TTL, w.Until, w.Approvals, w.Renewals, w.RenewedFrom, w.Review,
		w.CreatedAt, w.NotBefore, w.NotAfter, w.EndedAt, w.EndReason, w.State, g.Rev,
	}
	return nil
}
