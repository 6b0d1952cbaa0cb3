package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	d := b.cfg.Policy.Decide(who, want, now)
	if !d.Allowed {
		return cred.Grant{}, b.denyExchange(ctx, who, want, digest, d)
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
	if err != nil {
		return cred.Grant{}, notRecorded(err)
	}
	return out, nil
}

func (b *Broker) denyExchange(ctx context.Context, who cred.Principal, want cred.Request, digest cred.Digest, d policy.Decision) error {
	denied := &cred.Error{
		Kind: cred.Denied, Op: "exchange", Reason: d.Reason, Public: d.Public,
	}
	if d.Visible {
		denied.Rule, denied.Claim = d.Rule, d.Condition
	}
	err := b.append(ctx, audit.Event{
		Kind: audit.ExchangeDenied, Principal: audit.PrincipalOf(who),
		Request: audit.RequestOf(want, digest), Decision: decisionOf(d), Error: audit.ErrorOf(denied),
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
			Kind: cred.Conflict, Op: "exchange", Reason: "IDEMPOTENCY_KEY_REUSED",
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

func decisionOf(d policy.Decision) *audit.Decision {
	return &audit.Decision{Allowed: d.Allowed, Rule: d.Rule, PolicyHash: d.PolicyHash, Reason: d.Reason, Condition: d.Condition}
}

// GrantToken signs the token that stands for a grant, for as long as the grant lives (RFC 9068).
func (b *Broker) GrantToken(g cred.Grant) (cred.Secret, error) {
	now := b.now()
	if err := g.Usable(now); err != nil {
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
