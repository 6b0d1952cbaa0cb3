package policy

import (
	"reflect"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Outcome is what a rule set says to a request, in one word.
type Outcome string

// The outcomes.
const (
	OutcomeDenied  Outcome = "denied"
	OutcomePending Outcome = "pending" // allowed once people agree
	OutcomeAllowed Outcome = "allowed" // at once
)

// Outcome returns the decision in one word.
func (d Decision) Outcome() Outcome { return outcomeOf(d.Allowed, d.Demand) }

func outcomeOf(allowed bool, demand *cred.Demand) Outcome {
	switch {
	case !allowed:
		return OutcomeDenied
	case demand != nil:
		return OutcomePending
	}
	return OutcomeAllowed
}

// Recorded is a decision that was made, as the log tells it: who asked for what and when, and what
// the rule set of that time said.
type Recorded struct {
	Who  cred.Principal
	Want cred.Request
	At   time.Time

	Allowed bool
	Rule    string // the one that allowed, or came nearest
	Reason  string
	Demand  *cred.Demand // nil where nobody's approval was asked
	Exempt  string       // why none was needed, see Decision.Exempt; or "standing/" and an ID
}

// Outcome returns what was decided in one word. A standing approval is given by people and not by the
// rule set, which asked for approval all the same.
func (r Recorded) Outcome() Outcome {
	if r.Allowed && strings.HasPrefix(r.Exempt, exemptStanding) {
		return OutcomePending
	}
	return outcomeOf(r.Allowed, r.Demand)
}

// exemptStanding begins the Exempt of a grant that a standing approval covers.
const exemptStanding = "standing/"

// Difference is how a rule set's answer differs from the one that is on record.
type Difference string

// The differences. Where several hold, the first of this order counts.
const (
	Same           Difference = "same"
	NewlyRefused   Difference = "newly_refused"
	NewlyAllowed   Difference = "newly_allowed"   // was refused, and is allowed at once
	NewlyAsked     Difference = "newly_asked"     // was refused or allowed at once, and people are asked
	NoLongerAsked  Difference = "no_longer_asked" // people were asked, and it is allowed at once
	AskedOtherwise Difference = "asked_otherwise" // other people are asked, or more, or fewer
	OtherRule      Difference = "other_rule"      // the answer is the same, and another rule gives it
)

// Replay decides a recorded request again, at the instant at which it was decided, and tells how the
// answer differs. The nearest rule of a refusal, which decides nothing, is not compared; nor is a
// grant's lifetime, which the log does not tell.
func (s *Set) Replay(r Recorded) (Decision, Difference) {
	d := s.Decide(r.Who, r.Want, r.At)
	was, is := r.Outcome(), d.Outcome()
	switch {
	case was == is && is == OutcomeDenied:
		return d, Same
	case is == OutcomeDenied:
		return d, NewlyRefused
	case was == OutcomeDenied && is == OutcomeAllowed:
		return d, NewlyAllowed
	case was != is && is == OutcomePending:
		return d, NewlyAsked
	case was != is:
		return d, NoLongerAsked
	case r.Demand != nil && !reflect.DeepEqual(r.Demand, d.Demand):
		return d, AskedOtherwise
	case r.Rule != d.Rule:
		return d, OtherRule
	}
	return d, Same
}
