package notice

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// hit is a request that a fake took.
type hit struct {
	path   string
	header http.Header
	body   []byte
}

// endpoint is an HTTP server that takes notices. It checks each request as the real receiver does,
// and fails as planned: before it takes a request (notDone), or after it (doneLost).
type endpoint struct {
	*httptest.Server
	t      testing.TB
	verify func(hit) error                        // an error is answered with 401 and fails the test
	answer func(w http.ResponseWriter, taken hit) // nil: 200

	mu   sync.Mutex
	next []fault       // guarded by mu
	hits []hit         // guarded by mu
	free chan struct{} // closed when hanging requests end; nil: none hang; guarded by mu
}

func newEndpoint(t testing.TB, tls bool) *endpoint {
	e := &endpoint{t: t}
	if tls {
		e.Server = httptest.NewTLSServer(http.HandlerFunc(e.serve))
	} else {
		e.Server = httptest.NewServer(http.HandlerFunc(e.serve))
	}
	t.Cleanup(func() {
		e.release()
		e.Server.Close()
	})
	return e
}

func (e *endpoint) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	taken := hit{r.URL.String(), r.Header.Clone(), body}
	e.mu.Lock()
	f, free := works, e.free
	if len(e.next) > 0 {
		f, e.next = e.next[0], e.next[1:]
	}
	e.mu.Unlock()
	if free != nil {
		<-free
	}
	if f == notDone {
		panic(http.ErrAbortHandler)
	}
	if e.verify != nil {
		if err := e.verify(taken); err != nil {
			e.t.Errorf("the receiver refuses the request: %v", err)
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
	}
	e.mu.Lock()
	e.hits = append(e.hits, taken)
	e.mu.Unlock()
	if f == doneLost {
		panic(http.ErrAbortHandler)
	}
	if e.answer != nil {
		e.answer(w, taken)
	}
}

func (e *endpoint) plan(faults ...fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = append(e.next, faults...)
}

func (e *endpoint) hang() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.free = make(chan struct{})
}

func (e *endpoint) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.free != nil {
		close(e.free)
		e.free = nil
	}
}

func (e *endpoint) taken() []hit {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.hits)
}

// last returns the latest request.
func (e *endpoint) last() hit {
	e.t.Helper()
	all := e.taken()
	if len(all) == 0 {
		e.t.Fatal("the receiver took no request")
	}
	return all[len(all)-1]
}

// caFile writes the endpoint's certificate to a file.
func (e *endpoint) caFile() string {
	e.t.Helper()
	file := filepath.Join(e.t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate().Raw})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		e.t.Fatal(err)
	}
	return file
}

// status answers with a code, and headers by name and value.
func status(code int, headers ...string) func(http.ResponseWriter, hit) {
	return func(w http.ResponseWriter, _ hit) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, "words of the receiver")
	}
}
