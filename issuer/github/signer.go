package github

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// Signer has the app's private key, or the use of it. SignRS256 returns the RSASSA-PKCS1-v1_5
// signature with SHA-256 (RFC 7518, section 3.3) of a JWS signing input, as raw bytes: 256 for a
// key of 2048 bits. It keeps within ctx's deadline and is safe for concurrent use; an error is a
// *cred.Error.
type Signer interface {
	SignRS256(ctx context.Context, signingInput []byte) ([]byte, error)
}

// minKeyBits is the least that RFC 7518, section 3.3, allows; GitHub's own keys have 2048.
const minKeyBits = 2048

// KeyFile signs with the private key in a file: PEM, PKCS #1 as GitHub hands it out or PKCS #8, mode
// 0600, not encrypted. The file is read for each signature, so a key that replaces it is used by the
// next one.
type KeyFile struct{ Path string }

// SignRS256 signs. It fails with kind Invalid where the file is not what it has to be.
func (f KeyFile) SignRS256(_ context.Context, signingInput []byte) ([]byte, error) {
	key, err := f.read()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(signingInput)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, badKey(err)
	}
	return signature, nil
}

// Check reads the file and tells what is wrong with it, with kind Invalid.
func (f KeyFile) Check() error {
	_, err := f.read()
	return err
}

func (f KeyFile) read() (*rsa.PrivateKey, error) {
	content, err := keyfile.Read(f.Path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(content.Reveal())
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, badKey(errors.New("github: not exactly one PEM block"))
	}
	key, err := parseKey(block)
	if err != nil {
		return nil, badKey(err)
	}
	if key.N.BitLen() < minKeyBits {
		return nil, badKey(errors.New("github: the key is shorter than 2048 bits"))
	}
	return key, nil
}

func parseKey(block *pem.Block) (*rsa.PrivateKey, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if rsaKey, ok := key.(*rsa.PrivateKey); ok {
			return rsaKey, nil
		}
	}
	return nil, errors.New("github: not an RSA private key")
}

func badKey(err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "github.key", Reason: "KEY_FILE",
		Public: "the GitHub App's key file must hold one RSA private key of 2048 bits or more in PEM form, not encrypted, as GitHub hands it out", Err: err,
	}
}
