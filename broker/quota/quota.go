package quota

import (
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Limiter keeps the buckets of all targets. It is safe for concurrent use.
type Limiter struct {
	now func() time.Time

	mu      sync.Mutex // over all below
	clock   clock
	targets map[string]*target
	sweeps  sweeps
}

// New returns a Limiter whose buckets are full. It reads now, say time.Now, with each call.
func New(now func() time.Time) *Limiter {
	return &Limiter{now: now, targets: make(map[string]*target)}
}

// Take takes one token from the principal's bucket of a target and one from the target's, or none
// where either has none for it. Then the error is Exhausted, with the reason QUOTA_EXCEEDED and with
// RetryAfter. The quota is that in force now: one that has changed since the last call is applied to
// the buckets as they are.
func (l *Limiter) Take(name string, q cred.Quota, who cred.Principal) error {
	own, err := rateOf(q.PerPrincipal)
	if err != nil {
		return err
	}
	total, err := rateOf(q.Total)
	if err != nil {
		return err
	}
	if own.n == 0 && total.n == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.read(l.now())
	l.sweep(now)
	t := l.targets[name]
	if t == nil {
		t = &target{people: make(map[caller]bucket)}
		l.targets[name] = t
	}
	return t.take(own, total, callerOf(who), now)
}

// caller is to whom a call is charged.
type caller struct{ provider, issuer, subject string }

// callerOf returns the holder, also where an agent acts for it.
func callerOf(p cred.Principal) caller { return caller{p.Provider, p.Issuer, p.Subject} }

// clock reckons time from the first reading on. A clock that is set back stands still for that step:
// nothing fills, and what was not full then does not wait for the old time to come again. A step that
// fills every bucket is as long as any longer one.
type clock struct {
	last time.Time
	sum  time.Duration
}

func (c *clock) read(now time.Time) time.Duration {
	if !c.last.IsZero() {
		c.sum += min(max(0, now.Sub(c.last)), 2*maxPer)
	}
	c.last = now
	return c.sum
}
