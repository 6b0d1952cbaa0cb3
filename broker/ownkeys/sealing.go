package ownkeys

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// SealingConfig is what the rotation of the store's sealing key needs. Store, Key and Now are required.
type SealingConfig struct {
	Store store.Store // a sealed one, of Key
	Key   *store.SealingKey
	Now   func() time.Time

	// Nested counts what was sealed with Key.AEAD() before an instant and may still have to be opened,
	// such as the handles of leases that live: see OpenLeases. The old key stays until it says zero.
	// Nil: nothing is sealed so.
	Nested func(ctx context.Context, before time.Time) (int, error)
	// Settle is how long other processes that share the store may take until they have loaded the key's
	// file. The old key stays for so long after the switch. Zero means 10 minutes.
	Settle time.Duration
}

// SealingKey rotates the key that seals the store. Prepare adds the next key to the file, where it opens
// only; Switch makes it the one that seals; Retire seals anew what the old one sealed, and removes it.
type SealingKey struct{ cfg SealingConfig }

var _ issuer.Rotator = (*SealingKey)(nil)

// NewSealingKey checks a configuration. Errors are Invalid.
func NewSealingKey(cfg SealingConfig) (*SealingKey, error) {
	if cfg.Store == nil || cfg.Key == nil || cfg.Now == nil {
		return nil, cred.Errorf(cred.Invalid, "sealing_key", "the rotation of the sealing key lacks a required part of its configuration", "incomplete")
	}
	if cfg.Nested == nil {
		cfg.Nested = func(context.Context, time.Time) (int, error) { return 0, nil }
	}
	if cfg.Settle <= 0 {
		cfg.Settle = 10 * time.Minute
	}
	return &SealingKey{cfg}, nil
}

// Check implements issuer.Rotator.
func (s *SealingKey) Check(ctx context.Context, _ issuer.Rotation) ([]cred.Finding, error) {
	if err := s.cfg.Key.Reload(); err != nil {
		return nil, err
	}
	file := cred.Finding{Name: "key file can be replaced", OK: true, Text: "daypass may write to the directory of the sealing key's file"}
	if err := s.cfg.Key.Replaceable(); err != nil {
		file.OK, file.Text = false, cred.PublicText(err)
	}
	others, err := store.SealedByOthers(ctx, s.cfg.Store)
	if err != nil {
		return nil, err
	}
	return []cred.Finding{
		{Name: "key in use", OK: true, Text: fmt.Sprintf("key %s seals", store.KeyName(s.cfg.Key.Primary()))},
		file,
		{Name: "records under older keys", OK: true, Text: fmt.Sprintf("%d; they are sealed anew before the old key goes", others)},
	}, nil
}

// Prepare implements issuer.Rotator.
func (s *SealingKey) Prepare(_ context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	next, err := s.cfg.Key.Extend()
	if err != nil {
		return r, err
	}
	r.Old, r.New = store.KeyName(s.cfg.Key.Primary()), store.KeyName(next)
	return r, nil
}

// Switch implements issuer.Rotator. What was sealed with the old key was sealed before RetireAfter.
func (s *SealingKey) Switch(_ context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	next, err := keyID(r.New)
	if err != nil {
		return r, err
	}
	if err := s.cfg.Key.Reload(); err != nil {
		return r, err
	}
	if is := store.KeyName(s.cfg.Key.Primary()); is != r.Old && is != r.New {
		return r, changed("sealing_key.switch", "the sealing key", is, r)
	}
	if err := s.cfg.Key.Use(next); err != nil {
		return r, err
	}
	r.RetireAfter = s.cfg.Now().Add(s.cfg.Settle)
	return r, nil
}

func keyID(name string) (uint32, error) {
	id, err := strconv.ParseUint(name, 16, 32)
	if err != nil {
		return 0, cred.Errorf(cred.Invalid, "sealing_key", "the rotation names no sealing key", "%w", err)
	}
	return uint32(id), nil
}

