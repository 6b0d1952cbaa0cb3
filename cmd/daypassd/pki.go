package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// The lives of the certificates that init makes. They are for a start; a company's own CA takes
// their place.
const (
	caLife   = 5 * 365 * 24 * time.Hour
	leafLife = 397 * 24 * time.Hour
)

// authority is a small CA of its own: it vouches for the broker to its callers and for proxies to
// the broker, and for nobody else.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

func newAuthority(dir string, now time.Time) (*authority, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "daypass CA"}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{cert: template, key: key}
	if a.pem, err = a.write(dir, "ca", template, key); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(a.pem)
	a.cert, err = x509.ParseCertificate(block.Bytes)
	return a, err
}

// server issues the broker's certificate for its host names and addresses.
func (a *authority) server(dir string, hosts []string, now time.Time) error {
	t := leaf("daypassd", x509.ExtKeyUsageServerAuth, now)
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.issue(dir, "server", t)
}

// proxy issues a companion proxy's certificate: the URI in it is its name to the broker.
func (a *authority) proxy(dir, name string, now time.Time) error {
	t := leaf(name, x509.ExtKeyUsageClientAuth, now)
	t.URIs = []*url.URL{{Scheme: "daypass", Host: "proxy", Path: "/" + name}}
	return a.issue(dir, "proxy-"+name, t)
}

func leaf(name string, usage x509.ExtKeyUsage, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
}

func (a *authority) issue(dir, file string, template *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	_, err = a.write(dir, file, template, key)
	return err
}

// write signs a certificate and writes it to FILE.pem and its key to FILE.key.
func (a *authority) write(dir, file string, template *x509.Certificate, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := cred.NewSecret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return cert, errors.Join(
		os.WriteFile(filepath.Join(dir, file+".pem"), cert, 0o644),
		keyfile.Create(filepath.Join(dir, file+".key"), secret),
	)
}
