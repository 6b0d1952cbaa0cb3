package dpop

import (
	"crypto/sha256"
	"sync"
	"time"
)

// seenID names a proof: 128 bits of a hash of its key's thumbprint and its jti, so that nobody can
// use up another one's jti.
type seenID [16]byte

func idOf(p Proof) seenID {
	sum := sha256.Sum256([]byte(p.Thumbprint + "\x00" + p.ID)) // a thumbprint has no zero byte
	return seenID(sum[:16])
}

// replays remembers each proof for as long as it would be taken. It never forgets one sooner: where
// it is full it takes no more, and proofs that would end at an instant that is already forgotten,
// because the clock was set back, are not taken either.
type replays struct {
	most int

	mu        sync.Mutex // owns all below
	seen      map[seenID]struct{}
	byEnd     map[int64][]seenID // by the Unix second at whose end a proof is taken no more
	swept     int64              // the second of the last sweep
	forgotten int64              // all proofs that end in this second or before are forgotten
}

func newReplays(most int) *replays {
	return &replays{most: most, seen: map[seenID]struct{}{}, byEnd: map[int64][]seenID{}}
}

// verdict is what replays say of a proof.
type verdict uint8

const (
	fresh verdict = iota
	seenBefore
	tooOld  // it may have been seen and forgotten
	crowded // there is no room to remember it
)

// take remembers a proof that is taken up to and including the second of end.
func (r *replays) take(id seenID, end, now time.Time) verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now.Unix())
	last := end.Unix()
	switch _, seen := r.seen[id]; {
	case seen:
		return seenBefore
	case last <= r.forgotten:
		return tooOld
	case len(r.seen) >= r.most:
		return crowded
	}
	r.seen[id] = struct{}{}
	r.byEnd[last] = append(r.byEnd[last], id)
	return fresh
}

// sweep forgets what is taken no more, once a second. The caller holds r.mu.
func (r *replays) sweep(now int64) {
	if now == r.swept {
		return
	}
	r.swept = now
	for end, ids := range r.byEnd {
		if end >= now {
			continue
		}
		for _, id := range ids {
			delete(r.seen, id)
		}
		delete(r.byEnd, end)
		r.forgotten = max(r.forgotten, end)
	}
}
