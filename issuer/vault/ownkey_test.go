package vault_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// request makes a certificate request and returns it as DER, with its public key.
func request(t testing.TB, template *x509.CertificateRequest) ([]byte, *ecdsa.PublicKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, &key.PublicKey
}

func named(name string) *x509.CertificateRequest {
	return &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}
}

func inPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// sends returns a specification of a path with what a caller sends and what the target fixes.
func sends(path string, sent, fixed map[string]string) issuer.Spec {
	s := spec(in(10 * time.Minute))
	s.Target.Credential.Path, s.Target.Credential.Params, s.Params = path, fixed, sent
	return s
}

func (w *world) testPKI(t *testing.T) {
	w.Mount(t, "pki", "pki", nil)
	w.Write(t, "pki/root/generate/internal", peers.Data{"common_name": "tests", "ttl": "100h", "key_type": "ec", "key_bits": 256})
	for role, more := range map[string]bool{"web": false, "leased": true} {
		w.Write(t, "pki/roles/"+role, peers.Data{
			"allowed_domains": []string{"example.com"}, "allow_subdomains": true, "key_type": "any", "max_ttl": "24h", "generate_lease": more,
		})
	}
	iss := newIssuer(t, w.config())
	der, key := request(t, named("a.example.com"))
	for name, tc := range map[string]struct {
		role, csr string
		revocable bool
	}{
		"PEM":          {"web", inPEM(der), false},
		"on one line":  {"web", base64.StdEncoding.EncodeToString(der), false},
		"with a lease": {"leased", inPEM(der), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := sends("pki/sign/"+tc.role, map[string]string{"csr": tc.csr, "other": "x"}, nil)
			var err error
			if s.Handle, err = iss.Reserve(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			c, l, err := iss.Issue(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(c.Fields["certificate"].Reveal())
			if block == nil {
				t.Fatalf("no certificate among %v", c.Fields)
			}
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if _, held := c.Fields["private_key"]; c.Type != cred.TLS || held || !key.Equal(certificate.PublicKey) || c.Fields["ca_chain"].IsZero() {
				t.Errorf("type %q, fields %v, for the caller's key %v", c.Type, c.Fields, key.Equal(certificate.PublicKey))
			}
			if certificate.NotAfter.After(s.NotAfter.Add(time.Second)) {
				t.Errorf("the certificate ends %v late", certificate.NotAfter.Sub(s.NotAfter))
			}
			if l.Revocable != tc.revocable || (!tc.revocable && (!l.NotAfter.Equal(certificate.NotAfter) || !strings.Contains(l.Note, "generate_lease"))) {
				t.Errorf("lease %+v, the certificate ends %v", l, certificate.NotAfter)
			}
			if tc.revocable {
				w.wantRevokedSerial(t, iss.Revoke(t.Context(), l), certificate)
			}
		})
	}
	t.Run("contract", func(t *testing.T) { w.testPKIContract(t, inPEM(der)) })
	t.Run("role refuses", func(t *testing.T) {
		der, _ := request(t, named("a.example.org"))
		if _, _, err := iss.Issue(t.Context(), sends("pki/sign/web", map[string]string{"csr": inPEM(der)}, nil)); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%v, want kind invalid", err)
		}
	})
}

// What no lease ends holds to the contract too: it is never said to be revoked.
func (w *world) testPKIContract(t *testing.T, csr string) {
	issuertest.Test(t, issuertest.Harness{
		New: func(t *testing.T, baseURL string) issuer.Issuer {
			cfg := w.config()
			cfg.Address, cfg.Paths = baseURL, []string{"pki/sign/web"}
			return newIssuer(t, cfg)
		},
		Source: w.URL, NotRevocable: true,
		Spec: func(notAfter time.Time) issuer.Spec {
			s := sends("pki/sign/web", map[string]string{"csr": csr}, nil)
			s.NotAfter = notAfter
			return s
		},
		Works: func(ctx context.Context, c cred.Credential) error {
			block, _ := pem.Decode(c.Fields["certificate"].Reveal())
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return err
			}
			s, err := w.Client.Logical().ReadWithContext(ctx, certificatePath(certificate))
			if err == nil && s == nil {
				err = errors.New("Vault does not know the certificate")
			}
			return err
		},
		Alive: func(ctx context.Context) (int, error) {
			s, err := w.Client.Logical().ListWithContext(ctx, "pki/certs")
			if err != nil {
				return 0, err
			}
			return len(s.Data["keys"].([]any)), nil
		},
		UnknownHandle: `{"v":1,"accessor":"nobodysaccessor","path":"pki/sign/web","engine":"pki"}`,
	})
}

