package token

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Live is the key ring that a process works with, which changes while it runs. Whoever holds a Live
// signs with, publishes and verifies with the ring that was set last. It is safe for concurrent use
// and prints without its keys.
type Live struct {
	ring atomic.Pointer[KeyRing]

	mu     sync.Mutex // guards what follows
	reload func(ctx context.Context) error
	looked time.Time // when reload was last asked
}

// reloadEvery is the least time between two looks for a key that nobody here knows, so that strangers'
// tokens do not make work for the store.
const reloadEvery = time.Second

// NewLive returns a Live that begins with a ring.
func NewLive(r *KeyRing) *Live {
	l := &Live{}
	l.ring.Store(r)
	return l
}

// Current returns the ring that was set last.
func (l *Live) Current() *KeyRing { return l.ring.Load() }

// Set makes a ring the current one.
func (l *Live) Set(r *KeyRing) { l.ring.Store(r) }

// OnUnknown sets what is called when a token names a key that the current ring lacks: another process
// may have rotated. It sets the ring as it is stored now, and is called once a second at most.
func (l *Live) OnUnknown(reload func(ctx context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reload = reload
}

// Key is KeyRing.Key of the current ring, after a look at the stored one where it lacks the key.
func (l *Live) Key(ctx context.Context, kid, alg string) (crypto.PublicKey, error) {
	key, err := l.Current().Key(ctx, kid, alg)
	if err == nil || !l.look(ctx) {
		return key, err
	}
	return l.Current().Key(ctx, kid, alg)
}

// look has the stored ring set and reports whether that was done. A store that does not answer leaves
// the ring as it is.
func (l *Live) look(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reload == nil || time.Since(l.looked) < reloadEvery {
		return false
	}
	l.looked = time.Now()
	return l.reload(ctx) == nil
}

// Sign is KeyRing.Sign of the current ring.
func (l *Live) Sign(c Claims) (string, error) { return l.Current().Sign(c) }

// SignIDToken is KeyRing.SignIDToken of the current ring.
func (l *Live) SignIDToken(issuer, subject, audience string, now time.Time, life time.Duration, extra map[string]any) (cred.Secret, error) {
	return l.Current().SignIDToken(issuer, subject, audience, now, life, extra)
}

// JWKS is KeyRing.JWKS of the current ring.
func (l *Live) JWKS() []byte { return l.Current().JWKS() }

// Format writes which key signs, under every verb of fmt, and no key.
func (l *Live) Format(f fmt.State, _ rune) {
	if l == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = fmt.Fprintf(f, "token.Live(%v)", l.Current())
}
