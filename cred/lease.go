package cred

import (
	"encoding/json"
	"fmt"
	"time"
)

// LeaseState is where a lease stands. Only the methods of Lease change it.
type LeaseState string

// The states of a lease. Revoked, Expired and Failed are final.
const (
	LeaseIntent   LeaseState = "intent"   // written before the issuer is asked
	LeaseIssued   LeaseState = "issued"   // the credential exists
	LeaseRevoking LeaseState = "revoking" // it is to end; the source has not yet confirmed
	LeaseRevoked  LeaseState = "revoked"  // the source confirmed its end
	LeaseExpired  LeaseState = "expired"  // its own end has passed
	LeaseFailed   LeaseState = "failed"   // the issuer is sure that nothing was made
	LeaseUnknown  LeaseState = "unknown"  // it may exist, and nothing that we hold can revoke it
)

// Lease is one credential that was, or may have been, minted for a grant. It never holds the
// credential: Handle is what the source needs to revoke it, Fingerprint is how the log knows it.
//
// Lease is a value; its methods return the changed copy, or a Conflict where the state does not
// allow the change.
type Lease struct {
	ID          LeaseID
	Grant       GrantID
	Redeemer    string // who holds the credential: "holder", "proxy/" and the proxy's name, or "broker" for itself
	Issuer      string // the configured issuer's name
	Handle      string // the source's own name of it; a secret-like value, sealed at rest, logged as a fingerprint
	Fingerprint Fingerprint
	Revocable   bool      // false: the source can't end it before NotAfter, and we say so
	Renewable   bool      // it can be renewed before NotAfter while its grant lives, see issuer.Renewer
	CreatedAt   time.Time // of the intent
	NotAfter    time.Time // the credential's own end, absolute; zero where it has none
	AskedUntil  time.Time // of a renewal whose outcome is not on record: the end that was asked for; zero: none
	EndedAt     time.Time
	Note        string // why it failed, or is unknown

	state LeaseState // owner: the methods below
	Rev   uint64     // owner: the store; zero for a lease not yet stored
}

// NewLease returns the intent to issue. The handle may be known already, see issuer.Reserver.
func NewLease(id LeaseID, grant GrantID, redeemer, issuer, handle string, now, notAfter time.Time) Lease {
	return Lease{
		ID: id, Grant: grant, Redeemer: redeemer, Issuer: issuer, Handle: handle, Revocable: true,
		CreatedAt: now, NotAfter: notAfter, state: LeaseIntent,
	}
}

// State returns where the lease stands.
func (l Lease) State() LeaseState { return l.state }

// Final reports whether the lease can change no more.
func (l Lease) Final() bool {
	return l.state == LeaseRevoked || l.state == LeaseExpired || l.state == LeaseFailed
}

// Issued records what the issuer made.
func (l Lease) Issued(handle string, fp Fingerprint, revocable bool, notAfter time.Time) (Lease, error) {
	to, err := l.to(LeaseIssued, LeaseIntent)
	if err == nil {
		to.Handle, to.Fingerprint, to.Revocable, to.NotAfter = handle, fp, revocable, notAfter
	}
	return to, err
}

// Failed records that the issuer is sure that nothing was made.
func (l Lease) Failed(now time.Time, note string) (Lease, error) {
	to, err := l.to(LeaseFailed, LeaseIntent)
	return to.ended(now, note, err)
}

// Unknown records that the credential may exist and can't be revoked by anything that we hold.
func (l Lease) Unknown(note string) (Lease, error) {
	to, err := l.to(LeaseUnknown, LeaseIntent, LeaseRevoking)
	if err == nil {
		to.Note = note
	}
	return to, err
}

// Irrevocable records that the source has given up on ending the credential. It may live on beyond the end
// that was on record, so the lease has none any more: the source alone can tell when it has ended.
func (l Lease) Irrevocable(note string) (Lease, error) {
	to, err := l.to(LeaseUnknown, LeaseRevoking)
	if err == nil {
		to.Note, to.NotAfter = note, time.Time{}
	}
	return to, err
}

// Renewing records that the source is about to be asked to let the credential live until an instant.
// From here on it may live until then.
func (l Lease) Renewing(until time.Time) (Lease, error) {
	to, err := l.to(LeaseIssued, LeaseIssued)
	if err == nil && until.After(to.AskedUntil) {
		to.AskedUntil = until
	}
	return to, err
}

