package userstate

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"

	"github.com/daypass-io/daypass/cred"
)

// sealedSuffix ends the names of sealed files.
const sealedSuffix = ".sealed"

// stateKey is the name of the secret that files are sealed with.
const stateKey = "state-key"

// keyBytes is the size of an AES-256 key.
const keyBytes = 32

// Keep seals a value into a file. Another file's content in its place does not open.
func (d *Dir) Keep(ctx context.Context, name string, value cred.Secret) error {
	aead, err := d.sealer(ctx)
	if err != nil {
		return err
	}
	return d.write(name+sealedSuffix, aead.Seal(nil, nil, value.Reveal(), []byte(name))) //nolint:gosec // G407: this AEAD makes its own nonce
}

// Load opens a value that was kept; the error for one that was not, or whose key is lost, wraps
// fs.ErrNotExist.
func (d *Dir) Load(name string) (cred.Secret, error) {
	sealed, err := d.read(name + sealedSuffix)
	if err != nil {
		return cred.Secret{}, err
	}
	key, err := d.Secret(stateKey)
	if err != nil {
		return cred.Secret{}, err
	}
	aead, err := d.newAEAD(key)
	if err != nil {
		return cred.Secret{}, err
	}
	value, err := aead.Open(nil, nil, sealed.Reveal(), []byte(name))
	if err != nil {
		return cred.Secret{}, fault(fs.ErrNotExist, "%s does not open with the key that is kept for it", name)
	}
	return cred.NewSecret(value), nil
}

// Drop forgets a value. One that is not there is forgotten already.
func (d *Dir) Drop(name string) error { return d.remove(name + sealedSuffix) }

// sealer returns the cipher to seal with. The first call ever makes its key.
func (d *Dir) sealer(ctx context.Context) (cipher.AEAD, error) {
	key, err := d.Secret(stateKey)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = d.makeKey(ctx)
	}
	if err != nil {
		return nil, err
	}
	return d.newAEAD(key)
}

func (d *Dir) makeKey(ctx context.Context) (cred.Secret, error) {
	unlock, err := d.Lock(ctx, stateKey)
	if err != nil {
		return cred.Secret{}, err
	}
	defer unlock()
	if key, err := d.Secret(stateKey); !errors.Is(err, fs.ErrNotExist) {
		return key, err // another process was first
	}
	raw := make([]byte, keyBytes)
	rand.Read(raw)
	key := cred.SecretString(hex.EncodeToString(raw))
	return key, d.KeepSecret(stateKey, key)
}

func (d *Dir) newAEAD(key cred.Secret) (cipher.AEAD, error) {
	raw, err := hex.DecodeString(key.RevealString())
	if err != nil || len(raw) != keyBytes {
		return nil, fault(err, "the key %q that daypass seals its state with is damaged; delete it from the keyring or from the folder %s and sign in again", stateKey, d.path)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fault(err, "the key that daypass seals its state with can't be used")
	}
	return cipher.NewGCMWithRandomNonce(block)
}
