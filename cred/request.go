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

	// Binding says how the caller proves that it has the key which the grant is to be bound to; empty
	// where it is not bound. Verified at the edge.
	Binding Binding `json:"binding,omitempty"`

	// IdempotencyKey makes a retry find the grant of the first try. It is the caller's choice, up to
	// 128 bytes, counts for that caller alone, and is no part of the digest.
	IdempotencyKey string `json:"-"`
}

// Binding is a way to bind a grant to a key.
type Binding string

// The ways of binding.
const (
	BindDPoP Binding = "dpop" // a proof in each request (RFC 9449)
	BindMTLS Binding = "mtls" // the TLS client certificate (RFC 8705, section 3)
)

// Digest is the SHA-256 of a request in canonical form together with who asks: what an approval
// binds to.
type Digest [sha256.Size]byte

// Digest returns the request's digest for a holder and those who act for it.
func (r Request) Digest(holder Principal) Digest {
	r.Scopes = slices.Compact(slices.Sorted(slices.Values(r.Scopes)))
	b := struct {
		Holder  identity
		Actor   *identity `json:",omitempty"`
		Request Request
	}{identityOf(holder), actorOf(holder), r}
	canonical, err := json.Marshal(b) // struct order and sorted map keys make it canonical
	if err != nil {
		panic("cred: a request of strings failed to encode: " + err.Error())
	}
	return sha256.Sum256(canonical)
}

// identity is what a digest holds of a principal.
type identity struct {
	Provider, Issuer, Subject string
	Actor                     *identity `json:",omitempty"` // who acts for an actor
}

func identityOf(p Principal) identity {
	return identity{Provider: p.Provider, Issuer: p.Issuer, Subject: p.Subject}
}

// actorOf returns who acts for a principal, and who acts for that one, and so on; nil for nobody.
func actorOf(p Principal) *identity {
	if p.Actor == nil {
		return nil
	}
	a := identityOf(*p.Actor)
	a.Actor = actorOf(*p.Actor)
	return &a
}

// MarshalText writes the digest in lower-case hex.
func (d Digest) MarshalText() ([]byte, error) { return Fingerprint(d).MarshalText() }

// UnmarshalText reads 64 hex digits.
func (d *Digest) UnmarshalText(text []byte) error { return (*Fingerprint)(d).UnmarshalText(text) }

// String returns the digest in lower-case hex.
func (d Digest) String() string { return Fingerprint(d).String() }
