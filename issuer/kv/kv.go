// Package kv rotates a secret that is kept in Vault's KV version 2 and opens something else: a
// PostgreSQL role, a GitLab token, or whatever a command of the operator's knows how to change.
//
// A rotation is two writes at two places, which can't be one. What stands between them depends on what
// the secret opens; each Opener says it. The new secret is journaled, sealed, before it is used, and
// KV is written with check-and-set, so that a write of somebody else is never overwritten.
//
// KV version 2 is described at https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
package kv

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Values are a secret's fields by their names.
type Values = map[string]cred.Secret

// Keeper reads and writes Vault's KV version 2. Errors are *cred.Error: Unavailable where a write may
// have been done.
type Keeper interface {
	// ReadKV returns the current version of a secret; kind NotFound where there is none.
	ReadKV(ctx context.Context, path string) (data map[string]cred.Secret, version int, err error)
	// WriteKV writes the next version and returns its number. It does so only while the current
	// version is cas, and fails otherwise with a kind other than Unavailable.
	WriteKV(ctx context.Context, path string, data map[string]cred.Secret, cas int) (int, error)
	// DestroyKV removes versions for good. Versions that are not there are no error.
	DestroyKV(ctx context.Context, path string, versions []int) error
}

// Opener is what a secret opens. Errors are *cred.Error with the meaning that issuer.Rotator gives to
// their kinds. Values are whole secrets, those fields that the opener doesn't know included.
type Opener interface {
	// Works opens it with a secret. Kind Denied says that it was refused.
	Works(ctx context.Context, v Values) error
	// Next returns those fields that will be different, or nothing where it is only known after the
	// change. What Next may have made, Change or End find by the rotation's ID.
	Next(ctx context.Context, r issuer.Rotation, current Values) (Values, error)
	// Change makes to open it, where from did, and calls put, once or more often, at the instant at
	// which to should stand in KV. Where to was not known it returns the fields that it learned, also
	// with an error: they are the only copy. Change is called with from and to exchanged to undo a
	// change; kind Invalid then says that the old secret is no more.
	Change(ctx context.Context, r issuer.Rotation, from, to Values, put Put) (learned Values, err error)
	// End makes sure that nothing opens it which this rotation, or the one before it, made or
	// replaced, except stays. gone is what has to be refused; it is nil where nobody knows it.
	End(ctx context.Context, r issuer.Rotation, stays, gone Values) error
}

// Put writes a secret to KV. Calling it twice with the same secret writes once.
type Put = func(ctx context.Context, v Values) error

// Checker is an Opener that can tell beforehand what would hinder a change.
type Checker interface {
	// Check changes nothing.
	Check(ctx context.Context, r issuer.Rotation, current Values) ([]cred.Finding, error)
}

// Undoer is an Opener that undoes a change in another way than by Change with from and to exchanged.
// to is nil where nobody knows what it was.
type Undoer interface {
	Undo(ctx context.Context, r issuer.Rotation, from, to Values, put Put) error
}

// Config describes one secret.
type Config struct {
	Keeper Keeper
	Path   string // as Keeper wants it, e.g. "secret/orders/db"
	Opener Opener

	// Overlap is how long the old secret stays good after the switch, for those who have read it and
	// not used it yet, where Opener can have two; zero: not at all.
	Overlap time.Duration
	// KeepVersions is how many versions stay in KV, the current one included; zero means 1.
	KeepVersions int
	// Verify, where it is set, uses the secret as read back from KV, after the opener has.
	Verify func(ctx context.Context, c cred.Credential) error
}

// maxVersions bounds the versions that one rotation destroys: KV keeps ten unless told otherwise.
const maxVersions = 128

// New returns a rotator that has asked nobody yet. It fails with kind Invalid where the configuration
// can't work.
func New(cfg Config) (issuer.Rotator, error) {
	switch {
	case cfg.Keeper == nil || cfg.Opener == nil:
		return nil, invalidConfig("a rotated secret needs a Vault where it is kept, and something that it opens", nil)
	case cfg.Path == "":
		return nil, invalidConfig("a rotated secret needs its path in Vault", nil)
	case cfg.KeepVersions < 0 || cfg.KeepVersions > maxVersions:
		return nil, invalidConfig("keep_versions must be 1 to 128", nil)
	case cfg.Overlap < 0:
		return nil, invalidConfig("overlap can't be negative", nil)
	}
	if cfg.KeepVersions == 0 {
		cfg.KeepVersions = 1
	}
	return &rotator{cfg: cfg, now: time.Now}, nil
}

// rotator is an issuer.Rotator.
type rotator struct {
	cfg Config
	now func() time.Time
}

// Covers implements issuer.Scoped.
func (r *rotator) Covers(path string) bool {
	fixed, _, open := strings.Cut(path, "{")
	return path == r.cfg.Path || open && strings.HasPrefix(r.cfg.Path, fixed)
}

func invalidConfig(public string, err error) error {
	if err == nil {
		err = errors.New("kv: the configuration is not complete")
	}
	return &cred.Error{Kind: cred.Invalid, Op: "kv.config", Reason: "ROTATION_MISCONFIGURED", Public: public, Err: err}
}
