// Package policy decides who may have what. It is pure: no clock, no network, no files. The broker,
// and the command line's explain and replay, call the same function on the same text.
//
// A Set is compiled from targets, roles and rules. A rule names who (an expression in CEL over
// principal, request, target and now), what they may have (targets and scopes), and for how long.
// Nothing is allowed unless a rule allows it. Of the rules that match, the first in file order
// decides: it names the grant and sets its lifetime. A rule matches where its target is the one that
// is asked for, every condition of who and when is true, and every scope that is asked for is among
// its own; scopes of several rules are never added up.
//
// Expressions are evaluated one conjunct (the parts between the outermost &&) at a time. A conjunct
// that is false, that fails to evaluate, or that costs too much makes the rule not match, and the
// explanation says which one and what it saw. A claim that the token lacks is such a failure:
// "claim ref is absent". Test for optional claims with has(principal.claims.ref).
//
// In these expressions x.matches("p") takes a literal RE2 pattern, and is true where the pattern
// matches all of x; see package fullmatch.
//
// A caller who is refused learns why only where they are entitled to it: where a rule for the target
// has a condition on principal.provider or principal.issuer and every such condition holds for them,
// or where all its conditions on who they are hold. To everybody else a target that they may not
// have looks like one that does not exist.
package policy
