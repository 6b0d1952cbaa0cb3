package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token/dpop"
)

// HTTPOptions sets up the HTTP front end. The zero value of each field stands for the default named
// beside it.
type HTTPOptions struct {
	RootCAs       *x509.CertPool // who may vouch for upstreams; nil: the system's
	DialTimeout   time.Duration  // to connect and shake hands with an upstream; 10 s
	HeaderTimeout time.Duration  // from the request's last byte to the answer's header; 2 min
	IdleTimeout   time.Duration  // without a byte in either direction of a body; 5 min
	ErrorLog      *log.Logger    // what net/http says of broken connections; nil: nothing
	AllowPlain    bool           // serve without TLS on addresses other than loopback: a TLS terminator stands before

	// URL is what callers call this proxy by: scheme and authority. Their DPoP proofs must be for it.
	// Empty: the address that they connect to, and on loopback the name localhost too.
	URL string
	// Nonces makes DPoP proofs need a nonce of this process's (RFC 9449, section 9).
	Nonces bool
}

// HTTP is the front end for HTTP: http://PROXY/TARGET/REST is sent to the target's upstream with
// the target's credential in place of the caller's grant token. It speaks HTTP/1.1 and HTTP/2, over
// TLS or, on loopback, in the clear. Upgrades (WebSocket) and CONNECT are refused with 501: what
// passes there would not be masked.
//
// /-/healthz answers 200 while the process serves; /-/readyz answers 503 with a problem document
// while the proxy refuses everything, see Proxy.Ready.
type HTTP struct {
	p      *Proxy
	o      HTTPOptions
	out    transports
	proofs *dpop.Verifier
	health http.Handler

	mu      sync.Mutex // owns all below
	servers []*http.Server
	stopped bool
}

// NewHTTP returns the HTTP front end of a proxy.
func NewHTTP(p *Proxy, o HTTPOptions) *HTTP {
	if o.DialTimeout <= 0 {
		o.DialTimeout = 10 * time.Second
	}
	if o.HeaderTimeout <= 0 {
		o.HeaderTimeout = 2 * time.Minute
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 5 * time.Minute
	}
	if o.ErrorLog == nil {
		o.ErrorLog = log.New(io.Discard, "", 0)
	}
	h := &HTTP{p: p, o: o, out: newTransports(o), proofs: newProofs(p.cfg.Now, o.Nonces)}
	h.health = h.healthMux()
	return h
}

func newProofs(now func() time.Time, nonces bool) *dpop.Verifier {
	o := dpop.Options{Now: now}
	if nonces {
		o.Nonces = dpop.NewNonces(now, 0)
	}
	return dpop.New(o)
}

// ServeHTTP proxies one request. It panics with http.ErrAbortHandler where the answer had begun and
// can't be completed, so that the caller sees it broken off.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.Path) > 2 && r.URL.Path[:3] == "/-/" {
		h.health.ServeHTTP(w, r)
		return
	}
	x := newExchange(h, w, r)
	if broken := x.run(); broken {
		panic(http.ErrAbortHandler)
	}
}

func (h *HTTP) healthMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /-/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.p.Ready(); err != nil {
			writeProblem(w, err, "")
			return
		}
		w.WriteHeader(http.StatusOK)
	})
	return mux
}

// Serve answers on a listener until Shutdown, and then returns http.ErrServerClosed. Without a TLS
// configuration it speaks HTTP/1.1 and HTTP/2 with prior knowledge, and refuses a listener that is
// not on loopback or a Unix socket unless AllowPlain is set: grant tokens would pass in the clear.
// With one it asks every client for a certificate and verifies none, since it only compares them with
// what grant tokens are bound to (RFC 8705, section 3).
func (h *HTTP) Serve(l net.Listener, tlsConfig *tls.Config) error {
	if tlsConfig == nil && !h.o.AllowPlain && !isLocal(l.Addr()) {
		return cred.Errorf(cred.Invalid, "proxy.serve",
			"without TLS the proxy serves on a loopback address alone; configure a certificate", "listener %s is not loopback", l.Addr())
	}
	if tlsConfig != nil && tlsConfig.ClientAuth == tls.NoClientCert {
		tlsConfig = tlsConfig.Clone()
		tlsConfig.ClientAuth = tls.RequestClientCert
	}
	s := h.server(tlsConfig)
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return errors.Join(http.ErrServerClosed, l.Close())
	}
	h.servers = append(h.servers, s)
	h.mu.Unlock()
	if tlsConfig == nil {
		return s.Serve(l)
	}
	return s.ServeTLS(l, "", "")
}

func (h *HTTP) server(tlsConfig *tls.Config) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(tlsConfig != nil)
	protocols.SetUnencryptedHTTP2(tlsConfig == nil)
	return &http.Server{
		Handler: h, TLSConfig: tlsConfig, Protocols: &protocols,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is refused as any other form
		ReadHeaderTimeout:            10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 250},
		ErrorLog: h.o.ErrorLog,
	}
}

func isLocal(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// Shutdown stops accepting, lets what runs finish until ctx is done, then ends every session, cuts
// what is left, and waits a little for the record of it. It closes the Proxy. The error tells what
// could not be finished or recorded.
func (h *HTTP) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	h.stopped = true
	servers := h.servers
	h.mu.Unlock()
	var failed error
	for _, s := range servers {
		failed = errors.Join(failed, s.Shutdown(ctx))
	}
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.p.cfg.LogTimeout)
	defer cancel()
	failed = errors.Join(failed, h.p.Close(record))
	for _, s := range servers {
		failed = errors.Join(failed, s.Close())
	}
	h.out.closeIdle()
	return failed
}
