package issuer

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Renewer is an Issuer whose credentials can be made to last longer than they were issued for.
//
// Renew asks the source to let a lease live until an instant, absolute, and returns the end that it then
// has, which may be earlier. It is idempotent. The error is Invalid where the lease can't be renewed (any
// more), NotFound where the source does not know it, Unavailable where nobody knows and trying again may
// help.
type Renewer interface {
	Renew(ctx context.Context, l cred.Lease, until time.Time) (time.Time, error)
}

// Lister is an Issuer whose source can list the credentials that live there.
type Lister interface {
	// Live returns the source's own names of the credentials that live where this issuer mints, those
	// that somebody else made there included. The names are no secrets and fit for the log.
	Live(ctx context.Context) ([]string, error)
	// NameOf returns the name under which Live lists a lease; empty for one that it does not list.
	NameOf(l cred.Lease) string
}
