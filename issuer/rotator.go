package issuer

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Rotation is what a Rotator is told of the rotation that it works on, and what it keeps of it from act
// to act. The broker stores it, sealed, after each act and hands it to the next one, also to one that
// runs in another process after a crash.
type Rotation struct {
	// ID is the idempotency key of the rotation and fit for names at a source: at most 40 letters,
	// digits, "_" and "-".
	ID string
	// Attempt says how often this act has begun in this rotation, from 1. Above 1 an earlier try may
	// have been done at the source and its answer lost: the act looks before it does it again.
	Attempt int
	// Began is when the act first began.
	Began time.Time
	// Old and New are how people and the log know the two roots: a key's ID, a version, an accessor's
	// fingerprint. No secrets. The acts set them as they learn them; empty where the source names none.
	Old, New string
	// Notes are the rotator's own. Values may be secrets.
	Notes map[string]cred.Secret
	// RetireAfter is the earliest instant at which the old root may be retired, set by Switch; zero: at
	// once.
	RetireAfter time.Time
}

// Rotator replaces one root credential by another. The broker calls the acts in the order Check,
// Prepare, Switch, Verify, Retire, each again until it has an answer; it journals the intent before
// Prepare, Switch, Retire and Undo, and the outcome after. What an act has to know when it runs again
// after a crash, such as a new password, an earlier act has put into the notes.
//
// Errors are *cred.Error, and their kind says how it goes on, for every act alike:
//
//   - Unavailable: it may have been done. The act is called again later, with a higher Attempt.
//   - Pending: it waits for something outside, a person or time; Public says for what. The act is
//     called again later, and nobody is alarmed for a day. With ReasonPersonNeeded it waits for a person, and
//     Public says what they are to do: people are told.
//   - every other kind: nothing was changed, and trying again does not help. Before Verify has
//     succeeded the broker calls Undo; after that it alarms people and tries again.
//
// All acts keep within ctx's deadline. A Rotator is safe for concurrent use; the broker runs at most one
// rotation of a root at a time.
type Rotator interface {
	// Check looks at whether a rotation can succeed: that the configuration is complete, that the source
	// has what it needs, how many credentials live, who else uses the root. It changes nothing.
	Check(ctx context.Context, r Rotation) ([]cred.Finding, error)
	// Prepare makes the next root beside the current one, where the source can have two; the current one
	// stays in use.
	Prepare(ctx context.Context, r Rotation) (Rotation, error)
	// Switch puts the next root into use.
	Switch(ctx context.Context, r Rotation) (Rotation, error)
	// Verify mints a fresh credential under the root that is in use since Switch, and uses it. An error
	// other than Unavailable and Pending says that the new root does not work.
	Verify(ctx context.Context, r Rotation) error
	// Retire ends the old root and makes sure that it is gone.
	Retire(ctx context.Context, r Rotation) (Rotation, error)
	// Undo puts the old root back into use, whichever act of the rotation was the last, and ends what
	// Prepare made. It fails with kind Invalid where the old root is no more.
	Undo(ctx context.Context, r Rotation) error
}

// Scoped is a Rotator whose root makes the credentials of some paths of its issuer alone. The root of one
// that is not Scoped counts as that of all.
type Scoped interface {
	// Covers reports whether the root makes what is minted at a path, which may have parameters in it
	// ("database/creds/{role}"). Where that can't be told it does.
	Covers(path string) bool
}
