package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/ownkeys"
	"github.com/daypass-io/daypass/internal/outbound"
)

// trust is what the broker shows to whoever connects, and which proxies it knows: both may change while
// it runs.
type trust struct {
	server  config.Server
	shown   atomic.Pointer[tls.Certificate]
	proxies atomic.Pointer[x509.CertPool] // nil: there are none

	began time.Time  // since when it has been seen who calls
	mu    sync.Mutex // owns seen
	seen  map[string]sighting
}

// sighting is when a proxy last called, and with what.
type sighting struct {
	at   time.Time
	leaf *x509.Certificate
}

// seenFor is how long a proxy counts as one that is in use.
const seenFor = 24 * time.Hour

// loadTrust reads the files that the configuration names.
func loadTrust(c config.Server) (*trust, error) {
	t := &trust{server: c, seen: map[string]sighting{}, began: time.Now()}
	return t, t.load()
}

// load reads the files anew. Where one is not in order, everything stays as it was.
func (t *trust) load() error {
	if t.server.Plain {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(t.server.TLS.Certificate, t.server.TLS.PrivateKey)
	if err != nil {
		return fmt.Errorf("the server's certificate can't be loaded: %w", err)
	}
	pool, err := outbound.CAs(t.server.TLS.ClientCA)
	if err != nil {
		return fmt.Errorf("the CA of the proxies can't be used: %w", err)
	}
	t.shown.Store(&pair)
	t.proxies.Store(pool)
	return nil
}

// config is what the broker serves with; nil for plain text on loopback. A client certificate is asked of
// nobody, and taken from any issuer: proxies show ours, and callers may bind grants to theirs.
func (t *trust) config() *tls.Config {
	if t.server.Plain {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.shown.Load(), nil },
	}
}

// served returns the certificate that the broker shows now.
func (t *trust) served() (*x509.Certificate, error) {
	pair := t.shown.Load()
	if pair == nil {
		return nil, errors.New("the broker serves in plain text")
	}
	return x509.ParseCertificate(pair.Certificate[0])
}

// saw notes that a proxy has called.
func (t *trust) saw(name string, leaf *x509.Certificate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen[name] = sighting{time.Now(), leaf}
}

// seenLately returns the proxies that are in use, and without a certificate those of the configured ones
// that may be: until we have run for as long as one that calls no more counts, we can't know.
func (t *trust) seenLately(now time.Time, configured []string) []ownkeys.SeenProxy {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []ownkeys.SeenProxy
	for _, name := range configured {
		if _, called := t.seen[name]; !called && now.Sub(t.began) < seenFor {
			all = append(all, ownkeys.SeenProxy{Name: name})
		}
	}
	for name, s := range t.seen {
		if now.Sub(s.at) < seenFor {
			all = append(all, ownkeys.SeenProxy{Name: name, Certificate: s.leaf})
		}
	}
	return all
}
