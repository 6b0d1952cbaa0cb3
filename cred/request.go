package cred

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"
)

// Request is what a caller asks for.
type Request struct {
	Target string            `json:"target"`
	Scopes []string          `json:"scopes,omitempty"` // in any order; repeated ones count once
	Params map[string]string `json:"params,omitempty"` // what a rule can bound and an issuer attenuate
	TTL    time.Duration     `json:"ttl,omitempty"`    // nanoseconds; zero means as long as the rule allows
	Reason string            `json:"reason,omitempty"`

	// IdempotencyKey makes a retry find the grant of the first try. It is the caller's choice, up to
	// 128 bytes, counts for that caller alone, and is no part of the digest.
	IdempotencyKey string `json:"-"`
}

// Digest is the SHA-256 of a request in canonical form together with who asks: what an approval
// binds to.
type Digest [sha256.Size]byte

// Digest returns the request's digest for a holder.
func (r Request) Digest(holder Principal) Digest {
	scopes := slices.Compact(slices.Sorted(slices.Values(r.Scopes)))
	r.Scopes = scopes
	type identity struct{ Provider, Issuer, Subject string }
	type bound struct {
		Holder  identity
		Actor   *identity `json:",omitempty"`
		Request Request
	}
	b := bound{Holder: identity{holder.Provider, holder.Issuer, holder.Subject}, Request: r}
	if a := holder.Actor; a != nil {
		b.Actor = &identity{a.Provider, a.Issuer, a.Subject}
	}
	canonical, err := json.Marshal(b) // struct order and sorted map keys make it canonical
	if err != nil {
		panic("cred: a request of strings failed to encode: " + err.Error())
	}
	return sha256.Sum256(canonical)
}

// MarshalText writes the digest in lower-case hex.
func (d Digest) MarshalText() ([]byte, error) { return Fingerprint(d).MarshalText() }

// UnmarshalText reads 64 hex digits.
func (d *Digest) UnmarshalText(text []byte) error { return (*Fingerprint)(d).UnmarshalText(text) }

// String returns the digest in lower-case hex.
func (d Digest) String() string { return Fingerprint(d).String() }
