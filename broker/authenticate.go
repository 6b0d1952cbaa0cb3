package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/internal/jws"
	"github.com/daypass-io/daypass/store"
)

type peerKey struct{}

// WithPeer returns a context that carries the caller's network address, for the log.
func WithPeer(ctx context.Context, addr string) context.Context {
	return context.WithValue(ctx, peerKey{}, addr)
}

func peerOf(ctx context.Context) string {
	addr, _ := ctx.Value(peerKey{}).(string)
	return addr
}

// Caller is who makes a call, and what is known of how it proved that.
type Caller struct {
	cred.Principal           // with Actor where an agent acts for it
	SignedIn       time.Time // when it last showed who it is (auth_time); zero: unknown
	// Key is the thumbprint of the key that it proved to have, where the request asks for a Binding.
	Key string

	once []onceToken
}

// onceToken is an ID token that counts once, by the key of its record.
type onceToken struct {
	id    string
	until time.Time // when it is refused anyway
}

// Authenticate turns an ID token into a caller. A refusal is recorded, with the token's fingerprint;
// if it can't be recorded the caller is told Unavailable.
func (b *Broker) Authenticate(ctx context.Context, idToken string) (Caller, error) {
	v, err := b.cfg.Identity.Verify(ctx, idToken)
	if err != nil {
		return Caller{}, b.refuse(ctx, audit.Event{Kind: audit.IdentityRefused}, idToken, err)
	}
	who := Caller{Principal: v.Principal, SignedIn: v.AuthTime}
	who.counts(v)
	return who, nil
}

// counts notes a token that may be spent once.
func (c *Caller) counts(v identity.Verified) {
	if v.OneTime {
		c.once = append(c.once, onceToken{hashOf(v.Principal.Provider, v.Principal.Issuer, v.ID), v.ExpiresAt})
	}
}

// ActFor returns the caller with the agent that acts for it, whose ID token it sent along (RFC 8693,
// section 4.1). A refusal is recorded.
func (b *Broker) ActFor(ctx context.Context, who Caller, actorToken string) (Caller, error) {
	v, err := b.cfg.Identity.Verify(ctx, actorToken)
	if err == nil && v.Principal.SamePerson(who.Principal) {
		err = &cred.Error{
			Kind: cred.Invalid, Op: "authenticate", Reason: "ACTOR_IS_SUBJECT",
			Public: "the actor token is the caller's own; send the agent's token, or none",
		}
	}
	if err != nil {
		return Caller{}, b.refuse(ctx, audit.Event{Kind: audit.IdentityRefused, Principal: audit.PrincipalOf(who.Principal)}, actorToken, err)
	}
	agent := v.Principal
	agent.Kind = cred.KindAgent
	who.Principal = who.Clone()
	who.Actor = &agent
	who.once = slices.Clip(slices.Clone(who.once))
	who.counts(v)
	return who, nil
}

// AuthenticateGrant turns a grant token into the holder of its grant, and the grant's ID. It is how
// a caller whose ID token has ended meanwhile can still give its grant back. Of a token that is bound
// to a key no proof is asked: whoever has found it may end what it stands for, and no more.
func (b *Broker) AuthenticateGrant(ctx context.Context, tok string) (Caller, cred.GrantID, error) {
	claims, err := b.verifyGrantToken(ctx, tok)
	if err != nil {
		return Caller{}, "", b.refuse(ctx, audit.Event{Kind: audit.IdentityRefused}, tok, err)
	}
	var g cred.Grant
	err = b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		g, err = getGrant(tx, claims.Grant.ID)
		return err
	})
	if cred.KindOf(err) == cred.NotFound {
		err = b.refuse(ctx, audit.Event{Kind: audit.IdentityRefused, Grant: claims.Grant.ID}, tok, err)
	}
	if err != nil {
		return Caller{}, "", err
	}
	return Caller{Principal: g.Holder}, g.ID, nil
}

// IssuedByUs reports whether a token says that we issued it. It verifies nothing; it only tells which
// way of verifying applies.
func (b *Broker) IssuedByUs(tok string) bool {
	parsed, err := jws.Parse(tok, token.MaxBytes)
	return err == nil && parsed.Claims["iss"] == b.cfg.URL
}

