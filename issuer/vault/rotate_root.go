package vault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// RootConfig names a root that Vault holds and rotates itself: nobody but Vault learns the new one.
type RootConfig struct {
	// Path is the one that rotates it: MOUNT/rotate-root/NAME and MOUNT/rotate-role/NAME of databases,
	// MOUNT/config/rotate-root of aws and gcp, MOUNT/rotate-root and MOUNT/rotate-role/NAME of ldap,
	// MOUNT/rotate-root of azure; also those of the auth methods aws, ldap and azure below "auth/".
	Path string
	// Engine is the type of what is mounted there, e.g. "database"; empty: ask Vault.
	Engine string
	// Verify says how to prove that the root works.
	Verify VerifyConfig
	// Keys looks after the access keys of the user, where the root is one at AWS. Without it a rotation
	// whose answer was lost needs a person, who deletes the old key.
	Keys issuer.KeyLister
}

// The notes of a root's rotation.
const (
	noteSwitched = "switched" // Vault said that the new root is in use: "answer", or "found" by a look
	noteKeys     = "keys"     // IDs of the access keys before the rotation, with commas
)

// What AWS needs to know a key everywhere, and how long Vault may still be at work on a rotation whose
// answer was lost (default_max_request_duration, 90 s).
const (
	consistencyTime = time.Minute
	settleTime      = 2 * time.Minute
)

// root rotates a root by one of Vault's rotation endpoints. It keeps nothing between the acts.
type root struct {
	vault *Issuer
	cfg   RootConfig
	at    rotatePath
	now   func() time.Time
}

// RootRotator returns a rotator for a root that Vault holds. The old root ends with Switch, so Undo is
// refused from then on. The error is Invalid.
//
// A lost answer of Switch is looked into by the next try. Where the engine names its root (a key's ID,
// the time of its last rotation) the name tells. A database's and a Google Cloud engine's do not: there
// a fresh credential has to prove that the root in use works, whichever it is, and then it is rotated
// once more, until the answer is plain. One more rotation costs nothing, since no root but the last is
// of use to anybody and only Vault knows any of them.
func (i *Issuer) RootRotator(cfg RootConfig) (issuer.Rotator, error) {
	at, err := readRotatePath(cfg.Path)
	if err != nil {
		return nil, err
	}
	if cfg.Verify.Path == "" && cfg.Verify.Probe == nil && !strings.HasPrefix(at.form, "rotate-role/") {
		return nil, invalidConfig("say how to prove that the root at "+cfg.Path+" works: a path to mint from, such as database/creds/orders-ro", errors.New("vault: a root without verify"))
	}
	if cfg.Verify.Path != "" {
		if err := checkPath(cfg.Verify.Path); err != nil {
			return nil, err
		}
	}
	return &root{vault: i, cfg: cfg, at: at, now: time.Now}, nil
}

// Prepare notes which root is in use. Vault has no place for a second one.
func (x *root) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	k, err := x.kind(ctx)
	if err != nil {
		return r, err
	}
	if r.Old, err = x.inUse(ctx, k); err != nil {
		return r, err
	}
	if !k.accessKey || x.cfg.Keys == nil {
		return r, nil
	}
	keys, err := x.cfg.Keys.List(ctx)
	if err != nil {
		return r, err
	}
	if found := oneKey(keys, r.Old); !found.OK {
		return r, &cred.Error{Kind: cred.Invalid, Op: "vault.rotate", Reason: "ACCESS_KEYS", Public: found.Text}
	}
	return noted(r, noteKeys, keyIDs(keys)), nil
}

// Switch lets Vault rotate the root.
func (x *root) Switch(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	k, err := x.kind(ctx)
	if err != nil {
		return r, x.open(r, rootKind{}, err)
	}
	if r.Attempt > 1 {
		if now, done, err := x.lookAgain(ctx, k, r); done || err != nil {
			return now, err
		}
	}
	var answer *api.Secret
	err = x.vault.calm.alone(ctx, x.at.mount, func() (err error) {
		answer, err = x.vault.once(ctx, request{method: "POST", path: x.cfg.Path})
		return err
	})
	if cred.KindOf(err) == cred.Pending {
		return r, err
	}
	if err != nil {
		return r, x.open(r, k, changing("vault.rotate", "the rotation of "+k.what, err))
	}
	r = noted(r, noteSwitched, "answer")
	r.New, _ = answerData(answer)[k.answer].(string)
	if r.New == "" && !k.adopted {
		r.New, _ = x.inUse(ctx, k) // the rotation is done, and the name a courtesy
	}
	return r, nil
}

// lookAgain looks whether an earlier try was done, and makes sure that another one can be.
func (x *root) lookAgain(ctx context.Context, k rootKind, r issuer.Rotation) (_ issuer.Rotation, done bool, err error) {
	now, err := x.inUse(ctx, k)
	if err != nil {
		return r, false, x.open(r, k, err)
	}
	if now != "" && r.Old != "" && !k.adopted {
		if now != r.Old {
			r.New = now
			return noted(r, noteSwitched, "found"), true, nil
		}
		return r, false, x.endStray(ctx, k, r)
	}
	if err := x.works(ctx, k, r); err != nil {
		return r, false, x.open(r, k, err)
	}
	return r, false, nil
}

