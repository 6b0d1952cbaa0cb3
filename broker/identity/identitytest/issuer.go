// Package identitytest is an OIDC issuer for tests, demos and benchmarks: real keys, a discovery
// document and a key set over HTTP, tokens as GitHub Actions, GitLab and an identity provider for
// people sign them, switches for the ways in which an issuer fails, and a collection of forged and
// mangled tokens (Forge) that no verifier may accept.
package identitytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Issuer issues ID tokens. It is safe for concurrent use.
type Issuer struct {
	url    string
	server *http.Server // nil for one that Unserved made

	mu          sync.Mutex // guards all below
	now         func() time.Time
	keys        [][]key // the published generations of keys, newest first
	generation  int
	extra       []map[string]any // further members of the key set
	discovered  string           // what discovery says the issuer is
	keysURI     string           // what discovery says the jwks_uri is
	down        bool
	hang        chan struct{} // closed when requests may go on; nil while none hangs
	fetches     int
	discoveries int
}

// New starts an issuer on a loopback address, over plain HTTP.
func New() (*Issuer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	i, err := Unserved("http://" + listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	i.server = &http.Server{Handler: i, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = i.server.Serve(listener) }() // ends with Close
	return i, nil
}

// Unserved makes an issuer of a given URL that listens nowhere: it is an http.Handler, and Client
// reaches it without a network, also under testing/synctest.
func Unserved(url string) (*Issuer, error) {
	i := &Issuer{url: url, now: time.Now, discovered: url, keysURI: url + "/jwks"}
	return i, i.Rotate()
}

// Close stops the issuer and frees the requests that hang.
func (i *Issuer) Close() {
	i.SetHang(false)
	if i.server != nil {
		_ = i.server.Close()
	}
}

// URL is the issuer: the iss of its tokens and where discovery starts.
func (i *Issuer) URL() string { return i.url }

// SetNow sets the clock of tokens to come; the default is time.Now.
func (i *Issuer) SetNow(now func() time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = now
}

// Now is the issuer's clock.
func (i *Issuer) Now() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now()
}

// SetDown makes every request fail with 503.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// SetHang makes every request wait until the issuer hangs no more, or the client has left.
func (i *Issuer) SetHang(hang bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case hang && i.hang == nil:
		i.hang = make(chan struct{})
	case !hang && i.hang != nil:
		close(i.hang)
		i.hang = nil
	}
}

// SetDiscovery changes what the discovery document says of the issuer and of where its keys are.
// Keys are served at every path that ends in "jwks".
func (i *Issuer) SetDiscovery(issuer, jwksURI string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.discovered, i.keysURI = issuer, jwksURI
}

// Fetches is how often the key set was asked for, answered or not.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// Discoveries is how often the discovery document was asked for, answered or not.
func (i *Issuer) Discoveries() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.discoveries
}

// ServeHTTP serves the discovery document and the key set.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	document, hang, down := i.request(r.URL.Path)
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case down:
		http.Error(w, "down for a test", http.StatusServiceUnavailable)
	case document == nil:
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	}
}

// request counts a request and returns its answer, nil where there is nothing at the path.
func (i *Issuer) request(path string) (document []byte, hang <-chan struct{}, down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case strings.HasSuffix(path, "/.well-known/openid-configuration"):
		i.discoveries++
		document = mustJSON(map[string]any{
			"issuer": i.discovered, "jwks_uri": i.keysURI,
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": algorithms,
		})
	case strings.HasSuffix(path, "jwks"):
		i.fetches++
		document = i.keySet()
	}
	return document, i.hang, i.down
}

// keySet returns the JWK set. The caller holds mu.
func (i *Issuer) keySet() []byte {
	all := append([]map[string]any{}, i.extra...)
	for _, generation := range i.keys {
		for _, k := range generation {
			all = append(all, k.jwk())
		}
	}
	return mustJSON(map[string]any{"keys": all})
}

// Client returns a client whose every request this issuer answers, without a network.
func (i *Issuer) Client() *http.Client { return &http.Client{Transport: direct{i}} }

// direct hands requests to a handler.
type direct struct{ handler http.Handler }

// RoundTrip lets the handler answer on the caller's goroutine.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	a := &answer{header: http.Header{}, status: http.StatusOK}
	d.handler.ServeHTTP(a, r)
	if err := context.Cause(r.Context()); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Request: r,
	}, nil
}

// answer collects what a handler writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("identitytest: what a test passed is no JSON: " + err.Error())
	}
	return b
}
