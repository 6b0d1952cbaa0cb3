package proxy

import (
	"io"
	"net/http"
	"sync/atomic"
)

// requestBody is the caller's body on its way to the upstream. The transport reads it in a goroutine
// of its own.
type requestBody struct {
	x    *exchange
	from io.ReadCloser
	in   *http.Request
	out  *http.Request

	n      atomic.Int64 // bytes so far
	ended  atomic.Bool  // read to its end, or broken
	failed atomic.Bool  // broken by the caller
}

// Read passes bytes on and notes that they moved.
func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.n.Add(int64(n))
	switch {
	case err == nil:
		b.x.moved()
	case err == io.EOF:
		b.fillTrailers()
		b.ended.Store(true)
		b.x.awaiting()
	default:
		b.failed.Store(true)
		b.ended.Store(true)
	}
	return n, err
}

// Close does nothing: the server closes the body that it made.
func (b *requestBody) Close() error { return nil }

func (b *requestBody) finished() bool { return b.ended.Load() }

// trailers announces the trailer fields that the caller announced and that may be forwarded.
func (b *requestBody) trailers(injected string) http.Header {
	var out http.Header
	for name := range b.in.Trailer {
		if stripped(name, injected) {
			continue
		}
		if out == nil {
			out = http.Header{}
		}
		out[name] = nil
	}
	return out
}

// fillTrailers copies the announced fields, which the server knows once the body has ended.
func (b *requestBody) fillTrailers() {
	for name := range b.out.Trailer {
		b.out.Trailer[name] = b.in.Trailer[name]
	}
}