// open turns a refusal of a later try into Unavailable where the root has no name: an earlier try may
// have been done, so it is not true that nothing was changed.
func (x *root) open(r issuer.Rotation, k rootKind, err error) error {
	named := k.names != "" && r.Old != "" && !k.adopted
	if r.Attempt <= 1 || named || cred.KindOf(err) == cred.Pending || cred.KindOf(err) == cred.Unavailable {
		return err
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "vault.rotate", Reason: "ROTATION_OPEN",
		Public: "Vault may have rotated the root in an earlier try, and now: " + cred.PublicText(err), Err: err,
	}
}

// Verify mints under the root in use, which is the new one, and uses what was minted.
func (x *root) Verify(ctx context.Context, r issuer.Rotation) error {
	k, err := x.kind(ctx)
	if err != nil {
		return err
	}
	now, err := x.inUse(ctx, k)
	if err != nil {
		return err
	}
	if now != "" && now == r.Old {
		return stillOld(k, now)
	}
	err = x.works(ctx, k, r)
	if _, alarming := issuer.Alarm(err); err != nil && !alarming && k.accessKey && x.now().Sub(r.Began) < consistencyTime {
		return &cred.Error{
			Kind: cred.Unavailable, Op: "vault.rotate", Reason: "NOT_YET_KNOWN", RetryAfter: 10 * time.Second,
			Public: "AWS refuses the new key, which it may not know everywhere yet: that takes some seconds", Err: err,
		}
	}
	return err
}

func stillOld(k rootKind, name string) error {
	if k.adopted {
		return &cred.Error{
			Kind: cred.Pending, Op: "vault.rotate", Reason: "NOT_YET_ADOPTED", RetryAfter: 20 * time.Second,
			Public: "Vault has made the new root and takes it into use by itself, about a minute later",
		}
	}
	return &cred.Error{
		Kind: cred.Conflict, Op: "vault.rotate", Reason: "ROOT_CHANGED",
		Public: "Vault's configuration names " + k.what + " from before the rotation again (" + name + "); somebody has put it back",
	}
}

// Retire ends an old access key that Vault has left behind. Every other old root ended with Switch.
func (x *root) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	k, err := x.kind(ctx)
	if err != nil || !k.accessKey || r.Old == "" {
		return r, err
	}
	now, err := x.inUse(ctx, k)
	if err != nil {
		return r, err
	}
	if now == r.Old {
		return r, stillOld(k, now)
	}
	return r, x.endOldKey(ctx, r)
}

// Undo has nothing to do before Switch, and can do nothing after it.
func (x *root) Undo(ctx context.Context, r issuer.Rotation) error {
	gone := &cred.Error{Kind: cred.Invalid, Op: "vault.rotate", Reason: "ROOT_GONE", Public: "Vault has replaced the old root, and nobody can bring it back; the new one stays in use"}
	if !r.Notes[noteSwitched].IsZero() {
		return gone
	}
	k, err := x.kind(ctx)
	if err != nil || r.Old == "" {
		return err
	}
	now, err := x.inUse(ctx, k)
	if err != nil {
		return err
	}
	if now != "" && now != r.Old {
		return gone
	}
	return x.endStray(ctx, k, r)
}

// inUse returns how the source names the root that is in use; empty where it does not.
func (x *root) inUse(ctx context.Context, k rootKind) (string, error) {
	if k.names == "" {
		return "", nil
	}
	about, err := x.settings(ctx, k)
	if err != nil {
		return "", err
	}
	name, _ := about[k.names].(string)
	return name, nil
}

// settings reads the root's configuration in Vault, which holds no secrets.
func (x *root) settings(ctx context.Context, k rootKind) (map[string]any, error) {
	answer, err := x.vault.asBroker(ctx, request{method: "GET", path: x.at.below(k.config)})
	if err != nil {
		return nil, asking("vault.rotate", "to tell how "+k.what+" is configured", err)
	}
	return answerData(answer), nil
}

// works proves that the root in use works. A database's connections are closed first, as those that
// are open were let in under the old password.
func (x *root) works(ctx context.Context, k rootKind, r issuer.Rotation) error {
	if k.reset != "" {
		err := x.vault.calm.alone(ctx, x.at.mount, func() error {
			_, err := x.vault.asBroker(ctx, request{method: "POST", path: x.at.below(k.reset)})
			return err
		})
		if err != nil {
			return asking("vault.rotate", "to reset the database's connections", err)
		}
	}
	return x.vault.trial(ctx, x.verify(k), r.ID)
}

func (x *root) verify(k rootKind) VerifyConfig {
	v := x.cfg.Verify
	if v.Path == "" && k.trial != "" {
		v.Path = x.at.below(k.trial)
	}
	return v
}

// noted returns a rotation with one more note.
func noted(r issuer.Rotation, name, value string) issuer.Rotation {
	notes := map[string]cred.Secret{name: cred.SecretString(value)}
	for old, v := range r.Notes {
		if old != name {
			notes[old] = v
		}
	}
	r.Notes = notes
	return r
}
