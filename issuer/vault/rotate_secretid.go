package vault

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/issuer"
)

// SecretIDConfig names the secret ID by which the issuer itself signs in to Vault.
type SecretIDConfig struct {
	// RoleName is the name of the AppRole, which its role ID does not tell.
	RoleName string
	// File is where the secret ID lies; empty: the issuer's AppRole.SecretIDFile, which is the only one
	// that it may name.
	File string
	// Verify says what to mint after a sign-in with the new secret ID; empty: the sign-in is proof
	// enough.
	Verify VerifyConfig
}

// The notes of a secret ID's rotation.
const (
	noteOldSecret   = "old_secret_id"
	noteOldAccessor = "old_accessor"
	noteNewSecret   = "new_secret_id"
	noteNewAccessor = "new_accessor"
)

// secretIDs rotates the issuer's secret ID. It keeps nothing between the acts.
type secretIDs struct {
	vault *Issuer
	cfg   SecretIDConfig
	at    string // the role's path, e.g. "auth/approle/role/daypass"
}

// SecretIDRotator returns a rotator for the secret ID of the issuer's own AppRole sign-in. Both secret
// IDs work from Prepare to Retire. The issuer's token, and the leases that hang on it, outlive the secret
// ID that it was got with. The error is Invalid, in particular for an issuer whose secret ID does not
// lie in a file.
func (i *Issuer) SecretIDRotator(cfg SecretIDConfig) (issuer.Rotator, error) {
	role := i.cfg.AppRole
	if role == nil || role.SecretIDFile == "" {
		return nil, invalidConfig("a secret ID can be rotated only for a Vault issuer that signs in by AppRole, with the secret ID in a file (secret_id_file)", errors.New("vault: no secret_id_file"))
	}
	if cfg.File == "" {
		cfg.File = role.SecretIDFile
	}
	if cfg.File != role.SecretIDFile {
		return nil, invalidConfig("the file of the secret ID to rotate must be the one that the Vault issuer reads", errors.New("vault: another file than secret_id_file"))
	}
	at := "auth/" + role.mount() + "/role/" + cfg.RoleName
	if checkPath(at) != nil {
		return nil, invalidConfig("the rotation of a secret ID needs the name of its AppRole", errors.New("vault: bad role name"))
	}
	return &secretIDs{vault: i, cfg: cfg, at: at}, nil
}

// Prepare makes a secret ID and signs in with it. The one that a lost answer has left is found by the
// rotation's ID, which each carries in its metadata, and destroyed.
func (x *secretIDs) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	old, err := x.inFile()
	if err != nil {
		return r, err
	}
	was, err := x.lookup(ctx, old)
	if err != nil {
		return r, err
	}
	if r.Attempt > 1 {
		if err := x.endMade(ctx, r.ID, ""); err != nil {
			return r, err
		}
	}
	secret, accessor, err := x.make(ctx, r.ID)
	if err != nil {
		return r, err
	}
	if err := x.signIn(ctx, secret, VerifyConfig{}, r.ID); err != nil {
		if cred.KindOf(err) == cred.Unavailable {
			return r, err
		}
		return r, errors.Join(x.destroy(ctx, accessor), err) // what was not destroyed is more urgent
	}
	r.Old, r.New = shortPrint(was.accessor), shortPrint(accessor)
	for name, value := range map[string]string{
		noteOldSecret: old.RevealString(), noteOldAccessor: was.accessor,
		noteNewSecret: secret.RevealString(), noteNewAccessor: accessor,
	} {
		r = noted(r, name, value)
	}
	return r, nil
}

// Switch writes the new secret ID into the file, which is read at each sign-in.
func (x *secretIDs) Switch(_ context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	return r, x.write(r.Notes[noteNewSecret], r.Notes[noteOldSecret])
}

// Verify signs in with what lies in the file, as the issuer does, and mints.
func (x *secretIDs) Verify(ctx context.Context, r issuer.Rotation) error {
	current, err := x.inFile()
	if err != nil {
		return err
	}
	if !sameSecret(current, r.Notes[noteNewSecret]) {
		return fileChanged()
	}
	return x.signIn(ctx, current, x.cfg.Verify, r.ID)
}

