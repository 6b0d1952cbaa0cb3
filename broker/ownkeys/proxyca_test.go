package ownkeys

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/pki"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// caWorld is a broker's PKI in files, and a proxy elsewhere with copies of what it was given.
type caWorld struct {
	t                   testing.TB
	dir                 string
	serverKey, proxyKey crypto.Signer
	clock               *leaps

	// What runs: what the broker loaded last, and what the proxy has.
	server, proxy   *x509.Certificate
	clients, broker []*x509.Certificate
}

func newCAWorld(t testing.TB) *caWorld {
	t.Helper()
	w := &caWorld{t: t, dir: t.TempDir(), clock: &leaps{at: time.Now(), by: time.Hour}}
	ca, err := pki.NewAuthority("daypass CA", time.Now())
	w.must(err)
	server, err := ca.Server([]string{"daypass.example.com"}, time.Now())
	w.must(err)
	edge, err := ca.Proxy("edge", time.Now())
	w.must(err)
	w.must(ca.Save(w.path("ca.pem"), w.path("ca.key")))
	w.must(errors.Join(pki.WriteCerts(w.path("server.pem"), server.Cert), pki.WriteCerts(w.path("proxy-edge.pem"), edge.Cert)))
	w.serverKey, w.proxyKey = server.Key, edge.Key
	w.must(w.load(context.Background()))
	w.copyToProxy("ca.pem", "proxy-edge.pem")
	return w
}

func (w *caWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *caWorld) path(name string) string { return filepath.Join(w.dir, name) }

func (w *caWorld) certs(name string) []*x509.Certificate {
	w.t.Helper()
	certs, err := readCerts(w.path(name))
	w.must(err)
	return certs
}

// load is what the broker does when it starts, or is told to load its files anew.
func (w *caWorld) load(context.Context) error {
	w.server, w.clients = w.certs("server.pem")[0], w.certs("ca.pem")
	return nil
}

// copyToProxy is what people do.
func (w *caWorld) copyToProxy(bundle, cert string) {
	w.t.Helper()
	w.broker, w.proxy = w.certs(bundle), w.certs(cert)[0]
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// connects lets the proxy, as it is, connect to the broker, as it runs.
func (w *caWorld) connects() error {
	brokerEnd, proxyEnd := net.Pipe()
	defer brokerEnd.Close()
	defer proxyEnd.Close()
	server := tls.Server(brokerEnd, &tls.Config{
		MinVersion: tls.VersionTLS13, Time: func() time.Time { return w.clock.at }, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(w.clients),
		Certificates: []tls.Certificate{{Certificate: [][]byte{w.server.Raw}, PrivateKey: w.serverKey}},
	})
	client := tls.Client(proxyEnd, &tls.Config{
		MinVersion: tls.VersionTLS13, Time: func() time.Time { return w.clock.at }, ServerName: "daypass.example.com", RootCAs: pool(w.broker),
		Certificates: []tls.Certificate{{Certificate: [][]byte{w.proxy.Raw}, PrivateKey: w.proxyKey}},
	})
	for _, end := range []net.Conn{brokerEnd, proxyEnd} {
		w.must(end.SetDeadline(time.Now().Add(10 * time.Second)))
	}
	done := make(chan error, 1)
	go func() {
		done <- server.Handshake()
		brokerEnd.Close()
	}()
	_, err := client.Read(make([]byte, 1)) // the broker's verdict comes after the proxy's handshake
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		err = nil
	}
	proxyEnd.Close()
	return errors.Join(err, <-done)
}

func (w *caWorld) rotator(change func(*CAConfig)) *ProxyCA {
	w.t.Helper()
	cfg := CAConfig{
		Bundle: w.path("ca.pem"), Key: w.path("ca.key"), ServerCert: w.path("server.pem"), Proxies: []string{"edge"},
		Seen: func(context.Context) ([]SeenProxy, error) {
			return []SeenProxy{{"edge", w.proxy}}, nil
		},
		Reload: w.load,
		Served: func(context.Context) (*x509.Certificate, error) { return w.server, nil },
		Spread: time.Minute, Now: w.clock.now,
	}
	if change != nil {
		change(&cfg)
	}
	p, err := NewProxyCA(cfg)
	w.must(err)
	return p
}

func TestProxyCAContract(t *testing.T) {
	w, there := newCAWorld(t), false
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New: func(*testing.T, string) issuer.Rotator {
			return w.rotator(func(c *CAConfig) {
				c.Seen = func(context.Context) ([]SeenProxy, error) { // people copy what is there, there and back
					defer func() {
						there = !there
						if _, err := os.Stat(w.path("proxy-edge.next.pem")); err == nil && there {
							w.copyToProxy("ca.pem", "proxy-edge.next.pem")
						} else {
							w.copyToProxy("ca.pem", "proxy-edge.pem")
						}
					}()
					return []SeenProxy{{"edge", w.proxy}}, nil
				}
			})
		},
		Fresh: func(*testing.T) {
			w.clock.by = time.Hour
			w.copyToProxy("ca.pem", "proxy-edge.pem")
		},
		Root: func(context.Context) (string, error) {
			for _, ca := range w.certs("ca.pem") {
				if issuedBy(w.server, ca) {
					return caName(ca), nil
				}
			}
			return "", errors.New("the broker's certificate is of no CA in the bundle")
		},
		Works: func(context.Context) error {
			if _, err := os.Stat(w.path("proxy-edge.next.pem")); err != nil {
				w.copyToProxy("ca.pem", "proxy-edge.pem")
			}
			return w.connects()
		},
		Alive: func(context.Context) (int, error) { return len(w.certs("ca.pem")), nil },
	})
}

