package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/store"
)

// Exchange decides whether a principal may have what it asks for, and writes the grant. A retry with
// the same idempotency key finds the grant of the first try, whatever became of it; the same key with
// another request is a Conflict. A refusal is recorded and names the rule and the condition that
// failed, where the caller may know them.
func (b *Broker) Exchange(ctx context.Context, who cred.Principal, want cred.Request) (cred.Grant, error) {
	now := b.now()
	digest := want.Digest(who)
	if err := checkRequest(want); err != nil {
		return cred.Grant{}, b.recordDenial(ctx, who, want, digest, nil, err)
	}
	d := b.cfg.Policy.Decide(who, want, now)
	if !d.Allowed {
		return cred.Grant{}, b.recordDenial(ctx, who, want, digest, decisionOf(d), d.Err("exchange"))
	}
	g := cred.NewGrant(cred.NewGrantID(now), who, want, now, now.Add(d.TTL))
	g.Rule, g.PolicyHash, g.RetryKey = d.Rule, d.PolicyHash, retryKey(who, want.IdempotencyKey)
	var out cred.Grant
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if g.RetryKey != "" {
			earlier, found, err := earlierGrant(tx, g)
			if found || err != nil {
				out = earlier
				return err
			}
		}
		out = g
		if err := createGrant(tx, g); err != nil {
			return err
		}
		return tx.Append(audit.Event{
			Kind: audit.ExchangeGranted, Time: now, Peer: peerOf(ctx), Grant: g.ID,
			Principal: audit.PrincipalOf(who), Request: audit.RequestOf(want, digest), Decision: decisionOf(d),
		})
	})
	if e, ok := errors.AsType[*cred.Error](err); ok && e.Reason == reasonKeyReused {
		return cred.Grant{}, b.recordDenial(ctx, who, want, digest, nil, err)
	}
	if err != nil {
		return cred.Grant{}, notRecorded(err)
	}
	return out, nil
}

// reasonKeyReused refuses an idempotency key that was used for another request.
const reasonKeyReused = "IDEMPOTENCY_KEY_REUSED"

// minTTL is the shortest life that can be asked for: the times of a grant token are whole seconds.
const minTTL = time.Second

// checkRequest refuses what no grant token could say, whatever the policy thinks of it.
func checkRequest(want cred.Request) error {
	if want.TTL != 0 && want.TTL < minTTL {
		return &cred.Error{
			Kind: cred.Invalid, Op: "exchange", Reason: policy.ReasonTTLInvalid,
			Public: "the lifetime that you ask for is shorter than a second; leave it out to get the rule's",
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

// isScope implements scope-token of RFC 6749, section 3.3.
func isScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// recordDenial records a refusal, and returns it.
func (b *Broker) recordDenial(ctx context.Context, who cred.Principal, want cred.Request, digest cred.Digest, d *audit.Decision, denied error) error {
	err := b.append(ctx, audit.Event{
		Kind: audit.ExchangeDenied, Principal: audit.PrincipalOf(who),
		Request: audit.RequestOf(want, digest), Decision: d, Error: audit.ErrorOf(denied),
	})
	if err != nil {
		return err
	}
	return denied
}

// earlierGrant finds the grant that an earlier try with the same key made.
func earlierGrant(tx store.Tx, g cred.Grant) (cred.Grant, bool, error) {
	r, err := tx.Get(store.Key{Table: store.Idempotency, ID: g.RetryKey})
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
	if earlier.Digest != g.Digest {
		return cred.Grant{}, false, &cred.Error{
			Kind: cred.Conflict, Op: "exchange", Reason: reasonKeyReused,
			Public: "this idempotency key was used for another request; use a new key for a new request",
		}
	}
	return earlier, true, nil
}

// retryKey names a holder's idempotency key in the store, so that one caller's keys say nothing
// about another's.
func retryKey(who cred.Principal, key string) string {
	if key == "" {
		return ""
	}
	h := sha256.New()
	for _, part := range []string{who.Provider, who.Issuer, who.Subject, key} {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// decisionOf is the decision as the log keeps it: in full, also where the caller learns less.
func decisionOf(d policy.Decision) *audit.Decision {
	return &audit.Decision{
		Allowed: d.Allowed, PolicyHash: d.PolicyHash,
		Rule: d.Private.Rule, Reason: d.Private.Reason, Condition: d.Private.Condition,
	}
}

// GrantToken signs the token that stands for a grant, for as long as the grant lives, in whole seconds
// (RFC 9068). In the last part of a second of a grant's life the answer is Expired already.
func (b *Broker) GrantToken(g cred.Grant) (cred.Secret, error) {
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
	t, ok := b.cfg.Policy.Target(g.Want.Target)
	if !ok {
		return cred.Target{}, &cred.Error{
			Kind: cred.NotFound, Op: "target", Reason: "TARGET_UNKNOWN",
			Public: "the target of this grant is no longer configured; ask for a new grant",
		}
	}
	return t, nil
}

// Offers lists what a principal may ask for.
func (b *Broker) Offers(who cred.Principal) []policy.Offer { return b.cfg.Policy.Offers(who, b.now()) }

// HasRole reports whether the policy gives a principal a role over daypass itself.
func (b *Broker) HasRole(who cred.Principal, role string) bool {
	return b.cfg.Policy.HasRole(who, role)
}

// earliest returns the earlier of two instants, where zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
