package ownkeys

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"slices"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// issuedBy reports whether a CA has signed a certificate.
func issuedBy(cert, ca *x509.Certificate) bool { return cert.CheckSignatureFrom(ca) == nil }

// caName is how people know a CA: the beginning of the SHA-256 of its certificate.
func caName(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:8])
}

// named returns the certificate of a name, nil where there is none.
func named(certs []*x509.Certificate, name string) *x509.Certificate {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return caName(c) == name })
	if i < 0 {
		return nil
	}
	return certs[i]
}

// without returns the certificates but those of a name.
func without(certs []*x509.Certificate, name string) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return caName(c) == name })
}

// readCerts reads all certificates of a PEM file.
func readCerts(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fileError(path, err)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, fileError(path, errors.New("no certificate in it"))
	}
	return all, nil
}

func fileError(path string, err error) error {
	return &cred.Error{Kind: cred.Invalid, Op: "proxy_ca.file", Reason: "CERTIFICATE_FILE", Public: "the certificates in " + path + " can't be read or written", Err: err}
}

// remove removes files, whether they are there or not.
func remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fileError(path, err)
		}
	}
	return nil
}

// rename gives a file, if it is there, the place of another one, durably.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fileError(to, err)
	}
	if err := keyfile.SyncDir(to); err != nil {
		return fileError(to, err)
	}
	return nil
}