// Renewed records the end that the source has given the credential, which is set.
func (l Lease) Renewed(notAfter time.Time) (Lease, error) {
	if notAfter.IsZero() {
		return l, &Error{Kind: Invalid, Op: "lease", Reason: "NO_END", Public: "a lease is renewed until an instant"}
	}
	to, err := l.to(LeaseIssued, LeaseIssued)
	if err == nil {
		to.NotAfter, to.AskedUntil = notAfter, time.Time{}
	}
	return to, err
}

// NotRenewed records that the source renews the credential no more, and why. What a renewal before
// this one may have done stands.
func (l Lease) NotRenewed(note string) (Lease, error) {
	to, err := l.to(LeaseIssued, LeaseIssued)
	if err == nil {
		to.Renewable, to.Note = false, note
	}
	return to, err
}

// End returns the instant from which on the credential surely has ended by itself; zero: it does not.
func (l Lease) End() time.Time {
	if !l.NotAfter.IsZero() && l.AskedUntil.After(l.NotAfter) {
		return l.AskedUntil
	}
	return l.NotAfter
}

// Revoking records the intent to revoke.
func (l Lease) Revoking() (Lease, error) { return l.to(LeaseRevoking, LeaseIntent, LeaseIssued) }

// Revoked records that the source confirmed the end.
func (l Lease) Revoked(now time.Time) (Lease, error) {
	to, err := l.to(LeaseRevoked, LeaseRevoking, LeaseUnknown)
	return to.ended(now, "", err)
}

// Expired records that the credential's own end has passed, see End. A credential without an end, whose
// NotAfter is zero, does not expire.
func (l Lease) Expired(now time.Time) (Lease, error) {
	if l.NotAfter.IsZero() || now.Before(l.End()) {
		return l, transitionError("lease", string(l.state), string(LeaseExpired))
	}
	to, err := l.to(LeaseExpired, LeaseIssued, LeaseUnknown, LeaseRevoking)
	return to.ended(now, l.Note, err)
}

func (l Lease) to(to LeaseState, from ...LeaseState) (Lease, error) {
	for _, s := range from {
		if l.state == s {
			l.state = to
			return l, nil
		}
	}
	return l, transitionError("lease", string(l.state), string(to))
}

func (l Lease) ended(now time.Time, note string, err error) (Lease, error) {
	if err == nil {
		l.EndedAt, l.Note = now, note
	}
	return l, err
}

// leaseWire is how a lease is stored. It exists because state is unexported.
type leaseWire struct {
	ID          LeaseID     `json:"id"`
	Grant       GrantID     `json:"grant"`
	Redeemer    string      `json:"redeemer"`
	Issuer      string      `json:"issuer"`
	Handle      string      `json:"handle,omitempty"`
	Fingerprint Fingerprint `json:"fingerprint,omitzero"`
	Revocable   bool        `json:"revocable"`
	Renewable   bool        `json:"renewable,omitempty"`
	CreatedAt   time.Time   `json:"created_at"`
	NotAfter    time.Time   `json:"not_after"`
	AskedUntil  time.Time   `json:"asked_until,omitzero"`
	EndedAt     time.Time   `json:"ended_at,omitzero"`
	Note        string      `json:"note,omitempty"`
	State       LeaseState  `json:"state"`
}

// MarshalJSON writes the lease with its state; Rev is the store's.
func (l Lease) MarshalJSON() ([]byte, error) {
	return json.Marshal(leaseWire{
		l.ID, l.Grant, l.Redeemer, l.Issuer, l.Handle, l.Fingerprint, l.Revocable, l.Renewable,
		l.CreatedAt, l.NotAfter, l.AskedUntil, l.EndedAt, l.Note, l.state,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote and refuses a state that does not exist.
func (l *Lease) UnmarshalJSON(b []byte) error {
	var w leaseWire
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	switch w.State {
	case LeaseIntent, LeaseIssued, LeaseRevoking, LeaseRevoked, LeaseExpired, LeaseFailed, LeaseUnknown:
	default:
		return fmt.Errorf("cred: unknown lease state %q", w.State)
	}
	*l = Lease{
		w.ID, w.Grant, w.Redeemer, w.Issuer, w.Handle, w.Fingerprint, w.Revocable, w.Renewable,
		w.CreatedAt, w.NotAfter, w.AskedUntil, w.EndedAt, w.Note, w.State, l.Rev,
	}
	return nil
}
