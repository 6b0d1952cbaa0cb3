package cred

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"
)

// GrantID identifies a grant: "gr_" and 26 characters that sort by time of creation.
type GrantID string

// LeaseID identifies a lease: "le_" and 26 characters that sort by time of creation.
type LeaseID string

// UseID identifies one use of a credential through a proxy: "us_" and 26 such characters.
type UseID string

// NewGrantID returns a fresh GrantID for an instant.
func NewGrantID(now time.Time) GrantID { return GrantID("gr_" + newID(now)) }

// NewLeaseID returns a fresh LeaseID for an instant.
func NewLeaseID(now time.Time) LeaseID { return LeaseID("le_" + newID(now)) }

// NewUseID returns a fresh UseID for an instant.
func NewUseID(now time.Time) UseID { return UseID("us_" + newID(now)) }

// NewStandingID returns a fresh ID of a standing approval: "sa_" and 26 such characters.
func NewStandingID(now time.Time) string { return "sa_" + newID(now) }

// NewLockID returns a fresh ID of a lock: "lk_" and 26 such characters.
func NewLockID(now time.Time) string { return "lk_" + newID(now) }

// idAlphabet is Crockford's base32 in lower case, whose order is that of the bytes it encodes.
var idAlphabet = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newID returns 48 bits of milliseconds and 80 random bits: unguessable, and in order of time.
func newID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails, see crypto/rand
	return idAlphabet.EncodeToString(b[:])
}
