package issuer

import (
	"context"
	"time"
)

// AccessKey is one access key of a user at AWS, without its secret.
type AccessKey struct {
	ID      string
	Created time.Time
	Active  bool
}

// KeyLister looks after the access keys of one user at AWS, for the rotation of what Vault's AWS
// engine uses: Vault makes a new key, deletes the old one, and can lose track of it in between.
//
// List returns all keys of the user, the oldest first; AWS has two at the most. Delete ends a key
// before it returns, as far as AWS knows: IAM takes some seconds to tell its other services. It is
// idempotent: a key that the user does not have is success.
//
// An error is a *cred.Error. Of Delete, kind Unavailable means that the key may be gone, unless the
// error wraps ErrNotIssued; every other kind means that it stands.
type KeyLister interface {
	List(ctx context.Context) ([]AccessKey, error)
	Delete(ctx context.Context, id string) error
}
