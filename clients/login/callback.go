package login

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// callbackPath is the path of the redirect; issuers that want the whole URI registered take it with a
// fixed port.
const callbackPath = "/callback"

// The two pages that a browser is answered with. They are fixed, so that nothing which the browser
// brought comes back in them.
const (
	pageDone = `<!doctype html><html lang="en"><meta charset="utf-8"><title>daypass</title>
<body><h1>Signed in</h1><p>daypass goes on in the terminal. You may close this window.</p></body></html>
`
	pageFailed = `<!doctype html><html lang="en"><meta charset="utf-8"><title>daypass</title>
<body><h1>Not signed in</h1><p>The terminal says why. You may close this window.</p></body></html>
`
)

// lingering is how long the page may take to reach the browser after the answer is there.
const lingering = time.Second

// callback is a loopback redirect (RFC 8252, section 7.3). The first request that is for it is the
// answer, whatever it says; none after that is looked at.
type callback struct {
	host   string // HOST:PORT
	server *http.Server
	answer chan url.Values // holds one
	once   sync.Once       // owns the right to send to answer
}

// awaitCallback listens on 127.0.0.1 alone, never on a name, which could be taken to mean elsewhere.
func awaitCallback(ctx context.Context, port int) (*callback, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fault(cred.Unavailable, "LOGIN_PORT", err, "daypass can't listen on port %d of 127.0.0.1 for the browser's answer; choose another with --port, or use --device", port)
	}
	c := &callback{host: listener.Addr().String(), answer: make(chan url.Values, 1)}
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	go func() { _ = c.server.Serve(listener) }() // ends with close
	return c, nil
}

func (c *callback) url() string { return "http://" + c.host + callbackPath }

func (c *callback) wait(ctx context.Context) (url.Values, error) {
	select {
	case answer := <-c.answer:
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// close lets the page reach the browser, and stops listening.
func (c *callback) close() {
	ctx, cancel := context.WithTimeout(context.Background(), lingering)
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		_ = c.server.Close() // a browser's spare connection is open
	}
}

// ServeHTTP takes the answer. The host must be ours to the letter: a page of somebody else's whose name
// leads to 127.0.0.1 sends its own.
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	if r.Method != http.MethodGet || r.URL.EscapedPath() != callbackPath || r.Host != c.host {
		http.Error(w, "there is nothing here", http.StatusNotFound)
		return
	}
	first := false
	c.once.Do(func() { first = true })
	if !first {
		http.Error(w, "this sign-in was answered already", http.StatusGone)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	page := pageDone
	if err != nil || query.Get("code") == "" || query.Has("error") {
		page = pageFailed
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, page)
	_ = http.NewResponseController(w).Flush()
	c.answer <- query
}
