package proxy

import (
	"errors"
	"maps"
	"strings"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// refusal makes the error of a rule that stands in the proxy's code. The rule's name is what the
// log and the caller see; in capitals it is the reason for programs.
func refusal(kind cred.Kind, rule, public string) *cred.Error {
	return &cred.Error{Kind: kind, Op: "proxy", Rule: rule, Reason: strings.ToUpper(rule), Public: public}
}

// because returns a copy of a refusal with a private cause.
func because(e *cred.Error, cause error) *cred.Error {
	c := *e
	c.Err = cause
	return &c
}

// Refusals that have no better place.
var (
	errRevoked = refusal(cred.Denied, "grant_revoked", "this grant was revoked; ask for a new one")
	errExpired = refusal(cred.Expired, "grant_expired", "this grant, or the credential behind it, has ended; ask for a new one")
	errStopped = refusal(cred.Unavailable, "proxy_stopping", "this proxy is stopping; try again in a moment")
	errStale   = refusal(cred.Unavailable, "revocations_stale",
		"this proxy has lost touch with the broker and can't tell which grants are revoked, so it refuses; try again in a moment")
	errUnlogged = refusal(cred.Unavailable, "log_unavailable",
		"this proxy can't record the use, so it refuses it; nothing was forwarded; try again in a moment")
	errBusy = refusal(cred.Unavailable, "too_many_uses",
		"this proxy has as many operations in flight as it may; try again in a moment")
	errCrowded = refusal(cred.Unavailable, "too_many_sessions",
		"this proxy holds as many credentials as it may; try again later")
	errNotServed = refusal(cred.NotFound, "target_unknown", "this proxy serves no such target")
	errBound     = refusal(cred.Denied, "bound_token",
		"this grant token is bound to a key in a way that can't be checked here; ask for a token that is not bound")
	errMismatch = refusal(cred.Internal, "redemption_mismatch", "")
)

// openError adds to a failure to open a session whose grant it was, for the record.
type openError struct {
	grant  cred.GrantID
	target string
	error
}

func (e *openError) Unwrap() error { return e.error }

// unprovenError is an openError of a caller that did not show that the token is its own: for the
// record as much of a stranger as one without a token.
type unprovenError struct{ *openError }

func (e *unprovenError) Unwrap() error { return e.openError }

// Refuse records that an operation was refused before a session was open, and returns the ID under
// which it stands in the log. Refusals by Begin are recorded by Begin.
func (p *Proxy) Refuse(op Operation, err error) cred.UseID {
	op = op.identified(p.cfg.Now())
	e := op.event(audit.UseRefused, p.cfg.Now(), p.cfg.Name)
	e.Error, e.Use.Rule = audit.ErrorOf(err), ruleOf(err)
	open, known := errors.AsType[*openError](err)
	if known {
		e.Grant, e.Detail = open.grant, map[string]any{"target": open.target}
	}
	_, unproven := errors.AsType[*unprovenError](err)
	p.recordRefusal(e, known && !unproven)
	return op.ID
}

// recordRefusal queues a refusal's record. What can't be queued is counted, and the next record
// tells the number.
func (p *Proxy) recordRefusal(e audit.Event, known bool) {
	if !known && !p.strangers.Allow() {
		p.unrecorded.Add(1)
		return
	}
	if !p.recorder.reserve() {
		p.unrecorded.Add(1)
		return
	}
	if n := p.unrecorded.Swap(0); n > 0 {
		if e.Detail = maps.Clone(e.Detail); e.Detail == nil {
			e.Detail = map[string]any{}
		}
		e.Detail["unrecorded_refusals"] = float64(n)
	}
	p.recorder.finish(e)
}

// ruleOf returns the rule that refused, or the reason where no rule did.
func ruleOf(err error) string {
	e, ok := errors.AsType[*cred.Error](err)
	switch {
	case !ok:
		return ""
	case e.Rule != "":
		return e.Rule
	default:
		return strings.ToLower(e.Reason)
	}
}
