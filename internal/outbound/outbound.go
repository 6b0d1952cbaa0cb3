// Package outbound has what every client of ours does that carries a secret to somebody else's server:
// it trusts the certificates that the configuration names, follows no redirect, and speaks plain text to
// loopback alone.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"
)

// CAs reads the certificates to trust from a PEM file; nil, which means the system's, where its name is
// empty.
func CAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, errors.New("it holds no certificate in PEM form")
	}
	return pool, nil
}

// Client returns a client that trusts the certificates of a PEM file, as CAs has it. It follows no
// redirect, since that would carry what is secret to another address.
func Client(caFile string) (*http.Client, error) {
	roots, err := CAs(caFile)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: stay}, nil
}

// Usable reports whether a URL is one of a server, without a user, query and fragment, that a secret may
// be sent to.
func Usable(base string, allowPlain bool) bool {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && allowPlain && Loopback(u.Hostname())
}

// Loopback reports whether a host is this machine by its name or address.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// patience is the longest wait between two tries for a caller without a deadline.
const patience = 30 * time.Second

// Pause waits between two tries, and reports whether the caller has time left after it. It does not begin
// to wait where the caller hasn't.
func Pause(ctx context.Context, wait time.Duration) bool {
	left := patience
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	if wait >= left {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}
