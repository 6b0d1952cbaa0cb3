// Package pki makes the certificates that a broker and its companion proxies start with: those of a small CA
// that vouches for the broker to its callers and for proxies to the broker, and for nobody else. A company's
// own CA takes its place.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// The lives of certificates.
const (
	caLife   = 5 * 365 * 24 * time.Hour
	leafLife = 397 * 24 * time.Hour
)

// KeyPair is a certificate and its private key.
type KeyPair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Authority is the CA.
type Authority struct{ KeyPair }

// NewAuthority makes a CA with a common name.
func NewAuthority(name string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := sign(template, template, key.Public(), key)
	return &Authority{KeyPair{cert, key}}, err
}

// Server issues the broker's certificate for its host names and addresses.
func (a *Authority) Server(hosts []string, now time.Time) (*KeyPair, error) {
	t := leaf("daypassd", x509.ExtKeyUsageServerAuth, now)
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.issue(t)
}

// Proxy issues a companion proxy's certificate: the URI in it is its name to the broker.
func (a *Authority) Proxy(name string, now time.Time) (*KeyPair, error) {
	t := leaf(name, x509.ExtKeyUsageClientAuth, now)
	t.URIs = []*url.URL{{Scheme: "daypass", Host: "proxy", Path: "/" + name}}
	return a.issue(t)
}

func leaf(name string, usage x509.ExtKeyUsage, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
}

func (a *Authority) issue(template *x509.Certificate) (*KeyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := sign(template, a.Cert, key.Public(), a.Key)
	return &KeyPair{cert, key}, err
}

// Renew issues a certificate that says what an earlier one says, for the same key.
func (a *Authority) Renew(old *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	return sign(&x509.Certificate{
		Subject: old.Subject, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(leafLife),
		KeyUsage: old.KeyUsage, ExtKeyUsage: old.ExtKeyUsage, DNSNames: old.DNSNames, IPAddresses: old.IPAddresses, URIs: old.URIs,
	}, a.Cert, old.PublicKey, a.Key)
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

// Save writes both to new files: the key first, so that where there is a certificate there is a key.
func (p *KeyPair) Save(cert, key string) error {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return err
	}
	if err := keyfile.Create(key, cred.NewSecret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))); err != nil {
		return err
	}
	return WriteCerts(cert, p.Cert)
}

// WriteCerts makes a PEM file hold some certificates, atomically and durably, unless it does already.
func WriteCerts(path string, certs ...*x509.Certificate) error {
	var text bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // into memory
	}
	if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, text.Bytes()) {
		return nil
	}
	return keyfile.ReplacePublic(path, text.Bytes())
}