// Verify implements issuer.Rotator: what is sealed now is sealed with the new key, and opens with the
// file alone.
func (s *SealingKey) Verify(_ context.Context, r issuer.Rotation) error {
	if err := s.cfg.Key.Reload(); err != nil {
		return err
	}
	if is := store.KeyName(s.cfg.Key.Primary()); is != r.New {
		return changed("sealing_key.verify", "the sealing key", is, r)
	}
	about := []byte("daypass sealing key rotation " + r.ID)
	sealed, err := s.cfg.Key.AEAD().Encrypt([]byte(r.New), about)
	if err != nil {
		return cred.Errorf(cred.Invalid, "sealing_key.verify", "the new sealing key does not seal", "%w", err)
	}
	opened, err := s.cfg.Key.AEAD().Decrypt(sealed, about)
	if err != nil || string(opened) != r.New {
		return cred.Errorf(cred.Invalid, "sealing_key.verify", "what the new sealing key seals does not open", "%v", err)
	}
	return nil
}

// Retire implements issuer.Rotator. It goes on sealing anew for as long as ctx lets it.
func (s *SealingKey) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	if now := s.cfg.Now(); now.Before(r.RetireAfter) {
		return r, wait("sealing_key.retire", "other processes may seal with the old key until "+clock(r.RetireAfter), now, r.RetireAfter)
	}
	if err := s.cfg.Key.Reload(); err != nil {
		return r, err
	}
	if is := store.KeyName(s.cfg.Key.Primary()); is != r.New {
		return r, changed("sealing_key.retire", "the sealing key", is, r)
	}
	before := r.RetireAfter
	if before.IsZero() { // the answer of Switch was lost for good
		before = r.Began
	}
	return r, s.clear(ctx, before)
}

// clear removes every key but the primary one, once nothing needs them.
func (s *SealingKey) clear(ctx context.Context, before time.Time) error {
	if len(s.cfg.Key.IDs()) == 1 {
		return nil
	}
	if _, err := store.Reseal(ctx, s.cfg.Store, nil); err != nil && ctx.Err() == nil {
		return err
	}
	left, err := store.SealedByOthers(context.WithoutCancel(ctx), s.cfg.Store)
	if err != nil {
		return err
	}
	if left > 0 {
		return wait("sealing_key.retire", fmt.Sprintf("%d records are still to be sealed anew; that goes on by itself", left), time.Time{}, time.Time{})
	}
	nested, err := s.cfg.Nested(ctx, before)
	if err != nil {
		return err
	}
	if nested > 0 {
		return wait("sealing_key.retire", fmt.Sprintf("%d leases that live have handles which an older key sealed; it goes when they have ended", nested), time.Time{}, time.Time{})
	}
	var old []uint32
	for _, id := range s.cfg.Key.IDs() {
		if id != s.cfg.Key.Primary() {
			old = append(old, id)
		}
	}
	return s.cfg.Key.Drop(old...)
}

// Undo implements issuer.Rotator. The old key seals again at once; the new one goes when nothing needs
// it, and the error is Pending until then. A file in which somebody else has put another key into use
// stays as it is.
func (s *SealingKey) Undo(ctx context.Context, r issuer.Rotation) error {
	return undone(s.undo(ctx, r))
}

func (s *SealingKey) undo(ctx context.Context, r issuer.Rotation) error {
	if err := s.cfg.Key.Reload(); err != nil {
		return err
	}
	is := store.KeyName(s.cfg.Key.Primary())
	if r.Old == "" || r.Old == is && r.Attempt <= 1 { // Switch was not done, so nothing was sealed with it
		return s.dropUnused()
	}
	old, err := keyID(r.Old)
	if err != nil {
		return err
	}
	switch {
	case is != r.Old && is != r.New:
		return nil
	case !slices.Contains(s.cfg.Key.IDs(), old):
		return gone("sealing_key.undo", "the sealing key "+r.Old)
	}
	if err := s.cfg.Key.Use(old); err != nil {
		return err
	}
	if len(s.cfg.Key.IDs()) == 1 {
		return nil
	}
	now, at := s.cfg.Now(), r.Began.Add(s.cfg.Settle)
	if now.Before(at) {
		return wait("sealing_key.undo", "the old key seals again; other processes may seal with the new one until "+clock(at), now, at)
	}
	return s.clear(ctx, at)
}

// dropUnused removes the keys that came after the primary one, with which nothing was sealed.
func (s *SealingKey) dropUnused() error {
	ids := s.cfg.Key.IDs()
	after := ids[slices.Index(ids, s.cfg.Key.Primary())+1:]
	return s.cfg.Key.Drop(after...)
}
