package broker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// Exchange decides whether a caller may have what it asks for, and writes the grant: active, or
// pending where people have to agree first. A retry with the same idempotency key finds the grant of
// the first try, whatever became of it, and claims it if it is approved by then; the same key with
// another request is a Conflict. A refusal is recorded and names the rule and the condition that
// failed, where the caller may know them.
func (b *Broker) Exchange(ctx context.Context, who Caller, want cred.Request) (cred.Grant, error) {
	return b.exchange(ctx, who, want, nil)
}

// exchange is Exchange, with a lease that may begin in the transaction of the grant.
func (b *Broker) exchange(ctx context.Context, who Caller, want cred.Request, e *early) (cred.Grant, error) {
	a := b.ask(who, want)
	d, err := b.judge(a)
	if err != nil {
		return cred.Grant{}, b.recordDenial(ctx, a, d, err)
	}
	charge := b.charge(a, d)
	e.prepare(ctx, a, d, func(tx store.Tx) (prospect, error) { return b.foresee(tx, a, d) }, charge)
	var out cred.Grant
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		if out, err = b.grant(ctx, tx, a, d, charge); err != nil {
			return err
		}
		return e.begin(ctx, tx, out)
	})
	if err != nil {
		return cred.Grant{}, b.notGranted(ctx, a, d, err)
	}
	b.waiters.changed(out.ID)
	return out, nil
}

// asked is one exchange as it is asked for.
type asked struct {
	who    Caller
	want   cred.Request
	id     cred.GrantID // of the grant, should this make one
	digest cred.Digest
	retry  string // see retryKey
	now    time.Time
}

func (b *Broker) ask(who Caller, want cred.Request) asked {
	now := b.now()
	return asked{who, want, cred.NewGrantID(now), want.Digest(who.Principal), retryKey(who.Principal, want.IdempotencyKey), now}
}

// judge is everything about a decision that needs no store. The decision is of use beside an error,
// for the log; it is zero where policy was not asked.
func (b *Broker) judge(a asked) (policy.Decision, error) {
	if err := checkRequest(a.want); err != nil {
		return policy.Decision{}, err
	}
	d := b.policy.Load().Decide(a.who.Principal, a.want, a.now)
	if !d.Allowed {
		return d, d.Err("exchange")
	}
	if a.want.Binding != "" && a.who.Key == "" {
		return d, cred.Errorf(cred.Internal, "exchange", "", "a request to be bound by %q came without a key", a.want.Binding)
	}
	if _, err := issuer.Narrow(d.Target.Credential, d.Params); err != nil {
		return d, err
	}
	return d, nil
}

// charge returns what counts an exchange against the quotas of its target, once however often the
// transaction runs that makes the grant or request. Retries and claims make none and count nothing.
func (b *Broker) charge(a asked, d policy.Decision) func() error {
	return sync.OnceValue(func() error {
		if err := b.quotas.Take(a.want.Target, d.Target.Quota, a.who.Principal); err != nil {
			return refused{err}
		}
		return nil
	})
}

// prospect is what a decision that allows leads to as things stand.
type prospect struct {
	outcome  outcome
	grant    cred.Grant // as it was found, or as it will be made
	standing *Standing  // which lets it through; nil: none, or none is needed
}

type outcome int

const (
	wasMade    outcome = iota // an earlier try made it, and it is what it is
	isClaimed                 // an earlier try made it, and it is approved by now
	asksPeople                // they have to agree first
	isGranted                 // it is active at once
)

