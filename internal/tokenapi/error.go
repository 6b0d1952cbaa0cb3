package tokenapi

import (
	"fmt"
	"net/http"
	"time"
)

// Error is how one request failed: with a status, or without an answer. Its text holds nothing that
// was sent.
type Error struct {
	Op         string
	Status     int           // zero: no answer
	Code       string        // the answer's error (RFC 6749, section 5.2), or Google's error.status (AIP-193)
	Numbers    []int         // the answer's error_codes, which Microsoft Entra has
	Unsent     bool          // there was never a connection
	Doubt      bool          // it is open what an earlier try of the same request did
	RetryAfter time.Duration // zero: the server does not say
	Err        error
}

// Error returns the private text.
func (e *Error) Error() string {
	return fmt.Sprintf("tokenapi: %s: status %d %s: %v", e.Op, e.Status, e.Code, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Busy reports whether the server limits how often it may be asked.
func (e *Error) Busy() bool {
	return e.Status == http.StatusTooManyRequests || e.Code == "slow_down" || e.Code == "temporarily_unavailable" && e.Status < 500
}

// Open reports whether it is open what the request did: the answer was lost, is a fault of the server's,
// or can't be read.
func (e *Error) Open() bool {
	return !e.Unsent && !e.Busy() && (e.Status >= 500 || e.Status < 300 && e.Code == "" || e.Status >= 300 && e.Status < 400)
}

// MayHaveMade reports whether the request, or an earlier try of it, may have made something.
func (e *Error) MayHaveMade() bool { return e.Open() || e.Doubt }

// Silent reports whether the server gave no answer of its own to what is open.
func (e *Error) Silent() bool { return e.Doubt || e.Status == 0 || e.Status >= 500 }

// Answered says that a request may be sent again where the server is busy or has a fault of its own,
// or was not reached. A request whose answer was lost is not: a token may be in it.
func Answered(e *Error) bool { return e.Unsent || e.Busy() || e.Status >= 500 }

// Passing says that a request may be sent again after a lost answer, too: for requests whose outcome
// nobody gets to see.
func Passing(e *Error) bool { return e.Status == 0 || Answered(e) }
