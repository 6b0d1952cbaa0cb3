package proxy

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
)

// sessionKey is what a session belongs to: one grant, for one principal, to one target. Two
// principals never share a session, even if their tokens name the same grant.
type sessionKey struct {
	grant                                  cred.GrantID
	issuer, subject, actor, client, target string
	bound                                  token.Confirmation // zero: to nothing
}

func keyOf(c token.Claims, target string) sessionKey {
	key := sessionKey{
		grant: c.Grant.ID, issuer: c.Issuer, subject: c.Subject, actor: actors(c.Actor),
		client: c.ClientID, target: target,
	}
	if c.Confirmation != nil {
		key.bound = *c.Confirmation
	}
	return key
}

// actors writes a chain of actors as one string that no other chain has.
func actors(a *token.Actor) string {
	if a == nil {
		return ""
	}
	var b strings.Builder
	for ; a != nil; a = a.Actor {
		b.WriteString(a.Issuer + "\x00" + a.Subject + "\x00")
	}
	return b.String()
}

// Open is OpenBound for a caller that shows nothing but its token.
func (p *Proxy) Open(ctx context.Context, tok cred.Secret, target string) (*Session, error) {
	return p.OpenBound(ctx, tok, target, Bearer)
}

// OpenBound verifies a grant token for a target, has shown say whether the caller holds the keys
// that it is bound to, and returns the session that spends its credential. It redeems the token if no
// session of the same grant, principal and keys is live. Concurrent calls share one redemption, which
// goes on when the caller that began it leaves; its failure is remembered for a second.
//
// The error is a *cred.Error or wraps one; the caller hands it to Refuse, so that it is recorded.
func (p *Proxy) OpenBound(ctx context.Context, tok cred.Secret, target string, shown Possession) (*Session, error) {
	if err := p.Ready(); err != nil {
		return nil, err
	}
	if !p.cfg.Serves(target) {
		return nil, errNotServed
	}
	claims, err := p.cfg.Verifier.Verify(ctx, tok.RevealString(), token.Audience(target))
	if err != nil {
		return nil, err
	}
	if err := shown(claims.Confirmation); err != nil {
		return nil, &unprovenError{&openError{claims.Grant.ID, target, err}}
	}
	s, err := p.session(ctx, tok, keyOf(claims, target))
	if err != nil {
		return nil, &openError{claims.Grant.ID, target, err}
	}
	return s, nil
}

// session returns the live session of a key, or joins or starts the redemption that makes one.
func (p *Proxy) session(ctx context.Context, tok cred.Secret, key sessionKey) (*Session, error) {
	p.mu.RLock()
	s := p.sessions[key]
	p.mu.RUnlock()
	if s != nil && s.alive() == nil {
		return s, nil
	}
	r, err := p.join(tok, key)
	if err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		if r.err != nil {
			return nil, r.err
		}
		return r.session, r.session.alive()
	case <-ctx.Done():
		return nil, &cred.Error{Kind: cred.Unavailable, Op: "proxy.open", Reason: "CALLER_LEFT", Public: "the caller left before the grant was redeemed", Err: ctx.Err()}
	}
}

// redeem is one redemption, on which any number of callers wait.
type redeem struct {
	done    chan struct{} // closed when the two below are set
	session *Session
	err     error
}

func (p *Proxy) join(tok cred.Secret, key sessionKey) (*redeem, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return nil, errStopped
	}
	if p.isRevoked(key.grant) {
		return nil, errRevoked
	}
	if s := p.sessions[key]; s != nil && s.alive() == nil {
		done := make(chan struct{})
		close(done)
		return &redeem{done: done, session: s}, nil
	}
	if r := p.redeems[key]; r != nil {
		return r, nil
	}
	if len(p.sessions)+len(p.redeems) >= p.cfg.MaxSessions {
		return nil, errCrowded
	}
	r := &redeem{done: make(chan struct{})}
	p.redeems[key] = r
	p.flights.Go(func() { p.redeem(r, tok, key) })
	return r, nil
}

// failureKept is how long the failure of a redemption answers for others of the same key, so that a
// client that tries again in a tight loop does not press on the broker.
const failureKept = time.Second

// redeem asks the Redeemer and publishes the session, unless the grant was revoked meanwhile.
func (p *Proxy) redeem(r *redeem, tok cred.Secret, key sessionKey) {
	defer close(r.done)
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.RedeemTimeout)
	defer cancel()
	got, err := p.cfg.Redeemer.Redeem(ctx, tok)
	if err == nil {
		r.session, err = p.newSession(key, got)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		err = p.publish(key, r.session)
	}
	if r.err = redeemError(err); err == nil {
		delete(p.redeems, key)
		return
	}
	time.AfterFunc(failureKept, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.redeems, key)
	})
}

// publish makes a new session known, or ends it. The caller holds p.mu.
func (p *Proxy) publish(key sessionKey, s *Session) error {
	var cause error
	switch {
	case p.ctx.Err() != nil:
		cause = errStopped
	case p.isRevoked(key.grant):
		cause = errRevoked
	default:
		p.sessions[key] = s
		s.arm()
		return nil
	}
	s.cancel(cause)
	return cause
}

// redeemError gives an error that nobody classified a text for people.
func redeemError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*cred.Error](err); ok {
		return err
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "proxy.redeem", Reason: "REDEEM_FAILED",
		Public: "the broker did not redeem this grant; try again in a moment", Err: err,
	}
}
