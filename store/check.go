package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// maxID is the greatest length of a key's ID in bytes.
const maxID = 256

// The bounds of Due. What a time.Time holds beyond them has no milliseconds that could be compared.
const (
	minDue = 1
	maxDue = 1 << 53
)

// Check returns an Invalid error for a key that no record can have.
func (k Key) Check() error {
	if !slices.Contains(Tables, k.Table) {
		return invalid("there is no table %q", string(k.Table))
	}
	if len(k.ID) == 0 || len(k.ID) > maxID || !printable(k.ID) {
		return invalid("the ID of a record in %s is not 1 to %d bytes of printable ASCII", k.Table, maxID)
	}
	return nil
}

// Check returns an Invalid error for a record that can't be stored. Drivers call it in Put.
func (r Record) Check() error {
	if err := r.Key.Check(); err != nil {
		return err
	}
	if len(r.Value) > MaxValue+SealOverhead {
		return invalid("the record %s/%s has %d bytes and may have %d", r.Table, r.ID, len(r.Value), MaxValue)
	}
	if ms := r.Due.UnixMilli(); !r.Due.IsZero() && (ms < minDue || ms > maxDue || r.Due.Year() > 9999) {
		return invalid("the due time of %s/%s is not between the years 1970 and 9999", r.Table, r.ID)
	}
	return nil
}

// DueMillis returns Due in milliseconds since 1970, zero where it is not set.
func (r Record) DueMillis() uint64 {
	if r.Due.IsZero() {
		return 0
	}
	return uint64(r.Due.UnixMilli())
}

// TimeOfDue returns the time that DueMillis gave.
func TimeOfDue(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

// Check returns an Invalid error for a query that has no answer. Drivers call it in Scan.
func (q Query) Check() error {
	switch {
	case !slices.Contains(Tables, q.Table):
		return invalid("there is no table %q", string(q.Table))
	case q.Limit < 0:
		return invalid("a scan's limit is negative")
	case !printable(q.Prefix) || !printable(q.After):
		return invalid("a scan's prefix and start are printable ASCII")
	case !q.DueBy.IsZero() && (q.Prefix != "" || q.After != "" || q.Reverse):
		return invalid("a scan by due time takes a limit alone")
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func invalid(format string, args ...any) error {
	return &cred.Error{Kind: cred.Invalid, Op: "store", Reason: "STORE_INVALID", Public: fmt.Sprintf(format, args...)}
}

// NotFound returns the error of a Get that finds no record.
func NotFound(k Key) error {
	return &cred.Error{
		Kind: cred.NotFound, Op: "store.get", Reason: "RECORD_NOT_FOUND", Public: "there is no such record",
		Err: fmt.Errorf("%s/%s", k.Table, k.ID),
	}
}

// Conflict returns the error of a Put whose Rev is not the stored one.
func Conflict(k Key, stored, given uint64) error {
	return &cred.Error{
		Kind: cred.Conflict, Op: "store.put", Reason: "RECORD_CHANGED",
		Public: "somebody else has changed this in the meantime; read it again and repeat",
		Err:    fmt.Errorf("%s/%s has revision %d, given %d", k.Table, k.ID, stored, given),
	}
}

// ReadOnly returns the error of a write in a View.
func ReadOnly() error {
	return &cred.Error{Kind: cred.Internal, Op: "store.view", Reason: "READ_ONLY", Public: "a View can't write"}
}

// TxOver returns the error of a Tx that is used after its fn has returned.
func TxOver() error {
	return &cred.Error{Kind: cred.Internal, Op: "store", Reason: "TX_OVER", Public: "a transaction was used after its function had returned"}
}
