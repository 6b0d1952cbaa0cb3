package cred

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what a Secret shows of itself, everywhere.
const redacted = "[redacted]"

// errNoMarshal is the answer of codecs that could carry a Secret out of the process.
var errNoMarshal = errors.New("cred: a Secret cannot be serialised; reveal it where it is spent")

// Secret is a value that must not be shown: a password, a token, a private key. It prints as
// "[redacted]" under every verb of fmt, in JSON, in slog, in errors and in panics. In an unexported
// field of an enclosing struct, none of its methods is called and printers read its fields. A
// pointer to the bytes would not do there: fmt follows it under a verb that does not fit, as in
// "%s". A function gives away its address alone, to every printer.
//
// The zero Secret is empty. Secrets are immutable and safe for concurrent use.
type Secret struct{ reveal *func() []byte } // a pointer, so that Secrets can be compared

// NewSecret wraps b, which the caller must not use afterwards.
func NewSecret(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	reveal := func() []byte { return b }
	return Secret{&reveal}
}

// SecretString wraps a copy of s.
func SecretString(s string) Secret { return NewSecret([]byte(s)) }

// Reveal returns the bytes themselves, to be spent at once and never changed.
func (s Secret) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return (*s.reveal)()
}

// RevealString returns the secret as a string, to be spent at once.
func (s Secret) RevealString() string { return string(s.Reveal()) }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.reveal == nil }

// Fingerprint returns the SHA-256 of the secret: what logs hold in its place.
func (s Secret) Fingerprint() Fingerprint { return sha256.Sum256(s.Reveal()) }

// String returns the redaction marker. It also serves panics, which print a Stringer's text.
func (s Secret) String() string { return redacted }

// GoString returns the redaction marker, for %#v.
func (s Secret) GoString() string { return redacted }

// Format writes the redaction marker under every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns the redaction marker, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON writes the redaction marker as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText writes the redaction marker.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary refuses.
func (s Secret) MarshalBinary() ([]byte, error) { return nil, errNoMarshal }

// GobEncode refuses.
func (s Secret) GobEncode() ([]byte, error) { return nil, errNoMarshal }

// UnmarshalJSON refuses: a secret enters through NewSecret alone, so that every entrance can be
// found.
func (s *Secret) UnmarshalJSON([]byte) error { return errNoMarshal }

// UnmarshalText refuses, as UnmarshalJSON does.
func (s *Secret) UnmarshalText([]byte) error { return errNoMarshal }

// Fingerprint is the SHA-256 of a secret. It identifies the secret without giving it away, as long
// as the secret has the entropy of a generated one.
type Fingerprint [sha256.Size]byte

// IsZero reports whether no fingerprint was taken.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// String returns the fingerprint in lower-case hex, or "" for the zero one.
func (f Fingerprint) String() string {
	if f.IsZero() {
		return ""
	}
	return hex.EncodeToString(f[:])
}

// MarshalText writes what String returns.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads 64 hex digits, or nothing for the zero fingerprint.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*f = Fingerprint{}
		return nil
	}
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(f) {
		return errors.New("cred: a fingerprint is 64 hex digits")
	}
	copy(f[:], b)
	return nil
}
