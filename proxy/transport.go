package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// transports are the two ways out. They share no connections, so that one made for a target that may
// have a private address is never used for one that may not.
type transports struct{ public, private *http.Transport }

func newTransports(o HTTPOptions) transports {
	return transports{
		public:  newTransport(o.RootCAs, public, o.DialTimeout),
		private: newTransport(o.RootCAs, private, o.DialTimeout),
	}
}

// newTransport makes a transport that neither follows the environment's proxies nor asks for a
// coding of its own. Redirects are not a transport's business and are never followed.
func newTransport(roots *x509.CertPool, most reach, dialTimeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Control: allowOnly(most)}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
}

func (t transports) of(u *upstream) *http.Transport {
	if u.private {
		return t.private
	}
	return t.public
}

func (t transports) closeIdle() {
	t.public.CloseIdleConnections()
	t.private.CloseIdleConnections()
}