// foresee tells what a decision that allows leads to, and writes nothing.
func (b *Broker) foresee(tx store.Tx, a asked, d policy.Decision) (prospect, error) {
	if err := checkLocks(tx, a.who.Principal, a.want.Target, a.now); err != nil {
		return prospect{}, err
	}
	if earlier, ok, err := earlierGrant(tx, a); err != nil || ok {
		switch {
		case err != nil:
		case !b.sameCaller(earlier.Holder, a.who.Principal):
			err = refused{errOtherCaller}
		case earlier.State() == cred.GrantApproved:
			return prospect{outcome: isClaimed, grant: earlier}, nil
		}
		return prospect{outcome: wasMade, grant: earlier}, err
	}
	standing, err := b.standingFor(tx, a, d)
	if err != nil {
		return prospect{}, err
	}
	if d.Demand != nil && standing == nil {
		return prospect{outcome: asksPeople}, nil
	}
	p := prospect{outcome: isGranted, grant: a.active(d), standing: standing}
	if standing != nil {
		p.grant.Demand, p.grant.Approvals = d.Demand, standing.lend()
		p.grant.NotAfter = earliest(p.grant.NotAfter, standing.NotAfter)
	}
	return p, nil
}

// grant writes what a decision that allows leads to.
func (b *Broker) grant(ctx context.Context, tx store.Tx, a asked, d policy.Decision, charge func() error) (cred.Grant, error) {
	p, err := b.foresee(tx, a, d)
	switch {
	case err != nil || p.outcome == wasMade:
		return p.grant, err
	case p.outcome == isClaimed:
		return b.claim(ctx, tx, a, d, p.grant)
	}
	if err := charge(); err != nil {
		return cred.Grant{}, err
	}
	if err := spend(tx, a.who.once, a.now); err != nil {
		return cred.Grant{}, err
	}
	if p.outcome == asksPeople {
		return b.request(ctx, tx, a, d)
	}
	g, entry := p.grant, decisionOf(d)
	if p.standing != nil {
		entry.Exempt = "standing/" + p.standing.ID
		if err := p.standing.used(tx); err != nil {
			return g, err
		}
	}
	if err := b.owe(tx, &g, d); err != nil {
		return g, err
	}
	if err := createGrant(tx, g); err != nil {
		return g, err
	}
	g.Rev++
	return g, tx.Append(a.event(ctx, audit.ExchangeGranted, g, entry))
}

// active is the grant of a request that needs nobody's approval now.
func (a asked) active(d policy.Decision) cred.Grant {
	g := cred.NewGrant(a.id, a.who.Principal, a.want, a.now, earliest(a.now.Add(d.TTL), d.Until))
	return a.ruled(g, d)
}

// ruled fills in what a grant has from the decision.
func (a asked) ruled(g cred.Grant, d policy.Decision) cred.Grant {
	g.Rule, g.PolicyHash, g.RetryKey = d.Rule, d.PolicyHash, a.retry
	g.Deliver, g.Params, g.Until, g.Renewals = d.Deliver, d.Params, d.Until, d.Renewals
	g.Key = a.who.Key
	return g
}

func (a asked) event(ctx context.Context, kind audit.Kind, g cred.Grant, d *audit.Decision) audit.Event {
	return audit.Event{
		Kind: kind, Time: a.now, Peer: peerOf(ctx), Grant: g.ID,
		Principal: audit.PrincipalOf(a.who.Principal), Request: audit.RequestOf(a.want, a.digest), Decision: d,
		Approvals: audit.ApprovalsOf(g.Approvals...),
	}
}

// refused marks an error of a transaction as a refusal, which is recorded once the transaction is
// undone.
type refused struct{ why error }

func (r refused) Error() string { return r.why.Error() }

// Unwrap returns why.
func (r refused) Unwrap() error { return r.why }

// notGranted turns an error of the transaction into the caller's, and records it where it is a
// refusal.
func (b *Broker) notGranted(ctx context.Context, a asked, d policy.Decision, err error) error {
	if r, ok := errors.AsType[refused](err); ok {
		return b.recordDenial(ctx, a, d, r.why)
	}
	return notRecorded(err)
}

