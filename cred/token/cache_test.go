package token

import (
	"crypto/sha256"
	"testing"
	"time"
)

func TestCacheIsBoundedAndDropsTheExpired(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	until := func(d time.Duration) entry { return entry{claims: Claims{ExpiresAt: now.Add(d)}} }
	sum := func(n byte) [sha256.Size]byte { return [sha256.Size]byte{n} }
	c := newCache(4)
	for n := range byte(100) {
		c.put(sum(n), until(time.Minute), now)
		if len(c.entries) > 4 {
			t.Fatalf("the cache holds %d of 4", len(c.entries))
		}
		if _, ok := c.get(sum(n), now); !ok {
			t.Fatal("what was put last is not there")
		}
	}
	if _, ok := c.get(sum(99), now.Add(time.Minute)); ok {
		t.Error("an entry outlives its token")
	}
	c.put(sum(200), until(0), now)
	if _, ok := c.entries[sum(200)]; ok {
		t.Error("an expired token came in")
	}
	later := now.Add(time.Minute)
	c = newCache(4)
	for n, life := range []time.Duration{time.Minute, time.Minute, 2 * time.Minute, time.Minute} {
		c.put(sum(byte(n)), until(life), now)
	}
	c.put(sum(4), until(2*time.Minute), later)
	if len(c.entries) != 2 {
		t.Errorf("%d entries are left, want the two living", len(c.entries))
	}
	if _, ok := c.get(sum(2), later); !ok {
		t.Error("a living entry had to go while there were expired ones")
	}
}
