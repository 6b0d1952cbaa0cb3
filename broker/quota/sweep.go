package quota

import "time"

const (
	sweepEvery  = time.Minute // how often full buckets are dropped: a full one and none are the same
	sweepBefore = 1024        // buckets at the least, before they are swept sooner
)

// sweeps says when the next sweep is due.
type sweeps struct {
	at    time.Duration
	calls int // or after so many calls, each of which adds one bucket at the most
}

// sweep drops what is full: once a minute, and before there can be twice as many buckets as the last
// sweep left. So the memory is bounded by the callers of late, and a call costs as good as nothing.
func (l *Limiter) sweep(now time.Duration) {
	l.sweeps.calls--
	if now < l.sweeps.at && l.sweeps.calls >= 0 {
		return
	}
	left := 0
	for name, t := range l.targets {
		t.dropFull(now)
		left += len(t.people)
		if t.idle(now) {
			delete(l.targets, name)
		}
	}
	l.sweeps = sweeps{now + sweepEvery, max(sweepBefore, left)}
}

func (t *target) dropFull(now time.Duration) {
	for who, b := range t.people {
		if b.full <= now {
			delete(t.people, who)
		}
	}
	if now >= t.shares.ends {
		t.shares.taken = nil
	}
}

// idle reports whether a target without a record of it would be the same. Where nobody has asked for a
// whole period, the total is full.
func (t *target) idle(now time.Duration) bool {
	return len(t.people) == 0 && t.shares.forgotten(now)
}
