package token

import (
	"crypto/sha256"
	"sync"
	"time"
)

// entry is a token that verified: what its signature proves.
type entry struct {
	kid, alg string
	public   publicKey
	claims   Claims // never handed out, only clones
}

// cache remembers tokens by the SHA-256 of all their bytes, up to a number of them. Only tokens
// that verified come in, so a stranger can't fill it.
type cache struct {
	most int

	mu      sync.Mutex // guards entries
	entries map[[sha256.Size]byte]entry
}

func newCache(most int) *cache {
	return &cache{most: most, entries: make(map[[sha256.Size]byte]entry)}
}

// get forgets a token that has expired. It may still hold for the skew's seconds; then it is
// verified as if it were new.
func (c *cache) get(sum [sha256.Size]byte, now time.Time) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[sum]
	if ok && !now.Before(e.claims.ExpiresAt) {
		delete(c.entries, sum)
		return entry{}, false
	}
	return e, ok
}

func (c *cache) put(sum [sha256.Size]byte, e entry, now time.Time) {
	if c.most <= 0 || !now.Before(e.claims.ExpiresAt) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= c.most {
		c.evict(now)
	}
	c.entries[sum] = e
}

// evict drops the expired ones among a few entries, or else one that is not. It needs c.mu. Go's
// order of iteration is random, so every entry's turn comes.
func (c *cache) evict(now time.Time) {
	const few = 8
	var last [sha256.Size]byte
	seen, dropped := 0, 0
	for sum, e := range c.entries {
		if last = sum; !now.Before(e.claims.ExpiresAt) {
			delete(c.entries, sum)
			dropped++
		}
		if seen++; seen == few {
			break
		}
	}
	if dropped == 0 {
		delete(c.entries, last)
	}
}
