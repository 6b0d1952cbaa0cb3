package notice

import (
	"context"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Kind names what a notice tells of. Receivers of webhooks see it as the event's type.
type Kind string

// The kinds of notice.
const (
	RequestPending   Kind = "request.pending"   // somebody's approval is asked for
	RequestReminder  Kind = "request.reminder"  // it still is
	RequestApproved  Kind = "request.approved"  // nobody is asked any more
	RequestDenied    Kind = "request.denied"    // an approver refused
	RequestExpired   Kind = "request.expired"   // nobody decided in time
	BreakGlassUsed   Kind = "break_glass.used"  // a grant was given without approval, and a review is owed
	ReviewOverdue    Kind = "review.overdue"    // that review was not done in time
	StandingProposed Kind = "standing.proposed" // an approval for requests to come waits for its approvers
	LeasesStray      Kind = "leases.stray"      // a source has credentials that no lease here is of
	LeasesMissing    Kind = "leases.missing"    // a source has lost credentials that nobody here ended
	PolicyRefused    Kind = "policy.refused"    // a changed rule set has mistakes; the one before stays in force
	AlarmRaised      Kind = "alarm.raised"      // somebody may have had a credential that is not theirs
	RotationWaits    Kind = "rotation.waits"    // a root's rotation waits for a person, who has to do something
	RotationStuck    Kind = "rotation.stuck"    // it does not get on, and somebody has to look
	RotationFailed   Kind = "rotation.failed"   // it was given up; the old root is in use
	RotationDone     Kind = "rotation.done"     // the new root is in use, the old one is gone
)

// Notice is something that people are told. ID, Kind and At are always set, the rest where it has a
// meaning.
type Notice struct {
	// ID is the same for every try and every channel, so that receivers can drop doubles: 1 to 100
	// letters, digits, "_", "-", ":" and "/". Enqueue makes one where it is empty.
	ID        string       `json:"id"`
	Kind      Kind         `json:"kind"`
	At        time.Time    `json:"at"` // when it happened
	Grant     cred.GrantID `json:"grant,omitempty"`
	Requester string       `json:"requester,omitempty"` // a name for people
	Actor     string       `json:"actor,omitempty"`     // who acts for the requester, or who did what is told of; a name for people
	Target    string       `json:"target,omitempty"`
	Scopes    []string     `json:"scopes,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Rule      string       `json:"rule,omitempty"`
	Digest    string       `json:"digest,omitempty"` // of the request, hex; Slack's buttons need it
	Deadline  time.Time    `json:"deadline,omitzero"`
	Groups    []string     `json:"groups,omitempty"` // who is asked
	Text      string       `json:"text,omitempty"`   // a sentence of the broker's own
}

// Sender delivers notices to one channel. Send returns nil once the receiver has taken the notice. It
// is safe for concurrent use, and ends when ctx does.
//
// An error means that the receiver may or may not have it; the caller tries again with the same
// Notice. A *cred.Error of the Kind Invalid means that no further try can help. An error with a method
// RetryAfter() time.Duration asks not to be called earlier for any notice, and a *PartialError says that
// the notice was delivered, though not to everybody. No error shows a secret.
type Sender interface {
	Send(ctx context.Context, n Notice) error
}

// PartialError is the error of a delivery that reached some of the channel's recipients and can't be
// repeated for the others.
type PartialError struct {
	Missed []string // the recipients that did not get it
	Err    error    // why the first of them did not
}

// Error returns the private text, for our own logs.
func (p *PartialError) Error() string {
	return "not every recipient of the channel was reached: " + p.Err.Error()
}

// Unwrap returns the private cause.
func (p *PartialError) Unwrap() error { return p.Err }

// asksForReview reports whether the notice asks its readers for a verdict on a request.
func (n Notice) asksForReview() bool {
	return slices.Contains([]Kind{RequestPending, RequestReminder}, n.Kind) && n.Grant != "" && n.Digest != ""
}