// TestProxyCAKeepsProxies: the proxy connects before and after each act, and after each thing that
// people copy, in whatever order they do it; and the broker waits for them and says what to copy.
func TestProxyCAKeepsProxies(t *testing.T) {
	w := newCAWorld(t)
	w.clock.by = 0
	d := &rotation{t: t, x: func() issuer.Rotator { return w.rotator(nil) }, r: issuer.Rotation{ID: "rot-1"}}
	still := func(when string) {
		t.Helper()
		if err := w.connects(); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	wantWait := func(act string, words ...string) {
		t.Helper()
		err := d.act(act, 1)
		if !issuer.WaitsForPerson(err) {
			t.Fatalf("%s: %v, want that it waits for a person", act, err)
		}
		for _, word := range words {
			if !strings.Contains(cred.PublicText(err), word) {
				t.Errorf("%q does not say %q", cred.PublicText(err), word)
			}
		}
		still(act + " waits")
	}
	still("before")
	d.done("check", "prepare")
	still("prepared")
	wantWait("switch", w.path("ca.pem"), w.path("proxy-NAME.next.pem"), "old CA: edge")
	w.broker = w.certs("ca.pem")
	still("the bundle copied")
	w.proxy = w.certs("proxy-edge.next.pem")[0]
	still("the certificate copied")
	wantWait("switch", w.path("ca.pem"), clock(w.clock.at.Add(time.Minute)))
	w.clock.at = w.clock.at.Add(2 * time.Minute)
	d.done("switch", "verify")
	still("switched")
	fresh := w.proxy
	w.proxy = w.certs("proxy-edge.pem")[0] // it was put back
	still("with the old certificate")
	wantWait("retire", "old CA: edge")
	d.x = func() issuer.Rotator { // a broker that has just started
		return w.rotator(func(c *CAConfig) {
			c.Seen = func(context.Context) ([]SeenProxy, error) { return []SeenProxy{{Name: "edge"}}, nil }
		})
	}
	wantWait("retire", "edge (has not called since the broker started)")
	d.x = func() issuer.Rotator { return w.rotator(nil) }
	w.proxy = fresh
	d.done("retire")
	still("retired")
	w.broker = w.certs("ca.pem")
	still("the last bundle copied")
	files, err := os.ReadDir(w.dir)
	w.must(err)
	names := ""
	for _, f := range files {
		names += f.Name() + " "
	}
	if names != "ca.key ca.pem proxy-edge.pem server.pem " {
		t.Errorf("the folder has %s", names)
	}
	if info, err := os.Stat(w.path("ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the CA's key has mode %v, %v", info.Mode(), err)
	}
	w.proxy = nil
	w.must(os.Remove(w.path("proxy-edge.pem")))
	findings, err := w.rotator(func(c *CAConfig) {
		c.Seen = func(context.Context) ([]SeenProxy, error) { return nil, nil }
	}).Check(t.Context(), issuer.Rotation{})
	if err != nil || !strings.Contains(findings[1].Text, "edge") {
		t.Errorf("%+v, %v do not name the proxy that nobody knows", findings, err)
	}
}

// TestProxyCAFaults: the load after each act fails, or its answer is lost; the proxy connects all the
// same, and the rotation comes to its end or goes back.
func TestProxyCAFaults(t *testing.T) {
	lost := errors.New("no answer")
	for _, after := range []bool{false, true} {
		for _, name := range []string{"prepare", "switch", "retire", "undo"} {
			t.Run(fmt.Sprint(name, after), func(t *testing.T) {
				w := newCAWorld(t)
				fail := false
				d := &rotation{t: t, r: issuer.Rotation{ID: "rot-1"}, x: func() issuer.Rotator {
					return w.rotator(func(c *CAConfig) {
						c.Reload = func(ctx context.Context) error {
							if !fail {
								return w.load(ctx)
							}
							fail = false
							if after {
								return errors.Join(lost, w.load(ctx))
							}
							return lost
						}
					})
				}}
				first := caName(w.certs("ca.pem")[0])
				steps := []string{"check", "prepare", "switch", "verify", "retire"}
				if name == "undo" {
					steps[4] = "undo"
				}
				for _, step := range steps {
					if step == name {
						fail = true
						if err := d.act(step, 1); cred.KindOf(err) != cred.Unavailable {
							t.Errorf("%s: %v", step, err)
						}
						if err := w.connects(); err != nil {
							t.Errorf("%s failed: %v", step, err)
						}
					}
					if step == "undo" {
						w.copyToProxy("ca.pem", "proxy-edge.pem")
					}
					d.done(step)
					if step == "prepare" {
						w.copyToProxy("ca.pem", "proxy-edge.next.pem")
					}
					if err := w.connects(); err != nil {
						t.Errorf("after %s: %v", step, err)
					}
				}
				bundle := w.certs("ca.pem")
				if len(bundle) != 1 || (caName(bundle[0]) == first) != (name == "undo") {
					t.Errorf("the bundle has %d CAs, the first is %s", len(bundle), caName(bundle[0]))
				}
			})
		}
	}
}
