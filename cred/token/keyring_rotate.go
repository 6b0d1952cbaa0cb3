package token

import (
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Rotate returns the ring in which the next key signs, the one that signed so far still verifies,
// and a fresh one waits. A key that was there only to verify drops out, and its tokens die.
func (r *KeyRing) Rotate(now time.Time) (*KeyRing, error) {
	fresh, err := generate(r.alg)
	if err != nil {
		return nil, err
	}
	return assemble(r.alg, now, r.current, r.next, fresh)
}

// Back undoes a Rotate: the previous key signs again, and the one that signed since waits to do so, so
// that its tokens still verify. The fresh one, which never signed, drops out. Where there is no
// previous key the error is Invalid.
func (r *KeyRing) Back(now time.Time) (*KeyRing, error) {
	if r.previous == nil {
		return nil, &cred.Error{Kind: cred.Invalid, Op: "token.keyring", Public: "the key that signed before is gone; there is nothing to go back to"}
	}
	return assemble(r.alg, now, nil, r.previous, r.current)
}

// Drop returns the ring without its previous key: what that one signed verifies no more.
func (r *KeyRing) Drop() (*KeyRing, error) {
	return assemble(r.alg, r.rotatedAt, nil, r.current, r.next)
}

// RotatedAt returns when the current key began to sign and the next one was published.
func (r *KeyRing) RotatedAt() time.Time { return r.rotatedAt }

// KeyID returns the kid of the key that signs.
func (r *KeyRing) KeyID() string { return r.current.kid }

// NextID returns the kid of the key that is published and signs from the next rotation on.
func (r *KeyRing) NextID() string { return r.next.kid }

// PreviousID returns the kid of the key that signed before and still verifies, empty where there is none.
func (r *KeyRing) PreviousID() string {
	if r.previous == nil {
		return ""
	}
	return r.previous.kid
}
