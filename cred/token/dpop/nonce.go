package dpop

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Nonces are values that a verifier hands out and wants back in proofs (RFC 9449, section 8), so
// that no proof can be made long before it is used, nor be used at another process. They are
// computed, not stored: a MAC over the time under a key that this process alone has. Each is good
// for one step and the one after it.
//
// It is safe for concurrent use.
type Nonces struct {
	now  func() time.Time
	step time.Duration
	key  [sha256.Size]byte
}

// NewNonces returns nonces that change with each step; 0 means every minute.
func NewNonces(now func() time.Time, step time.Duration) *Nonces {
	if step <= 0 {
		step = time.Minute
	}
	n := &Nonces{now: now, step: step}
	_, _ = rand.Read(n.key[:]) // never fails
	return n
}

// Current returns the nonce to hand out now.
func (n *Nonces) Current() string { return n.at(n.index()) }

// Valid reports whether a nonce is the current one or the one before it.
func (n *Nonces) Valid(nonce string) bool {
	now := n.index()
	current := hmac.Equal([]byte(nonce), []byte(n.at(now)))
	return current || hmac.Equal([]byte(nonce), []byte(n.at(now-1)))
}

func (n *Nonces) index() int64 { return n.now().UnixNano() / int64(n.step) }

// at returns the nonce of a step: 128 bits of its MAC.
func (n *Nonces) at(step int64) string {
	mac := hmac.New(sha256.New, n.key[:])
	_ = binary.Write(mac, binary.BigEndian, step) // a hash takes everything
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}
