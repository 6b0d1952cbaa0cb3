package boltlog

import (
	"context"
	"fmt"

	"github.com/daypass-io/daypass/cred"
)

// Reasons of this package's errors, for programs.
const (
	reasonClosed    = "LOG_CLOSED"
	reasonLocked    = "LOG_LOCKED"
	reasonNewer     = "LOG_FORMAT_NEWER"
	reasonOlder     = "LOG_FORMAT_OLDER"
	reasonKey       = "LOG_KEY_DIFFERS"
	reasonOrigin    = "LOG_ORIGIN_DIFFERS"
	reasonDamaged   = "LOG_DAMAGED"
	reasonWrite     = "LOG_WRITE_FAILED"
	reasonUncertain = "LOG_SYNC_FAILED"
	reasonDeadline  = "LOG_DEADLINE"
	reasonPanicked  = "LOG_FN_PANICKED"
)

func errClosed() error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "log", Reason: reasonClosed,
		Public: "daypass is stopping and takes no more work; try again in a moment",
	}
}

func errDeadline(ctx context.Context) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "log", Reason: reasonDeadline,
		Public: "the request ended before the store could begin with it, so nothing was done; try again",
		Err:    context.Cause(ctx),
	}
}

func errWrite(cause error) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "log.commit", Reason: reasonWrite,
		Public: "daypass could not write to its disk, so nothing was done; try again once the disk has space",
		Err:    cause,
	}
}

func errUncertain(cause error) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "log.commit", Reason: reasonUncertain,
		Public: "daypass could not make sure that its disk holds the last change, so it writes no more; " +
			"its operator must check the disk and restart it",
		Err: cause,
	}
}

func errPanicked() error {
	return &cred.Error{
		Kind: cred.Internal, Op: "log.update", Reason: reasonPanicked,
		Public: "the transaction's function did not return; it was undone",
	}
}

func errDamaged(path string, cause error) error {
	return &cred.Error{
		Kind: cred.Internal, Op: "log.open", Reason: reasonDamaged,
		Public: fmt.Sprintf("%s is damaged and is not used; keep a copy of it for the inquiry, "+
			"and restore the file from a backup", path),
		Err: cause,
	}
}

func errRead(cause error) error {
	return &cred.Error{
		Kind: cred.Internal, Op: "log.read", Reason: reasonDamaged,
		Public: "the audit log can't be read as it was written; stop daypass and restore the file from a backup",
		Err:    cause,
	}
}

func errRange(format string, args ...any) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "log.read", Reason: "OUT_OF_RANGE",
		Public: fmt.Sprintf(format, args...),
	}
}
