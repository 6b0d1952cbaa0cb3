package quota

import (
	"fmt"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// target has the buckets of one target.
type target struct {
	people map[caller]bucket // those that are not full, and some that are, see sweep
	total  bucket
	shares shares
}

// take takes one token from each of the two buckets that has a rate, or none.
func (t *target) take(own, total rate, who caller, now time.Duration) error {
	ownWait := t.waitForOwn(own, who, now)
	totalWait := t.waitForShare(total, who, ownWait == 0, now)
	switch {
	case ownWait > 0 && ownWait >= totalWait:
		return exceeded("you have used your quota of this target", ownWait)
	case totalWait > 0:
		return exceeded("the quota that all callers of this target share is used up", totalWait)
	}
	if own.n > 0 {
		t.people[who] = t.people[who].at(own, now).take(now)
	}
	if total.n > 0 {
		t.total = t.total.take(now)
		t.shares.taken[who]++
	}
	return nil
}

// waitForOwn returns how long a caller has to wait for a token of its own.
func (t *target) waitForOwn(r rate, who caller, now time.Duration) time.Duration {
	b, known := t.people[who]
	if r.n == 0 || !known {
		return 0
	}
	b = b.at(r, now)
	t.people[who] = b
	return b.wait(1, now)
}

// waitForShare returns how long a caller has to wait for a token of the total, see the package's
// comment on fairness. Who may take one, as far as its own quota goes, makes others leave some.
func (t *target) waitForShare(r rate, who caller, may bool, now time.Duration) time.Duration {
	if r.n == 0 {
		return 0
	}
	t.total = t.total.at(r, now)
	t.shares.begin(r, now)
	if may {
		t.shares.now.add(who)
	}
	needs := int64(1)
	if t.shares.contended(who) {
		needs += t.shares.taken[who]
	}
	wait := max(t.total.wait(1, now), t.shares.ends-now) // by then nobody has taken any in the period
	if needs <= r.n {
		wait = min(wait, t.total.wait(needs, now))
	}
	return wait
}

func exceeded(what string, wait time.Duration) error {
	return &cred.Error{
		Kind: cred.Exhausted, Op: "quota", Reason: "QUOTA_EXCEEDED", RetryAfter: wait,
		Public: fmt.Sprintf("%s; try again in %s", what, inSeconds(wait)),
	}
}

// inSeconds rounds up to whole seconds, for people to read.
func inSeconds(d time.Duration) time.Duration { return (d + time.Second - 1).Truncate(time.Second) }
