package proxy

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// hijacked answers with raw bytes and closes.
func hijacked(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(c, raw)
		c.Close()
	}
}

func TestUpstreamThatFailsBeforeItsAnswerBegins(t *testing.T) {
	for name, raw := range map[string]string{
		"closes":             "",
		"garbage":            "SSH-2.0-x\r\n",
		"short body":         "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"switches protocols": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"odd status":         "HTTP/1.1 000 What\r\nContent-Length: 0\r\n\r\n",
		"status of nobody":   "HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"endless header":     "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 300<<10) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{upstream: hijacked(raw)})
			wantProblem(t, r.do(r.request("POST", "/api/x", strings.NewReader("once"))), 502, "upstream_failed")
			e := r.log.await(t, audit.UseEnd, 1)
			if e.Use.Ended != EndedUpstreamError || e.Use.Status != 502 || e.Use.BytesOut != 0 || e.Error == nil || e.Error.Reason != "UPSTREAM_FAILED" {
				t.Errorf("recorded end %+v, %+v", e.Use, e.Error)
			}
		})
	}
}

func TestUpstreamThatBreaksOffIsNotACleanEnd(t *testing.T) {
	long := "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 100000)
	for name, raw := range map[string]string{
		"a long body is short":  long,
		"a chunk is short":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
		"the last chunk misses": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{upstream: hijacked(raw)})
			res := r.get("/api/x")
			if b, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("a clean end after %d bytes", len(b))
			}
			if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedUpstreamError || e.Use.Status != 200 {
				t.Errorf("recorded end %+v", e.Use)
			}
		})
	}
}

// What an answer that breaks off held back may be the beginning of the credential.
func TestHeldBackBytesOfABrokenAnswerStayHere(t *testing.T) {
	part := secretText[:len(secretText)-2]
	r := newRig(t, setup{upstream: hijacked("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nopen " + part)})
	w := httptest.NewRecorder() // what the server itself would drop is seen too
	q := httptest.NewRequest("GET", "/api/x", nil)
	q.Header.Set("Authorization", "Bearer "+r.token())
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler {
				t.Errorf("the handler ended with %v", v)
			}
		}()
		r.front.ServeHTTP(w, q)
	}()
	if s := w.Body.String(); !strings.HasPrefix(s, "open") || strings.Contains(s, part[:4]) {
		t.Errorf("got %q", s)
	}
}

func TestUpstreamThatIsUnreachable(t *testing.T) {
	r := newRig(t, setup{target: func(c *cred.Target) { c.HTTP.Upstream = "http://127.0.0.1:1" }})
	wantProblem(t, r.get("/api/x"), 502, "upstream_failed")
}

func TestUpstreamThatHangs(t *testing.T) {
	hang := func(flush bool) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			if flush {
				_, _ = io.WriteString(w, "some\n")
				_ = http.NewResponseController(w).Flush()
			}
			<-q.Context().Done() // the proxy must hang up
		}
	}
	t.Run("before its answer", func(t *testing.T) {
		r := newRig(t, setup{upstream: hang(false), options: HTTPOptions{HeaderTimeout: 20 * time.Millisecond}})
		wantProblem(t, r.get("/api/x"), 504, "upstream_silent")
		if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedUpstreamError || e.Use.Rule != "upstream_silent" {
			t.Errorf("recorded end %+v", e.Use)
		}
	})
	t.Run("within its answer", func(t *testing.T) {
		r := newRig(t, setup{upstream: hang(true), options: HTTPOptions{IdleTimeout: 20 * time.Millisecond}})
		if b, err := io.ReadAll(r.get("/api/x").Body); err == nil || string(b) != "some\n" {
			t.Errorf("got %q, %v", b, err)
		}
		if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedUpstreamError || e.Use.Rule != "upstream_silent" {
			t.Errorf("recorded end %+v", e.Use)
		}
	})
}

