// Package cred holds the nouns of daypass: who asks (Principal), what for (Request), what was
// decided (Grant), what was minted for it (Lease), the credential itself (Credential, made of
// Secrets), where it is spent (Target), and what went wrong (Error).
//
// It imports nothing but the standard library, so that every other package can speak in these
// words. Grants and leases are values with their own state machines: a state changes only through
// the methods here, so an illegal transition cannot be written elsewhere.
package cred
