// Package jwks keeps the signing keys that an issuer publishes (RFC 7517).
//
// A Set asks the issuer as rarely as it can. All callers that need the same fetch share one, each
// waits no longer than its own context allows, and a caller whose key is cached is not held up by
// an issuer that is slow. A flood of tokens that name unknown keys costs the issuer at most one
// request per MinInterval.
package jwks

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Options bounds what a Set does. A zero field takes its default.
type Options struct {
	MinInterval time.Duration // least time between the starts of two fetches; 10 s
	MaxAge      time.Duration // after which keys are fetched anew; 10 min
	MaxStale    time.Duration // how old keys may grow while the issuer can't be reached; 1 h
	Timeout     time.Duration // of one fetch; 5 s
	MaxBytes    int64         // of the document; 256 KiB
	Uses        []string      // the "use" that a key may have, if it has one; "sig"
	Client      *http.Client  // its CheckRedirect is replaced; nil: a client of the Set's own
	Now         func() time.Time
}

// patience is how long a fetch that replaces keys past their MaxAge may hold callers whose key is
// cached. It gives a prompt issuer the chance to withdraw a key after a quiet hour.
const patience = 250 * time.Millisecond

// Set is the keys of one issuer. It is safe for concurrent use.
type Set struct {
	url    string
	o      Options
	client *http.Client

	mu      sync.Mutex // guards what follows
	keys    []key
	fetched time.Time // when keys were had; zero: never
	asked   time.Time // when the last fetch began; zero: never
	failure error     // of the last fetch; nil where it went well
	flight  *flight   // the fetch that is under way; nil where there is none
}

// flight is one fetch. Both channels are closed, none is ever sent to.
type flight struct {
	done    chan struct{} // the fetch has ended and its outcome is in the Set
	overdue chan struct{} // the fetch has used up the callers' patience
}

// New returns the Set of the keys at a URL. It fetches nothing before the first call of Key.
func New(url string, o Options) *Set {
	o.MinInterval = orDefault(o.MinInterval, 10*time.Second)
	o.MaxAge = orDefault(o.MaxAge, 10*time.Minute)
	o.MaxStale = max(orDefault(o.MaxStale, time.Hour), o.MaxAge)
	o.Timeout = orDefault(o.Timeout, 5*time.Second)
	o.MaxBytes = orDefault(o.MaxBytes, 256<<10)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Set{url: url, o: o, client: confined(o.Client)}
}

func orDefault[T int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Key returns the public key that the issuer names kid and that may verify alg: *rsa.PublicKey,
// *ecdsa.PublicKey or ed25519.PublicKey. An empty kid finds a key where exactly one fits alg.
//
// The error is a *cred.Error: Unauthenticated with Reason UNKNOWN_KEY where the issuer was asked
// lately and has no such key; Unavailable with Reason KEYS_UNAVAILABLE where its keys can't be had,
// or not before ctx ends.
func (s *Set) Key(ctx context.Context, kid, alg string) (crypto.PublicKey, error) {
	found, f := s.look(kid, alg)
	if f == nil {
		return s.answer(found, kid)
	}
	var overdue chan struct{} // nil, which blocks forever, for those who have nothing cached
	if found != nil {
		overdue = f.overdue
	}
	select {
	case <-f.done:
		found = s.find(kid, alg)
	case <-overdue:
	case <-ctx.Done():
		if found == nil {
			return nil, unavailable(context.Cause(ctx))
		}
	}
	return s.answer(found, kid)
}

// look returns the cached key, if there is one that may still be used, and the fetch to wait for,
// if one is under way or had to be started.
func (s *Set) look(kid, alg string) (crypto.PublicKey, *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	found := s.cached(kid, alg, now)
	if found != nil && s.younger(s.o.MaxAge, now) {
		return found, nil
	}
	if s.flight == nil && s.mayAsk(now) {
		s.asked = now
		s.flight = &flight{done: make(chan struct{}), overdue: make(chan struct{})}
		go s.fly(s.flight)
	}
	return found, s.flight
}

func (s *Set) find(kid, alg string) crypto.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cached(kid, alg, s.o.Now())
}

// cached needs s.mu.
func (s *Set) cached(kid, alg string, now time.Time) crypto.PublicKey {
	if !s.younger(s.o.MaxStale, now) {
		return nil
	}
	return choose(s.keys, kid, alg)
}

// younger needs s.mu. Keys from the future, after a clock was set back, are not young.
func (s *Set) younger(limit time.Duration, now time.Time) bool {
	age := now.Sub(s.fetched)
	return !s.fetched.IsZero() && age >= 0 && age < limit
}

// mayAsk needs s.mu.
func (s *Set) mayAsk(now time.Time) bool {
	since := now.Sub(s.asked)
	return s.asked.IsZero() || since < 0 || since >= s.o.MinInterval
}

// fly fetches for everybody, so no caller's context ends it.
func (s *Set) fly(f *flight) {
	timer := time.AfterFunc(patience, func() { close(f.overdue) })
	defer timer.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	keys, err := s.fetch(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure = err; err == nil {
		s.keys, s.fetched = keys, s.o.Now()
	}
	s.flight = nil
	close(f.done)
}

func (s *Set) answer(found crypto.PublicKey, kid string) (crypto.PublicKey, error) {
	if found != nil {
		return found, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return nil, unavailable(s.failure)
	}
	if !s.younger(s.o.MaxStale, s.o.Now()) {
		return nil, unavailable(errors.New("the keys are too old"))
	}
	e := cred.Errorf(cred.Unauthenticated, "jwks.key",
		"the token is signed with a key that its issuer does not publish; get a fresh token",
		"no usable key %.64q at %s", kid, s.url)
	e.Reason, e.Claim = "UNKNOWN_KEY", "kid"
	return nil, e
}

func unavailable(cause error) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "jwks.fetch", Reason: "KEYS_UNAVAILABLE", Err: cause,
		Public: "the signing keys of the token's issuer can't be had now, so the token can't be verified; try again shortly",
	}
}