func TestCallerWhoLeavesStopsTheUpstream(t *testing.T) {
	for name, flush := range map[string]bool{"before the answer": false, "within the answer": true} {
		t.Run(name, func(t *testing.T) {
			entered, stopped := make(chan struct{}), make(chan struct{})
			r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if flush {
					_ = http.NewResponseController(w).Flush()
				}
				close(entered)
				<-q.Context().Done()
				close(stopped)
			})})
			ctx, cancel := context.WithCancel(t.Context())
			q := r.request("GET", "/api/x", nil).WithContext(ctx)
			left := make(chan struct{})
			go func() {
				defer close(left)
				if res, err := r.client.Do(q); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			}()
			receive(t, entered)
			cancel()
			receive(t, stopped)
			receive(t, left)
			if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedClientGone {
				t.Errorf("recorded end %+v", e.Use)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var up string
	r := newRig(t, setup{base: "/base", upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Location", strings.ReplaceAll(q.URL.Query().Get("to"), "UP", up))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})})
	up = strings.TrimSuffix(r.target.HTTP.Upstream, "/base")
	for to, want := range map[string]string{
		"UP/base/next?a=1":             "/api/next?a=1",
		"/base/next":                   "/api/next",
		"/base":                        "/api",
		"next":                         "next",
		"/based":                       "/based",
		"//elsewhere.example.com/base": "//elsewhere.example.com/base",
		"https://else.example.com/":    "https://else.example.com/",
	} {
		res := r.get("/api/x?to=" + strings.ReplaceAll(strings.ReplaceAll(to, "?", "%3F"), "=", "%3D"))
		if got := res.Header.Get("Location"); res.StatusCode != 307 || got != want {
			t.Errorf("%s: %d, %q, want %q", to, res.StatusCode, got, want)
		}
	}
	if n := r.log.count(audit.UseBegin); n != 7 {
		t.Errorf("%d uses", n)
	}
}

func TestEncodedAnswersAreDecodedAndMasked(t *testing.T) {
	plain := "before " + secretText + " after"
	encoders := map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"zstd":    func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); return z },
	}
	for coding, encoder := range encoders {
		t.Run(coding, func(t *testing.T) {
			var asked string
			r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				asked = q.Header.Get("Accept-Encoding")
				var b bytes.Buffer
				z := encoder(&b)
				_, _ = io.WriteString(z, plain)
				_ = z.Close()
				w.Header().Set("Content-Encoding", coding)
				if q.URL.Path == "/short" {
					b.Truncate(b.Len() - 1)
				}
				_, _ = w.Write(b.Bytes())
			})})
			q := r.request("GET", "/api/x", nil)
			q.Header.Set("Accept-Encoding", "gzip, br, zstd")
			res := r.do(q)
			s := text(t, res)
			if strings.Contains(s, secretText) || !strings.HasPrefix(s, "before ") || !strings.HasSuffix(s, " after") {
				t.Errorf("got %q", s)
			}
			if asked != "identity" || res.Header.Get("Content-Encoding") != "" {
				t.Errorf("asked for %q, got %v", asked, res.Header)
			}
			short, err := r.client.Do(r.request("GET", "/api/short", nil))
			if err != nil {
				return // broken off before the header was flushed
			}
			defer short.Body.Close()
			if b, err := io.ReadAll(short.Body); err == nil {
				t.Errorf("a broken coding ended cleanly: %q", b)
			}
		})
	}
	for _, coding := range []string{"br", "gzip, gzip", "aes128gcm", "gzip"} {
		t.Run("refused "+coding, func(t *testing.T) {
			r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", coding)
				_, _ = io.WriteString(w, "not what it says, "+secretText)
			})})
			wantProblem(t, r.get("/api/x"), 502, "answer_not_maskable")
		})
	}
}

func TestPrivateAddressesAreRefusedAtConnect(t *testing.T) {
	var reached bool
	r := newRig(t, setup{
		upstream: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }),
		target: func(c *cred.Target) {
			c.HTTP.AllowPrivate = false
			c.HTTP.Upstream = strings.Replace(c.HTTP.Upstream, "127.0.0.1", "localhost", 1)
		},
	})
	wantProblem(t, r.get("/api/x"), 502, "upstream_address")
	if reached {
		t.Error("the upstream was reached")
	}
}

func TestEnvironmentProxyIsIgnored(t *testing.T) {
	if newTransport(nil, public, time.Second).Proxy != nil {
		t.Error("the transport asks somebody for a proxy")
	}
}

func TestUpstreamErrorsStayPrivate(t *testing.T) {
	r := newRig(t, setup{redeem: func(context.Context, cred.Secret) (Redemption, error) {
		return Redemption{}, cred.Errorf(cred.Denied, "redeem", "your grant is not for this", "inner %s", "detail")
	}})
	res := r.get("/api/x")
	body := text(t, res)
	if res.StatusCode != 403 || strings.Contains(body, "inner") || !strings.Contains(body, "your grant is not for this") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
}
