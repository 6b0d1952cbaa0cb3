// Package broker decides, issues, revokes and sweeps: everything that daypass does to a grant.
//
// Exchange asks the policy and writes the grant. Redeem turns a grant into a credential: the lease is
// written as an intent before the issuer is asked and as an outcome after it. Revoke ends a grant and
// its leases at their sources. Run sweeps: it ends what is due and finishes what a crash left
// half-way, with the same function (settle) that the live calls use.
//
// Rotate replaces a root credential by another. Its journal is written first, and one function
// (stepRotation) takes it from step to step, in whichever process: it claims the step, lets the root's
// issuer.Rotator act outside of any transaction, and writes the outcome with its entry.
//
// MintOwn has credentials minted that the broker itself needs. They have no grant and no record, but their
// entries, before and after.
//
// The caller is an argument of every verb, and every verb that changes something appends its audit
// entry in the transaction of the change. The package knows no wire, no driver and no source.
package broker
