package cred

import (
	"crypto/sha256"
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
	w := &jsonWriter{b: make([]byte, 0, 512)}
	w.identity(`{"Holder":`, holder, nil)
	if holder.Actor != nil {
		w.identity(`,"Actor":`, *holder.Actor, holder.Actor.Actor)
	}
	w.request(`,"Request":`, r)
	return sha256.Sum256(append(w.b, '}')) // the order of the members is fixed, so this is canonical
}

// identity writes what a digest holds of a principal, and of who acts for it, and so on.
func (w *jsonWriter) identity(name string, p Principal, actor *Principal) {
	w.b = append(w.b, name...)
	w.text(`{"Provider":`, p.Provider)
	w.text(`,"Issuer":`, p.Issuer)
	w.text(`,"Subject":`, p.Subject)
	if actor != nil {
		w.identity(`,"Actor":`, *actor, actor.Actor)
	}
	w.b = append(w.b, '}')
}

// request writes what encoding/json makes of a Request.
func (w *jsonWriter) request(name string, r Request) {
	w.b = append(w.b, name...)
	w.text(`{"target":`, r.Target)
	if len(r.Scopes) > 0 {
		w.texts(`,"scopes":`, r.Scopes)
	}
	w.textMapIf(`,"params":`, r.Params)
	w.intIf(`,"ttl":`, int64(r.TTL))
	w.textIf(`,"reason":`, r.Reason)
	w.textIf(`,"binding":`, string(r.Binding))
	w.b = append(w.b, '}')
}

// MarshalText writes the digest in lower-case hex.
func (d Digest) MarshalText() ([]byte, error) { return Fingerprint(d).MarshalText() }

// UnmarshalText reads 64 hex digits.
func (d *Digest) UnmarshalText(text []byte) error { return (*Fingerprint)(d).UnmarshalText(text) }

// String returns the digest in lower-case hex.
func (d Digest) String() string { return Fingerprint(d).String() }
