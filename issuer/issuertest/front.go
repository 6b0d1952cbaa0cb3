package issuertest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Fault is what a Front does to a request.
type Fault int

// The two forms of each fault, and silence.
const (
	None     Fault = iota
	NotDone        // the connection breaks before the request reaches the source
	DoneLost       // the source does it, then the connection breaks before the answer
	Silent         // the request does not reach the source and nobody ever answers
)

var faultNames = [...]string{"none", "it did not happen", "it happened but the answer was lost", "silence"}

// String returns what the fault does, for the names of tests.
func (f Fault) String() string { return faultNames[f] }

// Front stands between an issuer and its source over HTTP and breaks the requests that it is told
// to. It is safe for concurrent use.
type Front struct {
	URL    string
	source string

	mu    sync.Mutex // owns what follows
	fault Fault
	at    int // which request from now on: 1 is the next; 0 is each of them
	seen  int
	pick  func(*http.Request) bool // which requests answer answers in the source's stead; nil for none
	times int                      // how many of them are left
	reply http.Handler
	log   []string // "METHOD /path" of what reached the source
}

// NewFront starts a Front before a source; it ends with the test.
func NewFront(t testing.TB, source string) *Front {
	f := &Front{source: source}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.URL = srv.URL
	return f
}

// Break makes the nth request from now on fail; n 0 means all of them. None mends the Front.
func (f *Front) Break(fault Fault, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.at, f.seen = fault, n, 0
}

// Answer answers the next requests that pick accepts in the source's stead: as a sealed or busy source
// does, or whatever stands before it. They do not reach the source. A request that Break breaks is
// broken all the same.
func (f *Front) Answer(times int, pick func(*http.Request) bool, with http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times, f.pick, f.reply = times, pick, with
}

// Reached returns how many requests have reached the source that begin with a prefix, e.g.
// "GET /v1/database/".
func (f *Front) Reached(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range f.log {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// Seen returns how many requests came since Break.
func (f *Front) Seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// ServeHTTP forwards a request to the source, or does to it what Break says.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := f.next()
	body, err := io.ReadAll(r.Body)
	if err != nil || fault == NotDone {
		cut(w)
		return
	}
	if fault == Silent {
		<-r.Context().Done()
		return
	}
	if reply := f.inStead(r); reply != nil && fault == None {
		r.Body = io.NopCloser(bytes.NewReader(body))
		reply.ServeHTTP(w, r)
		return
	}
	resp, answer, err := f.forward(r, body)
	if err != nil || fault == DoneLost {
		cut(w)
		return
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

func (f *Front) next() Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	if f.at == 0 || f.at == f.seen {
		return f.fault
	}
	return None
}

// inStead returns what answers a request instead of the source; nil for nothing.
func (f *Front) inStead(r *http.Request) http.Handler {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.times > 0 && f.pick(r) {
		f.times--
		return f.reply
	}
	f.log = append(f.log, r.Method+" "+r.URL.Path)
	return nil
}

// forward sends the request on and reads the whole answer. It outlives the client's own request, as
// a source does that has begun to act.
func (f *Front) forward(r *http.Request, body []byte) (*http.Response, []byte, error) {
	out, err := http.NewRequest(r.Method, f.source+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	out.Header, out.Host = r.Header.Clone(), r.Host
	resp, err := frontClient.Do(out)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}

// frontClient keeps no connection, so that nothing runs when a test has ended.
var frontClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// cut breaks the client's connection without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}
