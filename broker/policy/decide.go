package policy

import (
	"time"

	"github.com/daypass-io/daypass/cred"
)

// The reasons of a Decision that does not allow.
const (
	// ReasonTargetUnknown: there is no such target, or none that the caller may know of.
	ReasonTargetUnknown = "TARGET_UNKNOWN"
	// ReasonNoRuleMatches: no rule for the target has all its conditions met.
	ReasonNoRuleMatches = "NO_RULE_MATCHES"
	// ReasonScopeNotAllowed: a rule's conditions are met, and it does not list a scope.
	ReasonScopeNotAllowed = "SCOPE_NOT_ALLOWED"
	// ReasonTTLInvalid: the lifetime that was asked for is negative.
	ReasonTTLInvalid = "TTL_INVALID"
)

// Decision is what the rule set says to one request.
type Decision struct {
	Allowed    bool
	PolicyHash string
	Target     cred.Target   // zero where it is not allowed
	TTL        time.Duration // of the grant; zero where it is not allowed

	// What the caller may know. Rule is the one that allowed, or the one that came nearest; Condition
	// is the condition of it that failed, with the values that were seen. Public says it in a sentence,
	// empty where it is allowed.
	Rule, Reason, Condition, Public string

	// Visible reports whether the caller may know that the target exists.
	Visible bool

	// Private is the same without regard to what the caller may know, for the log alone.
	Private Finding

	// Rules tell of every rule for the target, in file order, for people who may read the policy.
	// Explain fills it in.
	Rules []RuleResult
}

// Finding is why a request is refused, or which rule allowed it.
type Finding struct {
	Rule, Reason, Condition string
}

// RuleResult is what one rule says to a request.
type RuleResult struct {
	Rule    string
	Matched bool
	Reason  string   // empty where it matched
	Failed  []string // the conditions that do not hold, each with the values that were seen
	Visible bool     // the caller may know of it
}

// Decide answers a request: the first rule in file order whose conditions all hold and that covers
// every scope allows it, for the lifetime that was asked for or the rule's, whichever is shorter.
// Decide has no side effects, and its answer depends on its arguments alone.
func (s *Set) Decide(who cred.Principal, want cred.Request, now time.Time) Decision {
	d := Decision{PolicyHash: s.hash}
	if want.TTL < 0 {
		d.Reason, d.Public = ReasonTTLInvalid, "the lifetime that you ask for is negative; leave it out to get the rule's"
		d.Private = Finding{Reason: ReasonTTLInvalid}
		return d
	}
	target, ok := s.targets[want.Target]
	if !ok {
		return d.hidden(want.Target, Finding{Reason: ReasonTargetUnknown})
	}
	in := &input{who: &who, want: &want, target: &target, now: now}
	for _, o := range s.byTarget[want.Target] {
		if o.grants(in) {
			return d.allow(target, o, want.TTL)
		}
	}
	return d.deny(in, s.judge(in))
}

// Explain is Decide, and tells in Rules what every rule for the target says.
func (s *Set) Explain(who cred.Principal, want cred.Request, now time.Time) Decision {
	d := s.Decide(who, want, now)
	if target, ok := s.targets[want.Target]; ok {
		in := &input{who: &who, want: &want, target: &target, now: now}
		for _, v := range s.judge(in) {
			d.Rules = append(d.Rules, v.result(in))
		}
	}
	return d
}

func (d Decision) allow(target cred.Target, o offer, ttl time.Duration) Decision {
	d.Allowed, d.Visible = true, true
	d.Rule, d.Target, d.TTL = o.name, target, o.ttl
	if ttl > 0 {
		d.TTL = min(ttl, o.ttl)
	}
	d.Private = Finding{Rule: o.name}
	return d
}

// Err returns the decision as an error for the caller, nil where it is allowed. op names what was
// attempted.
func (d Decision) Err(op string) error {
	if d.Allowed {
		return nil
	}
	kind := cred.Denied
	switch d.Reason {
	case ReasonTargetUnknown:
		kind = cred.NotFound
	case ReasonTTLInvalid:
		kind = cred.Invalid
	}
	return &cred.Error{Kind: kind, Op: op, Public: d.Public, Reason: d.Reason, Rule: d.Rule, Claim: d.Condition}
}