// Retire destroys the old secret ID, and makes sure that it is gone and the new one is there and in use.
func (x *secretIDs) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	was, is := r.Notes[noteOldAccessor].RevealString(), r.Notes[noteNewAccessor].RevealString()
	listed, err := x.list(ctx)
	if err != nil {
		return r, err
	}
	if !slices.Contains(listed, is) {
		return r, &cred.Error{
			Kind: cred.Conflict, Op: "vault.rotate", Reason: "SECRET_ID_GONE",
			Public: "somebody has destroyed the new secret ID; the old one is kept, and its operator has to look at the AppRole",
		}
	}
	if err := x.inUse(r); err != nil {
		return r, err
	}
	if slices.Contains(listed, was) {
		if err := x.destroy(ctx, was); err != nil {
			return r, err
		}
	}
	return r, x.endMade(ctx, r.ID, is)
}

// Undo puts the old secret ID back into the file and destroys what the rotation has made.
func (x *secretIDs) Undo(ctx context.Context, r issuer.Rotation) error {
	if was := r.Notes[noteOldAccessor]; !was.IsZero() {
		listed, err := x.list(ctx)
		if err != nil {
			return err
		}
		if !slices.Contains(listed, was.RevealString()) {
			return &cred.Error{Kind: cred.Invalid, Op: "vault.rotate", Reason: "ROOT_GONE", Public: "the old secret ID is destroyed; the new one stays in use"}
		}
		if err := x.write(r.Notes[noteOldSecret], r.Notes[noteNewSecret]); err != nil {
			return err
		}
	}
	return x.endMade(ctx, r.ID, "")
}

// inUse makes sure that the file still holds the new secret ID. What somebody has written there stays. The
// new one is known to nobody but this rotation, so where they remove theirs it comes back.
func (x *secretIDs) inUse(r issuer.Rotation) error {
	current, err := readTrimmed(x.cfg.File)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &cred.Error{
			Kind: cred.Unavailable, Op: "vault.rotate", Reason: "KEY_FILE", Err: errors.Join(err, keyfile.Replace(x.cfg.File, r.Notes[noteNewSecret])),
			Public: "the file with the secret ID was gone, and the broker puts the new one there again; the old one is kept meanwhile",
		}
	case err != nil:
		return &cred.Error{
			Kind: cred.Unavailable, Op: "vault.rotate", Reason: "KEY_FILE", Err: err,
			Public: "the file with the secret ID can't be read, so the old one is kept; its operator has to look at it",
		}
	case !sameSecret(current, r.Notes[noteNewSecret]):
		whose := "another secret ID"
		if sameSecret(current, r.Notes[noteOldSecret]) {
			whose = "the old secret ID"
		}
		return &cred.Error{
			Kind: cred.Conflict, Op: "vault.rotate", Reason: "SECRET_ID_CHANGED",
			Public: "the file holds " + whose + " and not the new one any more, so the old one is kept; look who writes there, and then remove the file: the broker puts the new one there again",
		}
	}
	return nil
}

// write puts a secret ID into the file, unless somebody else has put another one there.
func (x *secretIDs) write(next, instead cred.Secret) error {
	current, err := x.inFile()
	if err != nil {
		return err
	}
	if next.IsZero() || !sameSecret(current, next) && !sameSecret(current, instead) {
		return fileChanged()
	}
	err = keyfile.Replace(x.cfg.File, next)
	if err == nil || sameSecret(current, next) {
		return err
	}
	if now, again := x.inFile(); again != nil || sameSecret(now, next) {
		return &cred.Error{Kind: cred.Unavailable, Op: "vault.rotate", Public: "it is not known whether the secret ID is in its file for good; the broker tries again", Err: err}
	}
	return err
}

// inFile returns the secret ID that the issuer would sign in with now.
func (x *secretIDs) inFile() (cred.Secret, error) {
	secret, err := readTrimmed(x.cfg.File)
	if err != nil {
		return cred.Secret{}, &cred.Error{Kind: cred.Invalid, Op: "vault.rotate", Reason: "KEY_FILE", Public: "the file with the secret ID can't be read; its operator has to look at it", Err: err}
	}
	return secret, nil
}

func sameSecret(a, b cred.Secret) bool {
	return !a.IsZero() && a.Fingerprint() == b.Fingerprint()
}

func fileChanged() error {
	return &cred.Error{
		Kind: cred.Conflict, Op: "vault.rotate", Reason: "SECRET_ID_CHANGED",
		Public: "the file holds another secret ID than this rotation has put there or found; somebody else writes to it",
	}
}

// shortPrint is how people know an accessor, which is enough to destroy a secret ID.
func shortPrint(accessor string) string {
	return cred.SecretString(accessor).Fingerprint().String()[:16]
}
