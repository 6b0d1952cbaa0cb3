package ownkeys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// SigningConfig is what the rotation of the keys that sign grant tokens needs. Record, Store, Keys, URL
// and Now are required.
type SigningConfig struct {
	Store  store.Store // a sealed one
	Record store.Key   // of the ring, see broker.KeysRecord
	Keys   *token.Live // what the process signs with
	URL    string      // the broker's name as an issuer of tokens
	Now    func() time.Time

	// Longest is the longest time for which a grant token holds. The previous key verifies for so long
	// after the switch. Zero means 30 days, the most that a rule can allow.
	Longest time.Duration
	// Caches is how long the published keys may be cached. The next key signs only once it has been
	// published for so long. Zero means 15 minutes: our own proxies ask anew after 10, other caches
	// after the 5 that the answer says.
	Caches time.Duration
	// Published returns the key set as verifiers get it; nil: that of Keys.
	Published func(ctx context.Context) ([]byte, error)
}

// SigningKeys rotates the ring of keys that sign grant tokens. The next key was published when the
// current one began to sign, so no verifier ever meets a key that it does not have.
type SigningKeys struct {
	cfg SigningConfig
	mu  sync.Mutex // guards that cfg.Keys follows the store
}

var _ issuer.Rotator = (*SigningKeys)(nil)

// NewSigningKeys checks a configuration. The process's ring looks into the store, from now on, for keys
// that it does not know. Errors are Invalid.
func NewSigningKeys(cfg SigningConfig) (*SigningKeys, error) {
	if cfg.Store == nil || cfg.Record.Check() != nil || cfg.Keys == nil || cfg.URL == "" || cfg.Now == nil {
		return nil, cred.Errorf(cred.Invalid, "signing_keys", "the rotation of the signing keys lacks a required part of its configuration", "incomplete")
	}
	if cfg.Longest <= 0 {
		cfg.Longest = 30 * 24 * time.Hour
	}
	if cfg.Caches <= 0 {
		cfg.Caches = 15 * time.Minute
	}
	if cfg.Published == nil {
		cfg.Published = func(context.Context) ([]byte, error) { return cfg.Keys.JWKS(), nil }
	}
	s := &SigningKeys{cfg: cfg}
	cfg.Keys.OnUnknown(s.Reload)
	return s, nil
}

// Reload sets the ring that the store has: another process may have rotated it. Call it now and then,
// more often than every Caches, where several processes share a store.
func (s *SigningKeys) Reload(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ring *token.KeyRing
	err := s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		ring, _, err = s.stored(tx)
		return err
	})
	if err != nil {
		return err
	}
	s.cfg.Keys.Set(ring)
	return nil
}

func (s *SigningKeys) stored(tx store.Tx) (*token.KeyRing, store.Record, error) {
	r, err := tx.Get(s.cfg.Record)
	if err != nil {
		return nil, r, err
	}
	ring, err := token.ParseKeyRing(cred.NewSecret(bytes.Clone(r.Value)))
	return ring, r, err
}

// ready returns when the next key has been published for long enough, and no token of the key that
// drops out can still hold.
func (s *SigningKeys) ready(ring *token.KeyRing) time.Time {
	at := ring.RotatedAt().Add(s.cfg.Caches)
	if free := s.freeAt(ring); ring.PreviousID() != "" && free.After(at) {
		return free
	}
	return at
}

// freeAt is when every token of the key that signed before has expired, in every process: another one
// may sign with it until it has loaded the ring.
func (s *SigningKeys) freeAt(ring *token.KeyRing) time.Time {
	return ring.RotatedAt().Add(s.cfg.Longest + s.cfg.Caches + token.MaxSkew)
}

// Check implements issuer.Rotator.
func (s *SigningKeys) Check(ctx context.Context, _ issuer.Rotation) ([]cred.Finding, error) {
	if err := s.Reload(ctx); err != nil {
		return nil, err
	}
	ring, now := s.cfg.Keys.Current(), s.cfg.Now()
	text := fmt.Sprintf("key %s has been published since %s and may sign", ring.NextID(), clock(ring.RotatedAt()))
	if at := s.ready(ring); at.After(now) {
		text = fmt.Sprintf("key %s may sign from %s on; the rotation waits until then", ring.NextID(), clock(at))
	}
	return []cred.Finding{
		{Name: "key in use", OK: true, Text: fmt.Sprintf("key %s has signed since %s", ring.KeyID(), clock(ring.RotatedAt()))},
		{Name: "next key is published", OK: true, Text: text},
	}, nil
}

// Prepare implements issuer.Rotator: the next key is there already, and must have been for a while.
func (s *SigningKeys) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	if err := s.Reload(ctx); err != nil {
		return r, err
	}
	ring := s.cfg.Keys.Current()
	if err := s.waitReady(ring); err != nil {
		return r, err
	}
	r.Old, r.New = ring.KeyID(), ring.NextID()
	return r, nil
}

func (s *SigningKeys) waitReady(ring *token.KeyRing) error {
	now := s.cfg.Now()
	if at := s.ready(ring); at.After(now) {
		return wait("signing_keys.prepare", fmt.Sprintf("the next key signs from %s on, when everybody has it and no token of the key before depends on what drops out", clock(at)), now, at)
	}
	return nil
}

