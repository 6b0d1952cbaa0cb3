package rpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// mint issues bearer tokens from nowhere and fails as it is told.
type mint struct {
	mu      sync.Mutex // guards all below
	onIssue func(context.Context) error
	issued  []string
	revoked []string
}

// failWith makes each Issue to come do something first; nil: nothing.
func (m *mint) failWith(do func(context.Context) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onIssue = do
}

// Issue returns a fresh token.
func (m *mint) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	m.mu.Lock()
	do := m.onIssue
	m.mu.Unlock()
	if do != nil {
		if err := do(ctx); err != nil {
			return cred.Credential{}, cred.Lease{}, err
		}
	}
	token := "minted-" + rand.Text()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.issued = append(m.issued, token)
	return cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": cred.SecretString(token)}, NotAfter: spec.NotAfter},
		cred.Lease{Handle: string(spec.ID), Revocable: true, NotAfter: spec.NotAfter}, nil
}

// Revoke remembers the handle.
func (m *mint) Revoke(_ context.Context, l cred.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revoked = append(m.revoked, l.Handle)
	return nil
}

func (m *mint) counts() (issued, revoked int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.issued), len(m.revoked)
}

// authority is a small CA.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	return a
}

func (a *authority) leaf(usage x509.ExtKeyUsage, uris ...string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, raw := range uris {
		u, err := url.Parse(raw)
		must(a.t, err)
		template.URIs = append(template.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	must(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) client(uris ...string) tls.Certificate {
	return a.leaf(x509.ExtKeyUsageClientAuth, uris...)
}

// serverTLS is what a broker serves with. It asks for less than the broker must insist on.
func (a *authority) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.leaf(x509.ExtKeyUsageServerAuth)}, ClientAuth: tls.RequestClientCert,
	}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}
