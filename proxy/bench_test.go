package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// The two benchmarks do the same work with the same callers and the same upstream: 32 connections,
// answers of 1 KiB of JSON. Callers and upstream are as cheap as they can be, so that what differs
// is the proxies.
//
//	go test ./proxy -run '^$' -bench HTTP -benchtime 5s

func BenchmarkProxyHTTP(b *testing.B) {
	for _, c := range []struct {
		name      string
		detectors []string
	}{{"credential", nil}, {"secrets", []string{"secrets"}}, {"everything", []string{"secrets", "pii"}}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, setup{
				target: func(t *cred.Target) { t.HTTP.Upstream = cannedUpstream(b); t.Mask.Detectors = c.detectors },
				config: func(c *Config) { c.Log = freeLog{} },
			})
			ask(b, strings.TrimPrefix(r.base, "http://"), "/api/v1/things", r.token())
		})
	}
}

func BenchmarkBareReverseProxyHTTP(b *testing.B) {
	to, err := url.Parse(cannedUpstream(b))
	if err != nil {
		b.Fatal(err)
	}
	out := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	b.Cleanup(out.CloseIdleConnections)
	bare := &httputil.ReverseProxy{
		Rewrite:    func(q *httputil.ProxyRequest) { q.SetURL(to); q.Out.Header.Set("Authorization", "Bearer "+secretText) },
		Transport:  out,
		BufferPool: pool{},
	}
	s := httptest.NewServer(bare)
	b.Cleanup(s.Close)
	ask(b, s.Listener.Addr().String(), "/v1/things", "x")
}

type freeLog struct{}

func (freeLog) Append(context.Context, ...audit.Event) (uint64, error) { return 0, nil }

type pool struct{}

func (pool) Get() []byte  { return *copyBuffers.Get().(*[]byte) }
func (pool) Put(b []byte) { copyBuffers.Put(&b) }

// cannedUpstream answers every request with the same kibibyte.
func cannedUpstream(b *testing.B) string {
	b.Helper()
	var body strings.Builder
	body.WriteString(`{"items":[`)
	for i := 0; body.Len() < 960; i++ {
		fmt.Fprintf(&body, `{"id":%d,"name":"thing number %d","state":"active"},`, 1000+i, i)
	}
	body.WriteString(`{"id":0}]}`)
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nX-Request-Id: 4711\r\nContent-Length: %d\r\n\r\n%s", body.Len(), body.String())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerEach(c, answer)
		}
	}()
	return "http://" + l.Addr().String()
}

func answerEach(c net.Conn, answer []byte) {
	defer c.Close()
	buf := make([]byte, 16<<10)
	n := 0
	for {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			n = 0
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

// ask sends b.N requests over 32 connections.
func ask(b *testing.B, address, path, token string) {
	b.Helper()
	const connections = 32
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nUser-Agent: bench/1\r\nAuthorization: Bearer " + token + "\r\n\r\n")
	var work sync.WaitGroup
	turns := make(chan struct{}, 1024)
	errs := make(chan error, connections)
	b.ReportAllocs()
	for range connections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		work.Go(func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for range turns {
				if err := turn(c, r, request); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for b.Loop() {
		turns <- struct{}{}
	}
	close(turns)
	work.Wait()
	if len(errs) > 0 {
		b.Fatal(<-errs)
	}
}

func turn(c net.Conn, r *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	length, head := 0, true
	for head {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if n, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			_, _ = fmt.Sscan(string(n), &length)
		}
		head = len(line) > 2
	}
	if length < 900 {
		return fmt.Errorf("an answer of %d bytes", length)
	}
	_, err := io.CopyN(io.Discard, r, int64(length))
	return err
}
