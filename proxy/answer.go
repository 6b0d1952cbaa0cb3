package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/proxy/mask"
)

// answerWriter is the caller's end of an answer: it counts, and keeps the caller's failures apart
// from the upstream's.
type answerWriter struct {
	w   io.Writer
	n   int64
	err error
}

func (a *answerWriter) Write(p []byte) (int, error) {
	n, err := a.w.Write(p)
	a.n += int64(n)
	if err != nil {
		a.err = err
	}
	return n, err
}

const (
	maxWhole      = 64 << 10 // answers of a known length up to this are read as a whole before they are sent
	copyBuffer    = 32 << 10
	max1xxAnswers = 8 // interim answers that are passed on; more are an error
)

var (
	copyBuffers  = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}
	wholeBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

// roundTrip sends the request and waits for the answer's header. Interim answers (1xx) but 100,
// which the server sends by itself when the body is wanted, are passed on as they come.
func (x *exchange) roundTrip(out *http.Request) (*http.Response, error) {
	var mu sync.Mutex // the transport may call back after it has returned
	seen, done := 0, false
	interim := func(code int, h textproto.MIMEHeader) error {
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen > max1xxAnswers {
			return errUpstream
		}
		if !done && code != http.StatusContinue {
			x.interim(code, http.Header(h))
		}
		return nil
	}
	ctx := httptrace.WithClientTrace(x.use.Context(), &httptrace.ClientTrace{Got1xxResponse: interim})
	if x.request == nil {
		x.awaiting()
	}
	res, err := x.h.out.of(x.session.upstream).RoundTrip(out.WithContext(ctx))
	mu.Lock()
	defer mu.Unlock()
	done = true
	return res, err
}

func (x *exchange) interim(code int, h http.Header) {
	x.awaiting()
	header := x.w.Header()
	x.session.answerHeader(header, h)
	x.w.WriteHeader(code)
	clear(header)
}

// reply passes the upstream's answer on.
func (x *exchange) reply(res *http.Response) error {
	if res.StatusCode < 200 || res.StatusCode > 599 {
		return errUpstream // 101 too: nobody asked for another protocol
	}
	header := x.w.Header()
	x.session.answerHeader(header, res.Header)
	x.relocate(header)
	header[useHeader] = []string{string(x.use.ID())}
	if x.nonce != "" {
		header[nonceHeader] = []string{x.nonce}
	}
	if header["Content-Type"] == nil {
		header["Content-Type"] = nil // else the server guesses one
	}
	if x.r.Method == http.MethodHead || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified {
		return x.replyEmpty(res, header)
	}
	body, err := decoded(res)
	if err != nil {
		return err
	}
	defer body.Close()
	header.Del("Content-Encoding")
	if body == res.Body && res.ContentLength >= 0 && res.ContentLength <= maxWhole && len(res.Trailer) == 0 {
		return x.replyWhole(res, body, header)
	}
	return x.replyStream(res, body, header)
}

// replyEmpty answers without a body. The length that a HEAD tells is the upstream's; the answer to a
// GET may differ by what is masked.
func (x *exchange) replyEmpty(res *http.Response, header http.Header) error {
	if length := res.Header["Content-Length"]; length != nil && res.StatusCode != http.StatusNoContent {
		header["Content-Length"] = length
	}
	if err := x.commit(res.StatusCode); err != nil {
		return err
	}
	x.w.WriteHeader(res.StatusCode)
	return nil
}

// replyWhole reads a short answer to its end before anything is sent, so that one that breaks off
// becomes a clear error.
func (x *exchange) replyWhole(res *http.Response, body io.Reader, header http.Header) error {
	raw, clean := wholeBuffers.Get().(*bytes.Buffer), wholeBuffers.Get().(*bytes.Buffer)
	defer wholeBuffers.Put(raw)
	defer wholeBuffers.Put(clean)
	raw.Reset()
	clean.Reset()
	if _, err := raw.ReadFrom(body); err != nil {
		return err
	}
	m := x.use.Mask(res.Header.Get("Content-Type"), clean)
	if _, err := m.Write(raw.Bytes()); err != nil {
		return err
	}
	if err := m.Close(); err != nil {
		return err
	}
	header["Content-Length"] = []string{strconv.Itoa(clean.Len())}
	if err := x.commit(res.StatusCode); err != nil {
		return err
	}
	x.moved()
	x.w.WriteHeader(res.StatusCode)
	_, err := x.answer.Write(clean.Bytes())
	return err
}

// replyStream passes an answer on as it comes. What the upstream sent in one piece is flushed to
// the caller unless the whole length is known.
func (x *exchange) replyStream(res *http.Response, body io.Reader, header http.Header) error {
	for name := range res.Trailer {
		if !hopByHop[name] && !notReturned[name] {
			header.Add("Trailer", name)
		}
	}
	if err := x.commit(res.StatusCode); err != nil {
		return err
	}
	x.w.WriteHeader(res.StatusCode)
	m := x.use.Mask(res.Header.Get("Content-Type"), x.answer)
	if err := x.pump(body, m, res.ContentLength < 0); err != nil {
		return err
	}
	if err := m.Close(); err != nil {
		return err
	}
	x.trailers(res)
	return nil
}

// pump copies an answer's body until it ends.
func (x *exchange) pump(body io.Reader, m mask.Stream, live bool) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	flusher := http.NewResponseController(x.w)
	if live {
		if err := flusher.Flush(); err != nil {
			return err
		}
	}
	for {
		n, err := body.Read(*buf)
		x.moved()
		if n > 0 {
			if _, err := m.Write((*buf)[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if live {
			if err := flushBoth(m, flusher); err != nil {
				return err
			}
		}
	}
}

func flushBoth(m mask.Stream, c *http.ResponseController) error {
	if err := m.Flush(); err != nil {
		return err
	}
	return c.Flush()
}

// trailers passes on the fields after the body, those that were not announced too.
func (x *exchange) trailers(res *http.Response) {
	clean := http.Header{}
	x.session.answerHeader(clean, res.Trailer)
	for name, values := range clean {
		if !hasToken(x.w.Header()["Trailer"], name) {
			name = http.TrailerPrefix + name
		}
		x.w.Header()[name] = values
	}
}

// relocate makes a Location on the upstream's base URL one on the proxy, so that a caller that
// follows it stays here. Any other Location passes as it is; the proxy itself follows none.
func (x *exchange) relocate(header http.Header) {
	location := header.Get("Location")
	if location == "" {
		return
	}
	up := x.session.upstream
	rest, here := strings.CutPrefix(location, up.base.Scheme+"://"+up.base.Host)
	if !here && (!strings.HasPrefix(location, "/") || strings.HasPrefix(location, "//")) {
		return
	}
	if rest, here = strings.CutPrefix(rest, up.prefix); here && (rest == "" || strings.HasPrefix(rest, "/")) {
		header["Location"] = []string{"/" + x.session.key.target + rest}
	}
}

// errCoding is the refusal of an answer that can't be decoded: what can't be read can't be masked.
var errCoding = &statusError{http.StatusBadGateway, refusal(cred.Unavailable, "answer_not_maskable",
	"the upstream encoded its answer in a way that can't be undone here, so it can't be masked and is not passed on")}
