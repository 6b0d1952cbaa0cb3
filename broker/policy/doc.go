// Package policy decides who may have what. It is pure: no clock, no network, no files. The broker,
// and the command line's explain and replay, call the same function on the same text.
//
// A Set is compiled from targets, groups, schedules, roles, deny rules and rules. A rule names who (an
// expression in CEL over principal, request, target and now), what they may have (targets, scopes and
// parameters), and on what terms: for how long, in which time windows, bound to a key, with whose
// approval. Nothing is allowed unless a rule allows it, and nothing that a deny rule refuses. Of the
// rules that match, the first in file order decides; scopes and parameters of several rules are never
// added up. What an agent may have that acts for somebody is what both may have.
//
// Expressions are evaluated one conjunct (the parts between the outermost &&) at a time. A conjunct
// that is false, that fails to evaluate, or that costs too much makes the rule not match, and the
// explanation says which one and what it saw; for a deny rule, one that fails counts as true. A claim
// that the token lacks is such a failure: "claim ref is absent". Test for optional claims with
// has(principal.claims.ref). Groups that are unknown are a failure too, for whatever needs them.
//
// Conjuncts that compare one text of the principal with literals need no CEL (see simple.go). Rules are
// indexed by them, so that a decision does not take longer where there are more rules.
//
// In these expressions x.matches("p") takes a literal RE2 pattern, and is true where the pattern
// matches all of x; see package fullmatch.
//
// A caller who is refused learns why only where they are entitled to it: where a rule for the target
// has a condition on principal.provider or principal.issuer and every such condition holds for them,
// or where all its conditions on who they are hold. To everybody else a target that they may not
// have looks like one that does not exist.
package policy