// verifyGrantToken verifies one of our own tokens, whatever target it is for: its audience must be
// that of the target that it names. Whether whoever shows a token that is bound to a key has that key
// is for its caller to know.
func (b *Broker) verifyGrantToken(ctx context.Context, tok string) (token.Claims, error) {
	parsed, err := jws.Parse(tok, token.MaxBytes)
	if err != nil {
		return token.Claims{}, err
	}
	member, _ := parsed.Claims["daypass"].(map[string]any)
	target, _ := member["target"].(string)
	return b.tokens.Verify(ctx, tok, token.Audience(target))
}

// Refused records that a known principal was kept from a call by its role, and returns the refusal.
func (b *Broker) Refused(ctx context.Context, who cred.Principal, call string) error {
	denied := &cred.Error{
		Kind: cred.Denied, Op: call, Reason: "ROLE_MISSING",
		Public: "your identity does not have the role that this call needs",
	}
	err := b.append(ctx, audit.Event{
		Kind: audit.AccessDenied, Principal: audit.PrincipalOf(who), Error: audit.ErrorOf(denied),
		Detail: map[string]any{"call": call},
	})
	if err != nil {
		return err
	}
	return denied
}

// RefuseUnidentified records that somebody called who showed nothing to identify it, and returns why
// it was refused.
func (b *Broker) RefuseUnidentified(ctx context.Context, call string, why error) error {
	e := audit.Event{Kind: audit.IdentityRefused, Error: audit.ErrorOf(why), Detail: map[string]any{"call": call}}
	return b.recordStranger(ctx, e, why)
}

// RefuseBinding records that a caller did not prove to have the key that it wants its grant bound to,
// and returns why.
func (b *Broker) RefuseBinding(ctx context.Context, who cred.Principal, why error) error {
	err := b.append(ctx, audit.Event{
		Kind: audit.ExchangeDenied, Principal: audit.PrincipalOf(who), Error: audit.ErrorOf(why),
	})
	if err != nil {
		return err
	}
	return why
}

// refuse records a token that was not honoured by its fingerprint, and returns why. The event says
// what else is known.
func (b *Broker) refuse(ctx context.Context, e audit.Event, tok string, why error) error {
	e.Error = audit.ErrorOf(why)
	e.Detail = map[string]any{"token_fingerprint": cred.SecretString(tok).Fingerprint().String()}
	if cause, ok := errors.AsType[*cred.Error](why); ok && cause.Claim != "" {
		e.Detail["claim"] = cause.Claim
	}
	return b.recordStranger(ctx, e, why)
}

// Refusals of callers that nobody knows are recorded one by one up to this many, and so many a second;
// the rest are counted, and the next entry says how many there were. Without a bound anybody could
// fill the disk of a broker that refuses to work when its disk is full.
const (
	strangersBurst     = 5000
	strangersPerSecond = 50
)

// recordStranger records a refusal of somebody unknown, and returns why it was refused.
func (b *Broker) recordStranger(ctx context.Context, e audit.Event, why error) error {
	if !b.strangers.AllowN(b.now(), 1) {
		b.unrecorded.Add(1)
		return why
	}
	if n := b.unrecorded.Swap(0); n > 0 {
		e.Detail["unrecorded_before"] = n
	}
	if err := b.append(ctx, e); err != nil {
		return err
	}
	return why
}

// append records one event that changes nothing else, at the time that it names, or now.
func (b *Broker) append(ctx context.Context, e audit.Event) error {
	if e.Peer = peerOf(ctx); e.Time.IsZero() {
		e.Time = b.now()
	}
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error { return tx.Append(e) })
	if err != nil {
		return notRecorded(err)
	}
	return nil
}

// notRecorded says what it means for the caller that a store takes no writes now. All else stays what
// it is: a refusal from within the transaction, an event that no log can hold, damage.
func notRecorded(err error) error {
	if cred.KindOf(err) != cred.Unavailable {
		return err
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "record", Reason: "NOT_RECORDED",
		Public: "the broker could not write this to its store, so it does not count as done; try again", Err: err,
	}
}

// hashOf names something by several parts in the store, so that no choice of parts looks like another.
func hashOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}
