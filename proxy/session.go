package proxy

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// Session is one redeemed grant of one principal: the credential, where it is spent, and until
// when. It is shared by all operations of that principal under that grant, and safe for concurrent
// use.
type Session struct {
	p        *Proxy
	key      sessionKey
	redeemed Redemption
	notAfter time.Time
	holder   *audit.Principal // as the records of uses name it; shared by them, never changed
	detail   map[string]any   // the target and the lease for these records; shared, never changed
	masks    masks
	upstream *upstream // nil for a target that is not spent over HTTP

	ctx    context.Context // done when the session has ended; its cause says why
	cancel context.CancelCauseFunc
	timer  *time.Timer // ends the session at notAfter; owner: Proxy.mu, set once by arm
}

// newSession checks what was redeemed against what was asked for. The session is not yet known to
// anybody.
func (p *Proxy) newSession(key sessionKey, r Redemption) (*Session, error) {
	s := &Session{
		p: p, key: key, redeemed: r, notAfter: earlier(r.NotAfter, r.Credential.NotAfter), holder: holderOf(r.Holder, 2),
		detail: map[string]any{"target": key.target, "lease": string(r.Lease)},
	}
	if r.Grant != key.grant || r.Target.Name != key.target {
		return nil, errMismatch
	}
	if s.notAfter.IsZero() || !p.cfg.Now().Before(s.notAfter) {
		return nil, errExpired
	}
	var err error
	if r.Target.HTTP != nil {
		if s.upstream, err = newUpstream(*r.Target.HTTP, r.Credential); err != nil {
			return nil, err
		}
	}
	if s.masks, err = newMasks(r.Target.Mask, r.Credential, s.upstream); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(p.ctx)
	return s, nil
}

// earlier returns the earlier of two instants, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// holderOf returns a principal as a record of a use names it: who, without groups and claims, which
// the grant's own record has. Its texts are bounded, and so is the chain of actors, so that no
// record is too large to be written.
func holderOf(p cred.Principal, depth int) *audit.Principal {
	out := &audit.Principal{
		Provider: short(p.Provider), Issuer: short(p.Issuer), Subject: short(p.Subject),
		Name: short(p.Name), Kind: p.Kind,
	}
	if p.Actor != nil && depth > 0 {
		out.Actor = holderOf(*p.Actor, depth-1)
	}
	return out
}

// arm makes the session end by itself at its time.
func (s *Session) arm() {
	s.timer = time.AfterFunc(s.notAfter.Sub(s.p.cfg.Now()), func() { s.end(errExpired) })
}

// end ends the session for a cause and cuts its operations. Only the first call has an effect.
func (s *Session) end(cause *cred.Error) {
	s.cancel(cause)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.timer.Stop()
	if s.p.sessions[s.key] == s {
		delete(s.p.sessions, s.key)
	}
}

// alive returns nil, or why no more operations may begin.
func (s *Session) alive() error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if !s.p.cfg.Now().Before(s.notAfter) {
		return errExpired
	}
	return nil
}

// Done is closed when the session has ended: at its time, on revocation, or because the proxy
// stops. What it has in flight is cut then.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Cause says why the session has ended, nil before.
func (s *Session) Cause() error { return context.Cause(s.ctx) }

// NotAfter returns when the session ends at the latest.
func (s *Session) NotAfter() time.Time { return s.notAfter }

// Redemption returns what the session was opened with, for a front end to spend.
func (s *Session) Redemption() Redemption { return s.redeemed }
