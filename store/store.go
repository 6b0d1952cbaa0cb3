// Package store keeps grants, leases and keys together with the audit log that tells of them.
//
// Store and Tx are the contract that every driver passes (storetest). Sealed wraps a Store so that
// what reaches the disk is encrypted.
package store

import (
	"context"
	"iter"
	"time"

	"github.com/daypass-io/daypass/audit"
)

// Store is a transactional store of records and of the audit log beside them.
//
// View and Update run fn in a serialisable transaction. Update is durable when it returns nil: the
// records and the entries that fn appended are on disk together, or neither is. A driver may run fn
// more than once, and may commit several callers' transactions with one sync, so fn does no I/O, and
// leaves nothing behind but what it did through its Tx; a transaction whose fn fails has no effect
// and fn's error is returned as it is. A transaction sees its own writes. An fn must not begin a
// transaction of its own, nor wait for one.
//
// A ctx that ends before fn has begun means that nothing was done. Once fn has begun, Update waits
// for the outcome: it never returns with a change that may or may not come.
//
// Errors of the driver are *cred.Error: Unavailable where trying again may help (closed, disk full,
// deadline), Internal for corruption. Where Update returns one, nothing has changed; the one
// exception is a disk whose last sync failed, after which the store refuses to write until it is
// opened anew. Once a write has failed at the disk, reads go on.
//
// A Store is safe for concurrent use. Close waits for the transactions that run.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
	Close() error
}

// Tx is one transaction, valid until its fn returns and for its goroutine alone.
type Tx interface {
	// Get returns the record under a key, or a NotFound error. Its Value must not be changed. Beside
	// a NotFound error the Record has the Rev from which the key counts on: zero if it was never
	// written, else that of its deletion.
	Get(Key) (Record, error)
	// Put writes a record if the stored one's Rev equals r.Rev (zero: there is none), else it
	// returns a Conflict error and changes nothing. The record is stored with Rev+1. A nil Value
	// deletes, which is a write of its own and counts. No key ever has the same Rev twice: a record
	// that is made where one was deleted goes on from there, so what was read before the deletion
	// can't overwrite it. (Made, deleted, made again: Rev 1, 2, 3.) To delete what is not there is
	// no change. In a View, Put is an Internal error.
	Put(r Record) error
	// Scan yields the records of a table in the order that q asks for. It stops at the first error.
	// What the transaction writes while it scans is seen where the scan has not yet been.
	Scan(q Query) iter.Seq2[Record, error]
	// Append adds an event to the audit log, in this transaction. An event that can't be logged is
	// an Invalid error, and the transaction fails with it even if fn goes on. In a View, Append is an
	// Internal error.
	Append(audit.Event) error
}

// Table is a set of records with keys of their own.
type Table string

// The tables.
const (
	Grants      Table = "grants"      // ID: the grant's
	Leases      Table = "leases"      // ID: the grant's, "/", the lease's
	Idempotency Table = "idempotency" // ID: SHA-256 over the holder and its key, hex
	Keys        Table = "keys"        // ID: the key ring's name
	Policies    Table = "policies"    // ID: the rule set's SHA-256, hex
	Cursors     Table = "cursors"     // ID: the name of a log that ships its entries here
	Requests    Table = "requests"    // ID: the grant's; those that wait for somebody's verdict
	Standing    Table = "standing"    // ID: the standing approval's
	Locks       Table = "locks"       // ID: the lock's
	Notices     Table = "notices"     // ID: the notice's; those that are still to be sent
	Seen        Table = "seen"        // ID: SHA-256 over provider and jti, hex; ID tokens that count once
	Rotations   Table = "rotations"   // ID: the rotation's
	Strays      Table = "strays"      // ID: the issuer's name; those of its source that people were told of
)

// Tables are all the tables that a driver keeps.
var Tables = []Table{Grants, Leases, Idempotency, Keys, Policies, Cursors, Requests, Standing, Locks, Notices, Seen, Rotations, Strays}

// Key names a record. An ID is 1 to 256 bytes of printable ASCII.
type Key struct {
	Table Table
	ID    string
}

// MaxValue is the greatest length of a record's Value in bytes: 1 MiB. Drivers take SealOverhead
// more, for what Sealed adds.
const MaxValue = 1 << 20

// Record is one stored value.
type Record struct {
	Key
	Rev   uint64    // counts the writes of this key; zero: not stored
	Due   time.Time // when the sweep should look at it (to the millisecond, after 1970, in UTC when read); zero: never. Not sealed.
	Value []byte    // at most MaxValue
}

// Query asks for records of one table.
type Query struct {
	Table  Table
	Prefix string // of the ID; printable ASCII
	After  string // exclusive: IDs greater than it, or smaller where Reverse
	// DueBy, where it is set, asks for records whose Due is set and not after it, in order of Due and
	// then ID. It goes with Limit alone.
	DueBy   time.Time
	Reverse bool
	Limit   int // zero: no limit
}
