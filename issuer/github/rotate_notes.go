package github

import (
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// pem returns the key as GitHub hands it out.
func (k appKey) pem() cred.Secret {
	return cred.NewSecret(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k.key)}))
}

// keysOf reads what Prepare has noted.
func keysOf(r issuer.Rotation) (old, next appKey, err error) {
	old, errOld := noted(r.Notes[noteOldKey])
	next, errNew := noted(r.Notes[noteNewKey])
	if err := errors.Join(errOld, errNew); err != nil {
		return appKey{}, appKey{}, cred.Errorf(cred.Internal, "github.notes", "", "the rotation's notes can't be read: %w", err)
	}
	return old, next, nil
}

func noted(text cred.Secret) (appKey, error) {
	block, _ := pem.Decode(text.Reveal())
	if block == nil {
		return appKey{}, errors.New("github: no key")
	}
	key, err := parseKey(block)
	return appKey{key}, err
}
