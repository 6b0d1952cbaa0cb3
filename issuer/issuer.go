// Package issuer is the contract between the broker and the sources of credentials. Each source is
// a package of its own below this one and passes issuertest.
package issuer

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Spec says what to mint.
type Spec struct {
	// ID is the idempotency key: the lease that this is for.
	ID     cred.LeaseID
	Grant  cred.GrantID
	Holder cred.Principal
	Target cred.Target
	Scopes []string
	Params map[string]string
	// NotAfter is the instant at which the credential must have ended, absolute. An issuer whose
	// source can't end it by then says so in the Lease that it returns.
	NotAfter time.Time
	// Handle is what Reserve returned for this ID, where the issuer is a Reserver.
	Handle string
}

// Issuer mints credentials from one source.
//
// Issue returns the credential and, in the lease, the three things that the issuer knows of it:
// Handle (what Revoke needs), Revocable and NotAfter; the broker fills in the rest. The lease's NotAfter is
// the latest instant at which the credential may live, zero where the source sets none. The credential's
// own, which its holder goes by, may be earlier. An error is a
// *cred.Error. Kind Unavailable means that the answer was lost and a credential may exist, unless
// the error wraps ErrNotIssued; every other kind means that none was made.
//
// Revoke ends a credential at its source before it returns. It is idempotent: a handle that the
// source does not know is success. It needs nothing of the lease but Handle. A lease that its source
// can't end early (Revocable false) is refused with Kind Invalid, and so is a reservation under which
// something may have been made that Revoke can't end; a LivesError around the error tells how long that may
// live.
//
// Both keep within ctx's deadline and are safe for concurrent use.
type Issuer interface {
	Issue(ctx context.Context, spec Spec) (cred.Credential, cred.Lease, error)
	Revoke(ctx context.Context, l cred.Lease) error
}

// Reserver is an Issuer that can name, before it mints, a handle under which everything that Issue
// then makes for the same spec.ID can be revoked, or Revoke says that it may not be. The broker stores it with the intent, so that a
// crash before the outcome leaves nothing that can't be taken back. A reservation that is never
// used must be harmless and end by itself no later than spec.NotAfter.
type Reserver interface {
	Reserve(ctx context.Context, spec Spec) (handle string, err error)
}

// Unfindable is an Issuer whose source can neither name beforehand what it mints nor find it
// afterwards. Where an attempt ended without an outcome, whoever asked until an instant, Lost returns
// the latest end of what may exist, absolute, and a note for people that says so. Zero is for what
// nothing bounds that the issuer knows of: such a lease stays on record.
type Unfindable interface {
	Lost(asked time.Time) (notAfter time.Time, note string)
}
