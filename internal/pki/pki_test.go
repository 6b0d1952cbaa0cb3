package pki_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/daypass-io/daypass/internal/pki"
)

func authority(t testing.TB, now time.Time) *pki.Authority {
	t.Helper()
	ca, err := pki.NewAuthority("test CA", now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// wantFor wants a certificate that a CA vouches for, for one purpose and no other.
func wantFor(t testing.TB, cert *x509.Certificate, ca *pki.Authority, usage x509.ExtKeyUsage, now time.Time) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	for _, u := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{u}})
		if (err == nil) != (u == usage) {
			t.Errorf("%s for usage %d: %v", cert.Subject, u, err)
		}
	}
}

func TestIssue(t *testing.T) {
	now := time.Now()
	ca, next := authority(t, now), authority(t, now)
	server, err := ca.Server([]string{"daypass.example.com", "192.0.2.1", "::1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := ca.Proxy("edge-1", now)
	if err != nil {
		t.Fatal(err)
	}
	later := now.AddDate(1, 0, 0)
	for _, c := range []struct {
		pair  *pki.KeyPair
		usage x509.ExtKeyUsage
		right func(*x509.Certificate) bool
	}{
		{server, x509.ExtKeyUsageServerAuth, func(c *x509.Certificate) bool {
			return errors.Join(c.VerifyHostname("daypass.example.com"), c.VerifyHostname("192.0.2.1"), c.VerifyHostname("::1")) == nil && c.VerifyHostname("example.com") != nil
		}},
		{proxy, x509.ExtKeyUsageClientAuth, func(c *x509.Certificate) bool {
			return len(c.URIs) == 1 && c.URIs[0].String() == "daypass://proxy/edge-1" && len(c.DNSNames) == 0
		}},
	} {
		renewed, err := next.Renew(c.pair.Cert, later)
		if err != nil {
			t.Fatal(err)
		}
		wantFor(t, c.pair.Cert, ca, c.usage, now)
		wantFor(t, renewed, next, c.usage, later.AddDate(1, 0, 0))
		for _, cert := range []*x509.Certificate{c.pair.Cert, renewed} {
			if !c.right(cert) || cert.IsCA || cert.Subject.String() != c.pair.Cert.Subject.String() {
				t.Errorf("%s says something else", cert.Subject)
			}
			if !c.pair.Key.Public().(*ecdsa.PublicKey).Equal(cert.PublicKey) {
				t.Errorf("%s is for another key", cert.Subject)
			}
		}
	}
}

// TestSave holds the modes of the files, that they belong together, and that no key is written over.
func TestSave(t *testing.T) {
	ca := authority(t, time.Now())
	base := filepath.Join(t.TempDir(), "ca")
	if err := ca.Save(base+".pem", base+".key"); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(base+".pem", base+".key"); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]os.FileMode{base + ".pem": 0o644, base + ".key": 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if err := ca.Save(base+".pem", base+".key"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
}

// TestWriteCerts holds that a file that is right already is not touched.
func TestWriteCerts(t *testing.T) {
	a, b := authority(t, time.Now()), authority(t, time.Now())
	path := filepath.Join(t.TempDir(), "bundle.pem")
	write := func(certs ...*x509.Certificate) os.FileInfo {
		if err := pki.WriteCerts(path, certs...); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := write(a.Cert, b.Cert)
	if !os.SameFile(first, write(a.Cert, b.Cert)) {
		t.Error("the same content was written anew")
	}
	if os.SameFile(first, write(b.Cert)) {
		t.Error("other content was not written")
	}
}