// spend notes ID tokens that count once, or refuses one that has been spent.
func spend(tx store.Tx, tokens []onceToken, now time.Time) error {
	for _, t := range tokens {
		r, err := unspent(tx, t)
		if err != nil {
			return err
		}
		r.Due, r.Value = laterThan(now, t.until), []byte{1}
		if err := tx.Put(r); err != nil {
			return err
		}
	}
	return nil
}

// unspent returns the record to be written once a token is spent, or refuses one that has been.
func unspent(tx store.Tx, t onceToken) (store.Record, error) {
	key := store.Key{Table: store.Seen, ID: t.id}
	r, err := tx.Get(key)
	if err == nil {
		return r, refused{&cred.Error{
			Kind: cred.Unauthenticated, Op: "exchange", Reason: "TOKEN_REPLAYED", Claim: "jti",
			Public: "this ID token has been used for a grant already, and its provider's tokens count once; request a new one",
		}}
	}
	if cred.KindOf(err) != cred.NotFound {
		return r, err
	}
	return store.Record{Key: key, Rev: r.Rev}, nil
}

// laterThan returns at, or the next millisecond after now where that has passed.
func laterThan(now, at time.Time) time.Time {
	if at.After(now) {
		return at
	}
	return now.Add(time.Millisecond)
}

// reasonKeyReused refuses an idempotency key that was used for another request.
const reasonKeyReused = "IDEMPOTENCY_KEY_REUSED"

// minTTL is the shortest life that can be asked for: the times of a grant token are whole seconds.
const minTTL = time.Second

// maxParams bounds the parameters of a request, which the log keeps whole, in bytes.
const maxParams = 16 << 10

// checkRequest refuses what no grant token could say, whatever the policy thinks of it.
func checkRequest(want cred.Request) error {
	if want.TTL != 0 && want.TTL < minTTL {
		return &cred.Error{
			Kind: cred.Invalid, Op: "exchange", Reason: policy.ReasonTTLInvalid,
			Public: "the lifetime that you ask for is shorter than a second; leave it out to get the rule's",
		}
	}
	if sizeOf(want.Params) > maxParams {
		return &cred.Error{
			Kind: cred.Invalid, Op: "exchange", Reason: "PARAMS_TOO_LARGE",
			Public: "the parameters that you send are larger than 16 KiB altogether; send less",
		}
	}
	for _, scope := range want.Scopes {
		if !isScope(scope) {
			return &cred.Error{
				Kind: cred.Invalid, Op: "exchange", Reason: "SCOPE_MALFORMED",
				Public: "a scope is one or more printable ASCII characters without spaces, quotes and backslashes; correct the scopes that you ask for",
			}
		}
	}
	return nil
}

func sizeOf(params map[string]string) (bytes int) {
	for name, value := range params {
		bytes += len(name) + len(value)
	}
	return bytes
}

// isScope implements scope-token of RFC 6749, section 3.3.
func isScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// recordDenial records a refusal, and returns it. Parameters that no entry could hold are left out; the
// request's digest covers them.
func (b *Broker) recordDenial(ctx context.Context, a asked, d policy.Decision, denied error) error {
	if sizeOf(a.want.Params) > maxParams {
		a.want.Params = nil
	}
	e := audit.Event{
		Kind: audit.ExchangeDenied, Time: a.now, Principal: audit.PrincipalOf(a.who.Principal),
		Request: audit.RequestOf(a.want, a.digest), Error: audit.ErrorOf(denied),
	}
	if d.PolicyHash != "" {
		e.Decision = decisionOf(d)
	}
	if err := b.append(ctx, e); err != nil {
		return err
	}
	return denied
}

// earlierGrant finds the grant that an earlier try with the same key made.
func earlierGrant(tx store.Tx, a asked) (cred.Grant, bool, error) {
	if a.retry == "" {
		return cred.Grant{}, false, nil
	}
	r, err := tx.Get(store.Key{Table: store.Idempotency, ID: a.retry})
	if err != nil {
		if cred.KindOf(err) == cred.NotFound {
			err = nil
		}
		return cred.Grant{}, false, err
	}
	earlier, err := getGrant(tx, cred.GrantID(r.Value))
	if err != nil {
		return cred.Grant{}, false, err
	}
	if earlier.Digest != a.digest || earlier.Key != a.who.Key {
		return cred.Grant{}, false, refused{&cred.Error{
			Kind: cred.Conflict, Op: "exchange", Reason: reasonKeyReused,
			Public: "this idempotency key was used for another request; use a new key for a new request",
		}}
	}
	return earlier, true, nil
}