// Switch implements issuer.Rotator.
func (s *SigningKeys) Switch(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	ring, err := s.change(ctx, r, "switched", func(ring *token.KeyRing) (*token.KeyRing, error) {
		switch {
		case ring.KeyID() == r.New:
			return ring, nil // done before
		case ring.KeyID() != r.Old || ring.NextID() != r.New:
			return nil, changed("signing_keys.switch", "the signing key", ring.KeyID(), r)
		}
		if err := s.waitReady(ring); err != nil {
			return nil, err
		}
		return ring.Rotate(s.cfg.Now())
	})
	if err == nil {
		r.RetireAfter = s.freeAt(ring)
	}
	return r, err
}

// change stores the ring that next makes of the stored one, with its entry, and sets it. A next that
// returns the ring it was given changes nothing.
func (s *SigningKeys) change(ctx context.Context, r issuer.Rotation, step string, next func(*token.KeyRing) (*token.KeyRing, error)) (*token.KeyRing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var result *token.KeyRing
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		ring, record, err := s.stored(tx)
		if err != nil {
			return err
		}
		if result, err = next(ring); err != nil || result == ring {
			return err
		}
		if err := tx.Put(store.Record{Key: s.cfg.Record, Rev: record.Rev, Value: result.Encode().Reveal()}); err != nil {
			return err
		}
		return tx.Append(audit.Event{Kind: audit.KeyRotated, Time: s.cfg.Now().UTC(), Detail: map[string]any{
			"ring": s.cfg.Record.ID, "step": step, "rotation": r.ID, "old": r.Old, "new": r.New,
		}})
	})
	if err != nil {
		return nil, err
	}
	s.cfg.Keys.Set(result)
	return result, nil
}

// Verify implements issuer.Rotator: it signs a token and verifies it with what is published, offline.
func (s *SigningKeys) Verify(ctx context.Context, r issuer.Rotation) error {
	if err := s.Reload(ctx); err != nil {
		return err
	}
	if is := s.cfg.Keys.Current().KeyID(); is != r.New {
		return changed("signing_keys.verify", "the signing key", is, r)
	}
	jwks, err := s.cfg.Published(ctx)
	if err != nil {
		return &cred.Error{Kind: cred.Unavailable, Op: "signing_keys.verify", Public: "the published keys can't be had", Err: err}
	}
	return s.prove(ctx, jwks)
}

// proofTarget is no target's name: nothing takes the token that Verify signs.
const proofTarget = "rotation/proof"

func (s *SigningKeys) prove(ctx context.Context, jwks []byte) error {
	var set published
	if err := json.Unmarshal(jwks, &set.JSONWebKeySet); err != nil {
		return unproven(err)
	}
	now := s.cfg.Now()
	tok, err := s.cfg.Keys.Sign(token.Claims{
		Issuer: s.cfg.URL, Subject: "daypass-broker", Audience: []string{token.Audience(proofTarget)}, ClientID: "daypass-broker",
		IssuedAt: now, NotBefore: now, ExpiresAt: now.Add(time.Minute), ID: rand.Text(),
		Grant: token.GrantClaims{ID: "gr_none", Target: proofTarget},
	})
	if err != nil {
		return unproven(err)
	}
	if _, err := token.NewVerifier(s.cfg.URL, set, func() time.Time { return now }).Verify(ctx, tok, token.Audience(proofTarget)); err != nil {
		return unproven(err)
	}
	return nil
}

func unproven(err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "signing_keys.verify", Reason: "ROTATION_UNPROVEN",
		Public: "a token that the new key signed does not verify with the published keys", Err: err,
	}
}

// published are the keys of a JWK set, as a verifier has them.
type published struct{ jose.JSONWebKeySet }

func (p published) Key(_ context.Context, kid, alg string) (crypto.PublicKey, error) {
	for _, k := range p.JSONWebKeySet.Key(kid) {
		if k.Algorithm == alg && k.IsPublic() {
			return k.Key, nil
		}
	}
	return nil, cred.Errorf(cred.Unauthenticated, "signing_keys.verify", "", "%w", errors.New("the published set lacks the key "+kid))
}

// Retire implements issuer.Rotator.
func (s *SigningKeys) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	_, err := s.change(ctx, r, "retired", func(ring *token.KeyRing) (*token.KeyRing, error) {
		if ring.PreviousID() != r.Old {
			return ring, nil // gone before
		}
		if now, at := s.cfg.Now(), s.freeAt(ring); at.After(now) {
			return nil, wait("signing_keys.retire", "grant tokens that the old key signed may hold until "+clock(at), now, at)
		}
		return ring.Drop()
	})
	return r, err
}

// Undo implements issuer.Rotator. A ring that somebody else has rotated stays as it is.
func (s *SigningKeys) Undo(ctx context.Context, r issuer.Rotation) error {
	_, err := s.change(ctx, r, "restored", func(ring *token.KeyRing) (*token.KeyRing, error) {
		switch {
		case r.Old == "" || ring.KeyID() != r.New:
			return ring, nil
		case ring.PreviousID() != r.Old:
			return nil, gone("signing_keys.undo", "the signing key "+r.Old)
		}
		return ring.Back(s.cfg.Now())
	})
	return err
}
