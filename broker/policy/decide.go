package policy

import (
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// The reasons of a Decision that does not allow.
const (
	// ReasonTargetUnknown: there is no such target, or none that the caller may know of.
	ReasonTargetUnknown = "TARGET_UNKNOWN"
	// ReasonTTLInvalid: the lifetime that was asked for is negative.
	ReasonTTLInvalid = "TTL_INVALID"
	// ReasonDeniedByRule: a deny rule refuses, whatever others allow.
	ReasonDeniedByRule = "DENIED_BY_RULE"
	// ReasonNoRuleMatches: no rule for the target has all its conditions met.
	ReasonNoRuleMatches = "NO_RULE_MATCHES"
	// ReasonGroupsUnknown: a condition needs the caller's groups, and their token does not list them.
	ReasonGroupsUnknown = "GROUPS_UNKNOWN"

	// The others are about a rule whose conditions are all met.

	// ReasonCautionNotNamed: a claim makes the identity doubtful, and no condition names its value.
	ReasonCautionNotNamed = "CAUTION_NOT_NAMED"
	// ReasonScopeNotAllowed: the rule does not list a scope.
	ReasonScopeNotAllowed = "SCOPE_NOT_ALLOWED"
	// ReasonParamNotAllowed: the rule does not list a parameter, or not with this value.
	ReasonParamNotAllowed = "PARAM_NOT_ALLOWED"
	// ReasonParamMissing: the rule demands a parameter that was not sent.
	ReasonParamMissing = "PARAM_MISSING"
	// ReasonWindowClosed: it is not the time at which the rule counts.
	ReasonWindowClosed = "WINDOW_CLOSED"
	// ReasonReasonRequired: a rule for emergencies demands a reason.
	ReasonReasonRequired = "REASON_REQUIRED"
	// ReasonBindingRequired: the grant has to be bound to a key of the caller's.
	ReasonBindingRequired = "BINDING_REQUIRED"

	// ReasonAgentNotAllowed: the caller may have the target, and the agent that acts for them may not.
	ReasonAgentNotAllowed = "AGENT_NOT_ALLOWED"
	// ReasonDemandsConflict: the caller's rule and their agent's each ask for one of several groups,
	// which can't be put to people as one question.
	ReasonDemandsConflict = "DEMANDS_CONFLICT"
)

// Decision is what the rule set says to one request.
type Decision struct {
	Allowed    bool
	PolicyHash string
	Target     cred.Target   // zero where it is not allowed
	TTL        time.Duration // of the grant from when it becomes active; zero where it is not allowed

	// What else a request that is allowed is given, and on what terms.
	Deliver      cred.Delivery     // where the credential goes: as the rule says, else as the target
	Params       map[string]string // for the issuer: those that were sent, and the rule's defaults
	Demand       *cred.Demand      // whose approval is needed first; nil: nobody's
	Exempt       string            // why nobody's although the rule has one: "on_call/NAME" or "break_glass"
	Review       *ReviewOwed       // what is owed afterwards for break-glass; nil: nothing
	NoticeGroups []string          // who is told of break-glass at once, sorted
	Until        time.Time         // when the time window, or the shift on call, ends; zero: never
	Renewals     int               // how often the grant may be renewed

	// What the caller may know. Rule is the one that allowed, or the one that came nearest; Condition
	// is the condition of it that failed, with the values that were seen. Public says it in a sentence,
	// empty where it is allowed.
	Rule, Reason, Condition, Public string

	// ActorRule is the rule that allowed the agent which acts for the caller; empty without one.
	ActorRule string

	// Visible reports whether the caller may know that the target exists.
	Visible bool

	// Private is the same without regard to what the caller may know, for the log alone.
	Private Finding

	// Rules tell of every rule for the target, for people who may read the policy: deny rules and then
	// the others, each in file order, and then the same again for the agent that acts for the caller.
	// Explain fills it in.
	Rules []RuleResult
}

// ReviewOwed is a look at a grant that is owed because nobody approved it beforehand.
type ReviewOwed struct {
	Groups []string      // whose members can sign it off, sorted
	Within time.Duration // after the grant is made
}

// Finding is why a request is refused, or which rule allowed it.
type Finding struct {
	Rule, Reason, Condition string
}

// RuleResult is what one rule says to a request.
type RuleResult struct {
	Rule    string
	Deny    bool // it is a deny rule, which refuses where it matches
	Actor   bool // it was held against the agent that acts for the caller
	Matched bool
	Reason  string   // empty where it matched, but for a deny rule
	Failed  []string // the conditions that do not hold, each with the values that were seen
	Visible bool     // the caller may know of it
}

// Decide answers a request. A deny rule that applies refuses it. Otherwise the first rule in file
// order whose conditions all hold, and that covers what is asked and how, allows it: for the lifetime
// that was asked for or the rule's, whichever is shorter. Where an agent acts for the caller, the
// answer is what both may have. Decide has no side effects, and its answer depends on its arguments
// alone.
func (s *Set) Decide(who cred.Principal, want cred.Request, now time.Time) Decision {
	return s.decide(&question{&who, &want, now, want.Params})
}

// question is what Decide answers. params are those of the request, and what the rule of whoever
// brought an agent filled in.
type question struct {
	who    *cred.Principal
	want   *cred.Request
	now    time.Time
	params map[string]string
}

func (s *Set) decide(q *question) Decision {
	d := s.decideAlone(q)
	if q.who.Actor == nil || !d.Allowed {
		return d
	}
	return s.withActor(d, q)
}

// decideAlone answers without regard to what the agent may have that acts for the caller.
func (s *Set) decideAlone(q *question) Decision {
	d, want := Decision{PolicyHash: s.hash}, q.want
	if want.TTL < 0 {
		d.Reason, d.Public = ReasonTTLInvalid, "the lifetime that you ask for is negative; leave it out to get the rule's"
		d.Private = Finding{Reason: ReasonTTLInvalid}
		return d
	}
	target, ok := s.targets[want.Target]
	if !ok {
		return d.hidden(want.Target, Finding{Reason: ReasonTargetUnknown})
	}
	in := s.input(q.who, want, q.now)
	in.target, in.params = &target, q.params
	rules := s.rulesFor(want.Target)
	if by, denied := s.denied(in); denied {
		return d.refusedBy(by, in, rules.mayKnow(in))
	}
	for _, i := range rules.candidates(in) {
		o := rules.offers[i]
		if !o.who.holds(in) || !o.when.holds(in) {
			continue
		}
		if t, lacks := o.terms(in); len(lacks) == 0 {
			return d.allow(rules, o, t, in)
		}
	}
	return d.refuse(in, rules)
}

// rulesFor returns the rules of a target.
func (s *Set) rulesFor(target string) *targetRules {
	if t := s.rules[target]; t != nil {
		return t
	}
	return &targetRules{}
}

// Explain is Decide, and tells in Rules what every rule for the target says.
func (s *Set) Explain(who cred.Principal, want cred.Request, now time.Time) Decision {
	d := s.Decide(who, want, now)
	target, ok := s.targets[want.Target]
	for actor := &who; ok && actor != nil; actor = actor.Actor {
		in := s.input(actor, &want, now)
		in.target = &target
		d.Rules = append(d.Rules, s.results(in, actor != &who)...)
	}
	return d
}

// results tell what every rule for the target of an input says.
func (s *Set) results(in *input, ofActor bool) []RuleResult {
	rules := s.rulesFor(in.want.Target)
	mayKnow := rules.mayKnow(in)
	var all []RuleResult
	for _, deny := range s.denials[in.want.Target] {
		all = append(all, deny.result(in, mayKnow))
	}
	for i := range rules.offers {
		all = append(all, rules.offers[i].judge(in, rules).result(in))
	}
	for i := range all {
		all[i].Actor = ofActor
	}
	return all
}

// allow is the answer of a rule that matches, on its terms.
func (d Decision) allow(rules *targetRules, o offer, t terms, in *input) Decision {
	d.Allowed, d.Visible = true, true
	d.Rule, d.Target, d.TTL, d.Deliver = o.name, *in.target, o.ttl, in.target.Deliver
	d.Private = Finding{Rule: o.name}
	d.Params, d.Until, d.Renewals = t.params, t.until, o.renewals
	if o.deliver != "" {
		d.Deliver = o.deliver
	}
	if in.want.TTL > 0 {
		d.TTL = min(in.want.TTL, o.ttl)
	}
	switch {
	case o.review != nil:
		d.Exempt, d.NoticeGroups = exemptBreakGlass, rules.noticed(o.review)
		d.Review = &ReviewOwed{slices.Clone(o.review.Groups), o.review.Within}
	case t.onCall != "":
		d.Exempt = exemptOnCall + t.onCall
	case o.demand != nil:
		demand := o.asked()
		d.Demand = &demand
	}
	if d.Demand == nil && !d.Until.IsZero() {
		d.TTL = min(d.TTL, d.Until.Sub(in.now))
	}
	return d
}

// What Decision.Exempt says.
const (
	exemptBreakGlass = "break_glass"
	exemptOnCall     = "on_call/" // before the schedule's name
)

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