// retryKey names a holder's idempotency key in the store, so that one caller's keys say nothing
// about another's.
func retryKey(who cred.Principal, key string) string {
	if key == "" {
		return ""
	}
	return hashOf(who.Provider, who.Issuer, who.Subject, key)
}

// decisionOf is the decision as the log keeps it: in full, also where the caller learns less.
func decisionOf(d policy.Decision) *audit.Decision {
	return &audit.Decision{
		Allowed: d.Allowed, PolicyHash: d.PolicyHash,
		Rule: d.Private.Rule, Reason: d.Private.Reason, Condition: d.Private.Condition,
		Demand: d.Demand, Exempt: d.Exempt,
	}
}

// GrantToken signs the token that stands for a grant, for as long as the grant lives, in whole seconds
// (RFC 9068). In the last part of a second of a grant's life the answer is Expired already.
func (b *Broker) GrantToken(g cred.Grant) (cred.Secret, error) {
	if isForRotation(g) {
		return cred.Secret{}, &cred.Error{
			Kind: cred.Denied, Op: "exchange", Reason: "ROTATION_GRANT",
			Public: "this stands for the approval of a rotation and gives nobody a credential; 'daypass rotations list' tells how the rotation stands",
		}
	}
	now := b.now()
	at := now
	if g.NotAfter.Unix() <= now.Unix() { // no whole second is left
		at = g.NotAfter
	}
	if err := g.Usable(at); err != nil {
		return cred.Secret{}, err
	}
	c := token.Claims{
		Issuer: b.cfg.URL, Subject: g.Holder.Subject, Audience: []string{token.Audience(g.Want.Target)},
		ClientID: g.Holder.Provider, IssuedAt: now, NotBefore: g.NotBefore, ExpiresAt: g.NotAfter,
		ID: string(cred.NewUseID(now)), Scopes: g.Want.Scopes,
		Grant: token.GrantClaims{ID: g.ID, Target: g.Want.Target},
	}
	switch g.Want.Binding {
	case cred.BindDPoP:
		c.Confirmation = &token.Confirmation{KeyThumbprint: g.Key}
	case cred.BindMTLS:
		c.Confirmation = &token.Confirmation{CertificateThumbprint: g.Key}
	}
	if g.Holder.Actor != nil {
		c.Actor = &token.Actor{Issuer: g.Holder.Actor.Issuer, Subject: g.Holder.Actor.Subject}
	}
	signed, err := b.cfg.Keys.Sign(c)
	if err != nil {
		return cred.Secret{}, err
	}
	return cred.SecretString(signed), nil
}

// Target returns the target of a grant as the policy in force defines it.
func (b *Broker) Target(g cred.Grant) (cred.Target, error) {
	t, ok := b.policy.Load().Target(g.Want.Target)
	if !ok {
		return cred.Target{}, &cred.Error{
			Kind: cred.NotFound, Op: "target", Reason: "TARGET_UNKNOWN",
			Public: "the target of this grant is no longer configured; ask for a new grant",
		}
	}
	return t, nil
}

// Offers lists what a principal may ask for.
func (b *Broker) Offers(who cred.Principal) []policy.Offer {
	return b.policy.Load().Offers(who, b.now())
}

// HasRole reports whether the policy gives a principal a role over daypass itself.
func (b *Broker) HasRole(who cred.Principal, role string) bool {
	return b.policy.Load().HasRole(who, role)
}

// earliest returns the earlier of two instants, where zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
