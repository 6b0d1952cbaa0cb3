// Package ownkeys rotates the keys that are the broker's own: those that sign grant tokens
// (SigningKeys), that seal the store (SealingKey), that sign the audit log's checkpoints (LogKey), and
// the CA that vouches for the broker and its proxies (ProxyCA). Each is an issuer.Rotator, so that the
// broker approves, journals and records their rotation as it does for a root credential at a source.
//
// All keep to one order: what is to trust the next key gets it first, then the next key is used, then
// the old one goes once nothing depends on it any more. A process that dies in between finds, in the
// store or in the key's file, which key is in use.
package ownkeys

import (
	"errors"
	"fmt"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// wait says that an act waits for time alone, until an instant where that is known.
func wait(op, public string, now, until time.Time) error {
	return waiting("ROTATION_WAITS", op, public, now, until)
}

// ask says that an act waits for a person, and what they are to do; until an instant where it then goes
// on by itself.
func ask(op, public string, now, until time.Time) error {
	return waiting(issuer.ReasonPersonNeeded, op, public, now, until)
}

func waiting(reason, op, public string, now, until time.Time) error {
	e := &cred.Error{Kind: cred.Pending, Op: op, Reason: reason, Public: public}
	if until.After(now) {
		e.RetryAfter = until.Sub(now)
	}
	return e
}

// clock writes an instant for people.
func clock(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// reasonGone is that of the one error of Undo which says that there is no way back.
const reasonGone = "ROTATION_OLD_GONE"

// gone is the answer of Undo where the old root is no more.
func gone(op, what string) error {
	return &cred.Error{Kind: cred.Invalid, Op: op, Reason: reasonGone, Public: what + " is no more, so it can't be put back into use"}
}

// undone is the answer of Undo. Where a file can't be read or written nothing is said about the old root,
// so that is tried again; Invalid would mean that there is no way back.
func undone(err error) error {
	e, ours := errors.AsType[*cred.Error](err)
	if !ours || e.Kind != cred.Invalid || e.Reason == reasonGone {
		return err
	}
	again := *e
	again.Kind = cred.Unavailable
	return &again
}

// changed says that something other than this rotation has changed the key.
func changed(op, what, is string, r issuer.Rotation) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: op, Reason: "ROTATION_OVERTAKEN",
		Public: fmt.Sprintf("%s is now %s, which this rotation from %s to %s did not make; begin a new one", what, is, r.Old, r.New),
	}
}