// certificatePath is where Vault shows a certificate.
func certificatePath(c *x509.Certificate) string {
	return "pki/cert/" + strings.ReplaceAll(fmt.Sprintf("% x", c.SerialNumber.Bytes()), " ", "-")
}

func (w *world) wantRevokedSerial(t *testing.T, err error, certificate *x509.Certificate) {
	t.Helper()
	if err != nil {
		t.Errorf("Revoke: %v", err)
	}
	s, err := w.Client.Logical().ReadWithContext(t.Context(), certificatePath(certificate))
	if err != nil || s == nil || s.Data["revocation_time_rfc3339"] == "" {
		t.Errorf("the certificate is not revoked: %v, %v", s, err)
	}
}

func (w *world) testSSH(t *testing.T) {
	w.Mount(t, "ssh", "ssh", nil)
	w.Write(t, "ssh/config/ca", peers.Data{"generate_signing_key": true, "key_type": "ed25519"})
	w.Write(t, "ssh/roles/ops", peers.Data{
		"key_type": "ca", "allow_user_certificates": true, "allowed_users": "ops", "default_user": "ops", "max_ttl": "24h",
		"default_extensions": peers.Data{"permit-pty": ""},
	})
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	iss := newIssuer(t, w.config())
	s := sends("ssh/sign/ops", map[string]string{"public_key": line + " ada@example.com\n"}, map[string]string{"valid_principals": "ops"})
	if s.Handle, err = iss.Reserve(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	c, l, err := iss.Issue(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	signed, _, _, _, err := ssh.ParseAuthorizedKey(c.Fields["signed_key"].Reveal())
	certificate, ok := signed.(*ssh.Certificate)
	if err != nil || !ok || !bytes.Equal(certificate.Key.Marshal(), key.Marshal()) || certificate.ValidPrincipals[0] != "ops" {
		t.Fatalf("what was signed is %v, %v", signed, err)
	}
	if end := time.Unix(int64(certificate.ValidBefore), 0); !l.NotAfter.Equal(end) || end.After(s.NotAfter.Add(time.Second)) || !c.NotAfter.Equal(end) {
		t.Errorf("the certificate ends %v, the lease says %v, asked was %v", end, l.NotAfter, s.NotAfter)
	}
	if _, held := c.Fields["private_key"]; held || c.Type != cred.SSHCertificate || l.Revocable || !strings.Contains(l.Note, "own end") {
		t.Errorf("type %q, fields %v, lease %+v", c.Type, c.Fields, l)
	}
	withOptions := `command="x" ` + line
	for name, sent := range map[string]string{
		"no key": "x", "options": withOptions, "two lines": line + "\n" + line, "a certificate": c.Fields["signed_key"].RevealString(), "empty": "",
	} {
		if _, _, err := iss.Issue(t.Context(), sends("ssh/sign/ops", map[string]string{"public_key": sent}, nil)); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v, want kind invalid", name, err)
		}
	}
}

// A caller's own key reaches Vault only where the path signs it, and with no names but the target's.
func TestOwnKeyIsBounded(t *testing.T) {
	f := newFake(t, false)
	f.handle("PUT pki/sign/r", answer(`{"data":{"certificate":"c","issuing_ca":"i","expiration":4102444800}}`))
	iss := newIssuer(t, f.config())
	plain, _ := request(t, named("a.example.com"))
	fixed := map[string]string{"engine": "pki", "common_name": "A.example.com", "alt_names": "b.example.com, ada@example.com", "ip_sans": "192.0.2.1", "uri_sans": "spiffe://example.com/x"}
	uri, _ := url.Parse("spiffe://example.com/x")
	all, _ := request(t, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "a.example.com"}, DNSNames: []string{"b.example.com"}, EmailAddresses: []string{"ada@example.com"},
		IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}, URIs: []*url.URL{uri},
	})
	otherIP, _ := request(t, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 2)}})
	otherURI, _ := request(t, &x509.CertificateRequest{URIs: []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/y"}}})
	otherDNS, _ := request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example.com"}, DNSNames: []string{"c.example.com"}})
	otherCN, _ := request(t, named("c.example.com"))
	upn, err := asn1.Marshal([]asn1.RawValue{{Class: 2, Tag: 0, IsCompound: true, Bytes: []byte{6, 1, 42}}})
	if err != nil {
		t.Fatal(err)
	}
	otherName, _ := request(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: upn}}})
	broken := bytes.Clone(plain)
	broken[len(broken)-1] ^= 1
	engine := map[string]string{"engine": "pki"}
	for name, tc := range map[string]struct {
		path   string
		sent   map[string]string
		fixed  map[string]string
		reason string
	}{
		"any name where none is fixed":  {"pki/sign/r", map[string]string{"csr": inPEM(otherCN)}, engine, ""},
		"all the names that are fixed":  {"pki/sign/r", map[string]string{"csr": inPEM(all)}, fixed, ""},
		"fewer names, in another case":  {"pki/sign/r", map[string]string{"csr": inPEM(plain)}, fixed, ""},
		"another common name":           {"pki/sign/r", map[string]string{"csr": inPEM(otherCN)}, fixed, "CSR_NAMES_NOT_ALLOWED"},
		"another DNS name":              {"pki/sign/r", map[string]string{"csr": inPEM(otherDNS)}, fixed, "CSR_NAMES_NOT_ALLOWED"},
		"another IP":                    {"pki/sign/r", map[string]string{"csr": inPEM(otherIP)}, fixed, "CSR_NAMES_NOT_ALLOWED"},
		"another URI":                   {"pki/sign/r", map[string]string{"csr": inPEM(otherURI)}, fixed, "CSR_NAMES_NOT_ALLOWED"},
		"a name of another sort":        {"pki/sign/r", map[string]string{"csr": inPEM(otherName)}, fixed, "CSR_NAMES_NOT_ALLOWED"},
		"none":                          {"pki/sign/r", nil, engine, "PARAM_MISSING"},
		"not signed with its own key":   {"pki/sign/r", map[string]string{"csr": inPEM(broken)}, engine, "PARAM_INVALID"},
		"two":                           {"pki/sign/r", map[string]string{"csr": inPEM(plain) + inPEM(plain)}, engine, "PARAM_INVALID"},
		"garbage":                       {"pki/sign/r", map[string]string{"csr": "x"}, engine, "PARAM_INVALID"},
		"too long":                      {"pki/sign/r", map[string]string{"csr": inPEM(plain) + strings.Repeat("\n", 20<<10)}, engine, "PARAM_INVALID"},
		"the other engine's":            {"pki/sign/r", map[string]string{"public_key": "x"}, engine, "PARAM_INVALID"},
		"the target has one":            {"pki/sign/r", map[string]string{"csr": inPEM(plain)}, map[string]string{"engine": "pki", "csr": inPEM(plain)}, "PARAM_INVALID"},
		"only the target has one":       {"pki/sign/r", nil, map[string]string{"engine": "pki", "csr": inPEM(plain)}, ""},
		"a path that does not sign":     {"pki/issue/r", map[string]string{"csr": inPEM(plain)}, engine, "PARAM_INVALID"},
		"a path that signs whatever":    {"pki/sign-verbatim/r", map[string]string{"csr": inPEM(plain)}, engine, "PARAM_INVALID"},
		"an engine that signs no CSR":   {"ssh/sign/r", map[string]string{"csr": inPEM(plain)}, map[string]string{"engine": "ssh"}, "PARAM_INVALID"},
		"an engine that signs nothing":  {"db/sign/r", map[string]string{"csr": inPEM(plain)}, map[string]string{"engine": "database"}, "PARAM_INVALID"},
		"another parameter stays a way": {"pki/sign/r", map[string]string{"csr": inPEM(plain), "ttl": "9000h"}, engine, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := f.count("PUT pki/")
			_, err := iss.Reserve(t.Context(), sends(tc.path, tc.sent, tc.fixed))
			if err == nil {
				_, _, err = iss.Issue(t.Context(), sends(tc.path, tc.sent, tc.fixed))
			}
			reason := ""
			if e, ok := err.(*cred.Error); ok {
				reason = e.Reason
			}
			if reason != tc.reason || (err == nil) != (tc.reason == "") {
				t.Errorf("%v, want reason %q", err, tc.reason)
			}
			if sent := f.count("PUT pki/") - before; (sent == 1) != (tc.reason == "") {
				t.Errorf("%d requests to sign", sent)
			}
		})
	}
	if f.count("9000h") > 0 || strings.Contains(strings.Join(f.seen, "\n"), "9000h") {
		t.Error("a parameter that the target does not name went to Vault")
	}
}

// A store that answers with another version than the one that is pinned is not believed.
func TestKVVersionIsCompared(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET kv/data/x", answer(`{"data":{"data":{"a":"b"},"metadata":{"version":4}}}`))
	iss := newIssuer(t, f.config())
	for version, want := range map[string]bool{"4": true, "2": false, "": true} {
		_, _, err := iss.Issue(t.Context(), source("kv/x", "kv2", map[string]string{"version": version}))
		if (err == nil) != want || (err != nil && cred.KindOf(err) != cred.Invalid) {
			t.Errorf("version %q was pinned and 4 came: %v", version, err)
		}
	}
}
