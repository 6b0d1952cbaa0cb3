package vault

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
)

// session is the issuer's own token, held in memory alone.
type session struct {
	token cred.Secret
	about tokenInfo     // as it was at sign-in
	ended chan struct{} // closed when the keeper lets go of it

	mu        sync.Mutex    // owns what follows
	ttl       time.Duration // as granted last; zero: it never ends
	expires   time.Time     // zero: never
	renewable bool
}

func newSession(a *api.SecretAuth, about tokenInfo, asked time.Time) *session {
	s := &session{token: cred.SecretString(a.ClientToken), about: about, ended: make(chan struct{})}
	s.granted(a, asked)
	return s
}

// granted takes over what Vault said when it was asked at an instant. Counting from the question
// and not from the answer errs towards an earlier end.
func (s *session) granted(a *api.SecretAuth, asked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl, s.renewable = time.Duration(a.LeaseDuration)*time.Second, a.Renewable
	s.expires = time.Time{}
	if s.ttl > 0 {
		s.expires = asked.Add(s.ttl)
	}
}

// end returns when the token ends; zero means never.
func (s *session) end() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expires
}

// endless reports whether the token lives as long as it is renewed: it is periodic or has no end,
// and has no maximum.
func (s *session) endless() bool {
	return s.about.explicitMaxTTL == 0 && (s.about.period > 0 || s.end().IsZero())
}

// over reports whether the token is at its end.
func (s *session) over(now time.Time) bool {
	end := s.end()
	return !end.IsZero() && !now.Before(end)
}

// nextRenewal returns how long to wait before the token is renewed: half of what is left, so that
// many tries fit in. Zero means that there is nothing to renew.
func (s *session) nextRenewal(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expires.IsZero() || !s.renewable {
		return 0
	}
	return max(s.expires.Sub(now)/2, 100*time.Millisecond)
}

// keeper signs in, once for all who wait, and renews the token in the background.
type keeper struct {
	client  *client
	signIn  signIn
	timeout time.Duration

	life   context.Context // ends with close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	flight singleflight.Group

	mu  sync.Mutex // owns cur
	cur *session
}

func newKeeper(c *client, way signIn, timeout time.Duration) *keeper {
	k := &keeper{client: c, signIn: way, timeout: timeout}
	k.life, k.cancel = context.WithCancel(context.Background())
	return k
}

func (k *keeper) close() {
	k.mu.Lock() // so that no login begins to keep its session alive behind Wait's back
	k.cancel()
	k.mu.Unlock()
	k.wg.Wait()
}

// current returns the session, and signs in where there is none.
func (k *keeper) current(ctx context.Context) (*session, error) {
	if s := k.held(); s != nil {
		return s, nil
	}
	// The flight has a deadline of its own: whoever began it may go away, the others still wait.
	result := k.flight.DoChan("login", func() (any, error) { return k.login() })
	select {
	case <-ctx.Done():
		return nil, notIssued("vault.login", publicGone, ctx.Err())
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*session), nil
	}
}

func (k *keeper) held() *session {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cur != nil && k.cur.over(time.Now()) {
		k.letGo(k.cur)
	}
	return k.cur
}

// letGo forgets a session. The caller holds mu.
func (k *keeper) letGo(s *session) {
	if k.cur == s {
		k.cur = nil
		close(s.ended)
	}
}

func (k *keeper) login() (*session, error) {
	if s := k.held(); s != nil { // a flight that has just landed
		return s, nil
	}
	ctx, cancel := context.WithTimeout(k.life, k.timeout)
	defer cancel()
	asked := time.Now()
	auth, err := k.signIn.login(ctx, k.client)
	if err != nil {
		return nil, signInFailed(err)
	}
	about, err := k.client.lookupSelf(ctx, cred.SecretString(auth.ClientToken))
	if err != nil && statusOf(err) != 403 { // without that right it is not known, see Check
		return nil, signInFailed(err)
	}
	s := newSession(auth, about, asked)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.life.Err() != nil {
		return nil, notIssued("vault.login", publicGone, k.life.Err())
	}
	k.cur = s
	k.wg.Go(func() { k.keepAlive(s) })
	return s, nil
}

// signInFailed names a refusal for what it is.
func signInFailed(err error) error {
	if s := statusOf(err); s >= 400 && s < 500 && !passing(err) {
		return notIssued("vault.login", publicSignIn, err)
	}
	return harmless("vault.login", err)
}

// keepAlive renews a session until it is let go of. A refusal means that the token is gone.
func (k *keeper) keepAlive(s *session) {
	for {
		wait := s.nextRenewal(time.Now())
		if wait == 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-k.life.Done():
		case <-s.ended:
		case <-timer.C:
			k.renew(k.life, s)
			continue
		}
		timer.Stop()
		return
	}
}

// renew asks for a further life and reports whether Vault granted one. A token that is gone is let
// go of; the next request then signs in anew.
func (k *keeper) renew(ctx context.Context, s *session) bool {
	asked := time.Now()
	answer, err := k.client.do(ctx, request{method: "POST", path: "auth/token/renew-self", token: s.token})
	if err == nil && answer != nil && answer.Auth != nil {
		s.granted(answer.Auth, asked)
		return true
	}
	if statusOf(err) == 403 || s.over(time.Now()) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.letGo(s)
	}
	return false
}

// lost asks whether a session's token has ended, and if so lets go of it: Vault answers a dead token
// and a missing right with the same status.
func (k *keeper) lost(ctx context.Context, s *session) bool {
	_, err := k.client.do(ctx, request{method: "GET", path: "auth/token/lookup-self", token: s.token})
	if statusOf(err) != 403 {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.letGo(s)
	return true
}

// coveringUntil returns a session that, as far as Vault lets it, lives until an instant even if
// nobody renews it from now on.
func (k *keeper) coveringUntil(ctx context.Context, until time.Time) (*session, error) {
	s, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	if end := s.end(); end.IsZero() || !end.Before(until) {
		return s, nil
	}
	renewed := s.worthRenewing(time.Now()) && k.renew(ctx, s)
	if s.endless() || !s.spent(time.Now()) || (s.about.renewable && !renewed) {
		return k.current(ctx)
	}
	// A token with an end of its own, half through: the next leases hang on a fresh one. Those that
	// hang on this one were told its end.
	k.mu.Lock()
	k.letGo(s)
	k.mu.Unlock()
	return k.current(ctx)
}

// spent reports whether more than half of the token's first life has passed.
func (s *session) spent(now time.Time) bool {
	end := s.end()
	return !end.IsZero() && end.Sub(now) < s.about.ttl/2
}

// worthRenewing reports whether a renewal could add much: a tenth of its life has passed.
func (s *session) worthRenewing(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewable && s.expires.Sub(now) < s.ttl*9/10
}
