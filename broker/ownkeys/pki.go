package ownkeys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// The lives of certificates, as daypassd init gives them.
const (
	caLife   = 5 * 365 * 24 * time.Hour
	leafLife = 397 * 24 * time.Hour
)

// authority is a CA with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// newAuthority makes a CA.
func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	// The name tells it from the one before, so that nobody has to try both.
	template.Subject = pkix.Name{CommonName: "daypass CA " + rand.Text()[:8]}
	cert, err := sign(template, template, key.Public(), key)
	return &authority{cert, key}, err
}

// renew issues a certificate that says what an earlier one says, for the same key.
func (a *authority) renew(old *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	return sign(&x509.Certificate{
		Subject: old.Subject, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(leafLife),
		KeyUsage: old.KeyUsage, ExtKeyUsage: old.ExtKeyUsage, DNSNames: old.DNSNames, IPAddresses: old.IPAddresses, URIs: old.URIs,
	}, a.cert, old.PublicKey, a.key)
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

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

// writeCerts makes a PEM file hold some certificates, atomically and durably, unless it does already.
func writeCerts(path string, certs ...*x509.Certificate) error {
	var text bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // into memory
	}
	if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, text.Bytes()) {
		return nil
	}
	return keyfile.ReplacePublic(path, text.Bytes())
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

// save writes a CA: its key first, so that where there is a certificate there is a key.
func (a *authority) save(cert, key string) error {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	if err := remove(cert, key); err != nil {
		return err
	}
	if err := keyfile.Create(key, cred.NewSecret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))); err != nil {
		return err
	}
	return writeCerts(cert, a.cert)
}
