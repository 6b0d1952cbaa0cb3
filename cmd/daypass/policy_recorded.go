package main

import (
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
)

// recordedFrom returns what a log's entry says that a rule set decided; false where the request was
// refused by something else: its identity or form, a limit, a lock, a token that was spent.
func recordedFrom(e audit.Event) (policy.Recorded, bool) {
	if e.Principal == nil || e.Request == nil || e.Decision == nil {
		return policy.Recorded{}, false
	}
	if e.Kind == audit.ExchangeDenied && e.Decision.Allowed {
		return policy.Recorded{}, false // the rules allowed, and something else refused
	}
	d := e.Decision
	return policy.Recorded{
		Who: principalFrom(*e.Principal), Want: requestFrom(*e.Request), At: e.Time,
		Allowed: d.Allowed, Rule: d.Rule, Reason: d.Reason, Demand: d.Demand, Exempt: d.Exempt,
	}, true
}

func principalFrom(p audit.Principal) cred.Principal {
	out := cred.Principal{
		Provider: p.Provider, Issuer: p.Issuer, Subject: p.Subject, Name: p.Name, Kind: p.Kind,
		Groups: p.Groups, Claims: p.Claims, Cautions: p.Cautions,
	}
	if p.Actor != nil {
		actor := principalFrom(*p.Actor)
		out.Actor = &actor
	}
	return out
}

func requestFrom(r audit.Request) cred.Request {
	return cred.Request{
		Target: r.Target, Scopes: r.Scopes, Params: r.Params, TTL: time.Duration(r.TTLSeconds) * time.Second,
		Reason: r.Reason, Binding: cred.Binding(r.Binding),
	}
}
