package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

func TestEventsPassAsTheyCome(t *testing.T) {
	next := make(chan string)
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for event := range next {
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	})})
	res := r.get("/api/x") // the header comes before any event
	if res.Header.Get("Content-Type") != "text/event-stream" || res.ContentLength != -1 {
		t.Fatalf("header %v", res.Header)
	}
	body := bufio.NewReader(res.Body)
	for _, event := range []string{"data: {\"n\":1}\n\n", ": still here\n\n", "event: e\ndata: {\"n\":2}\n\n"} {
		next <- event
		if got := readEvent(t, body); got != event {
			t.Fatalf("got %q", got)
		}
	}
	close(next)
	if rest, err := io.ReadAll(body); err != nil || len(rest) != 0 {
		t.Errorf("the end: %q, %v", rest, err)
	}
}

func readEvent(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			t.Fatalf("after %q: %v", b.String(), err)
		}
		if line == "\n" {
			return b.String()
		}
	}
}

// The upstream sends the credential back in every way that it can find.
func TestCredentialNeverComesBack(t *testing.T) {
	half := len(secretText) / 2
	for name, answer := range map[string]http.HandlerFunc{
		"known length": func(w http.ResponseWriter, q *http.Request) { _, _ = io.WriteString(w, q.Header.Get("Authorization")) },
		"long": func(w http.ResponseWriter, q *http.Request) {
			body := strings.Repeat("x", maxWhole) + q.Header.Get("Authorization")
			w.Header().Set("Content-Length", itoa(len(body)))
			_, _ = io.WriteString(w, body)
		},
		"split over chunks": func(w http.ResponseWriter, _ *http.Request) {
			for _, part := range []string{"before " + secretText[:half], secretText[half:] + " after"} {
				_, _ = io.WriteString(w, part)
				_ = http.NewResponseController(w).Flush()
			}
		},
		"one byte at a time": func(w http.ResponseWriter, _ *http.Request) {
			for i := range secretText {
				_, _ = io.WriteString(w, secretText[i:i+1])
				_ = http.NewResponseController(w).Flush()
			}
		},
		"header": func(w http.ResponseWriter, q *http.Request) { w.Header().Set("X-Echo", q.Header.Get("Authorization")) },
		"location": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/x?t="+secretText)
			w.WriteHeader(302)
		},
		"early hint":   func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Link", secretText); w.WriteHeader(103) },
		"trailer":      func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(http.TrailerPrefix+"X-T", secretText) },
		"cookie":       func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Set-Cookie", "a="+secretText) },
		"error answer": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secretText, 500) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{upstream: answer})
			q := r.request("GET", "/api/x", nil)
			var early strings.Builder
			trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { return http.Header(h).Write(&early) }}
			res := r.do(q.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
			all := text(t, res) + early.String()
			for _, h := range []http.Header{res.Header, res.Trailer} {
				var b strings.Builder
				_ = h.Write(&b)
				all += b.String()
			}
			if strings.Contains(all, secretText) || strings.Contains(all, secretText[half:]) {
				t.Errorf("it came back: %q", all)
			}
			end := r.log.await(t, audit.UseEnd, 1).Use
			inBody := name != "header" && name != "location" && name != "early hint" && name != "trailer" && name != "cookie"
			if inBody != (len(end.Masked) > 0) || inBody && (end.Masked[0].Detector != "credential" || end.Masked[0].Count != 1) {
				t.Errorf("recorded masked %+v", end.Masked)
			}
		})
	}
}

func TestInjectedFormIsMaskedAndTheUserNameIsNot(t *testing.T) {
	r := newRig(t, setup{
		upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.WriteString(w, "deploy sent "+q.Header.Get("Authorization"))
		}),
		redeemed: func(r *Redemption) {
			r.Credential = cred.Credential{Type: cred.UserPassword, Fields: map[string]cred.Secret{
				"username": cred.SecretString("deploy"), "password": cred.SecretString(secretText),
			}}
		},
	})
	pair := base64.StdEncoding.EncodeToString([]byte("deploy:" + secretText))
	s := text(t, r.get("/api/x"))
	for i := range len(pair) - 8 {
		if strings.Contains(s, pair[i:i+8]) {
			t.Fatalf("%q of the basic credentials came back: %q", pair[i:i+8], s)
		}
	}
	if !strings.HasPrefix(s, "deploy sent ") {
		t.Errorf("got %q", s)
	}
}

// An upstream may answer while it still reads, over HTTP/1.1 too.
func TestHTTP1BothWaysAtOnce(t *testing.T) {
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(flushing{w}, q.Body)
	})})
	body, feed := io.Pipe()
	res := r.do(r.request("POST", "/api/x", body))
	for _, word := range []string{"{\"n\":1}\n", "{\"n\":2}\n"} {
		_, _ = io.WriteString(feed, word)
		got := make([]byte, len(word))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != word {
			t.Fatalf("echo %q, %v", got, err)
		}
	}
	feed.Close()
	if rest := text(t, res); rest != "" {
		t.Errorf("the end: %q", rest)
	}
	if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedComplete || e.Use.BytesIn != 16 || e.Use.BytesOut != 16 {
		t.Errorf("recorded end %+v", e.Use)
	}
}

func TestTrailersBothWays(t *testing.T) {
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("X-Sum", q.Trailer.Get("X-Up")+q.Trailer.Get("Authorization"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	})})
	q := r.request("POST", "/api/x", struct{ io.Reader }{strings.NewReader("body")})
	q.Trailer = http.Header{"X-Up": {"up"}, "Authorization": {"mine"}}
	res := r.do(q)
	if res.Header.Get("Trailer") != "" || len(res.Trailer) != 1 {
		t.Errorf("announced %v", res.Trailer)
	}
	text(t, res)
	if res.Trailer.Get("X-Sum") != "up" || res.Trailer.Get("X-Late") != "late" {
		t.Errorf("trailers %v", res.Trailer)
	}
}

func TestInterimAnswers(t *testing.T) {
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "final")
		_, _ = io.WriteString(w, "ok")
	})})
	var seen []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if h.Get("Link") == "</style.css>; rel=preload" {
			seen = append(seen, code)
		}
		return nil
	}}
	res := r.do(r.request("GET", "/api/x", nil).WithContext(httptrace.WithClientTrace(t.Context(), trace)))
	if s := text(t, res); s != "ok" || res.Header.Get("Link") != "final" || len(seen) != 1 || seen[0] != 103 {
		t.Errorf("got %q, %v, interim %v", s, res.Header, seen)
	}
}

func TestTooManyInterimAnswers(t *testing.T) {
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range max1xxAnswers + 1 {
			w.WriteHeader(http.StatusEarlyHints)
		}
	})})
	wantProblem(t, r.get("/api/x"), 502, "upstream_failed")
}

func TestAnswersWithoutBody(t *testing.T) {
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"e"`)
			w.WriteHeader(304)
		default:
			_, _ = io.WriteString(w, "12345")
		}
	})})
	head := r.do(r.request("HEAD", "/api/x", nil))
	if s := text(t, head); s != "" || head.ContentLength != 5 {
		t.Errorf("HEAD: %q, length %d", s, head.ContentLength)
	}
	if res := r.get("/api/204"); res.StatusCode != 204 || text(t, res) != "" {
		t.Errorf("got %d", res.StatusCode)
	}
	if res := r.get("/api/304"); res.StatusCode != 304 || text(t, res) != "" || res.Header.Get("Etag") != `"e"` {
		t.Errorf("got %d %v", res.StatusCode, res.Header)
	}
	for i := range 3 {
		if e := r.log.await(t, audit.UseEnd, i+1); e.Use.Ended != EndedComplete {
			t.Errorf("recorded end %+v", e.Use)
		}
	}
}

func TestExpectContinue(t *testing.T) {
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/refuse" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		_, _ = io.Copy(w, q.Body)
	})})
	ask := func(path string) (answer *http.Response, body string, continued bool, read int) {
		c := dial(t, r)
		_, _ = io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+r.token()+
			"\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		br := bufio.NewReader(c)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode == http.StatusContinue {
			_, _ = io.WriteString(c, "body")
			if res, err = http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
			continued = true
		}
		return res, text(t, res), continued, 0
	}
	if res, body, continued, _ := ask("/api/take"); !continued || body != "body" || res.StatusCode != 200 {
		t.Errorf("take: %d %q, continued %v", res.StatusCode, body, continued)
	}
	if res, _, continued, _ := ask("/api/refuse"); continued || res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("refuse: %d, continued %v", res.StatusCode, continued)
	}
}

func dial(t *testing.T, r *rig) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A request that two parsers could take for different ones leaves here in one form.
func TestSmugglingIsUndone(t *testing.T) {
	seen := make(chan string, 4)
	r := newRig(t, setup{upstream: http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		seen <- q.Method + " " + q.RequestURI + " " + string(b)
	})})
	auth := "Host: x\r\nAuthorization: Bearer " + r.token() + "\r\n"
	for name, c := range map[string]struct {
		raw    string
		status int
		want   string
	}{
		"both lengths":         {"POST /api/x HTTP/1.1\r\n" + auth + "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, "POST /x abc"},
		"two lengths":          {"POST /api/x HTTP/1.1\r\n" + auth + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, ""},
		"two hosts":            {"GET /api/x HTTP/1.1\r\n" + auth + "Host: y\r\n\r\n", 400, ""},
		"odd transfer coding":  {"POST /api/x HTTP/1.1\r\n" + auth + "Transfer-Encoding: xchunked\r\n\r\n", 501, ""},
		"space before colon":   {"GET /api/x HTTP/1.1\r\n" + auth + "X-A : b\r\n\r\n", 400, ""},
		"absolute form":        {"GET http://elsewhere.example.com/api/x HTTP/1.1\r\n" + auth + "\r\n", 400, ""},
		"connect":              {"CONNECT /api/x HTTP/1.1\r\n" + auth + "\r\n", 501, ""},
		"connect to authority": {"CONNECT api.example.com:443 HTTP/1.1\r\n" + auth + "\r\n", 501, ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, r)
			_, _ = io.WriteString(conn, c.raw)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != c.status {
				t.Fatalf("status %d", res.StatusCode)
			}
			if c.want != "" {
				if got := receive(t, seen); got != c.want {
					t.Errorf("the upstream saw %q", got)
				}
			}
			if len(seen) != 0 {
				t.Errorf("the upstream saw %q", <-seen)
			}
		})
	}
}

func TestHTTP2FromEndToEnd(t *testing.T) {
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(flushing{w}, q.Body)
		w.Header().Set(http.TrailerPrefix+"X-Proto", q.Proto+" "+q.Header.Get("Te"))
	}))
	up.EnableHTTP2 = true
	up.StartTLS()
	defer up.Close()
	roots := up.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	r := newRig(t, setup{target: func(c *cred.Target) { c.HTTP.Upstream = up.URL }, options: HTTPOptions{RootCAs: roots}})

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.front.Serve(l, &tls.Config{Certificates: up.TLS.Certificates}) }()
	defer func() { _ = r.front.Shutdown(context.Background()); receive(t, done) }()

	var clear, overTLS http.Protocols
	clear.SetUnencryptedHTTP2(true)
	overTLS.SetHTTP2(true)
	for name, c := range map[string]struct {
		base      string
		protocols *http.Protocols
	}{"prior knowledge": {r.base, &clear}, "ALPN": {"https://" + l.Addr().String(), &overTLS}} {
		t.Run(name, func(t *testing.T) {
			tr := &http.Transport{Protocols: c.protocols, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
			defer tr.CloseIdleConnections()
			body, feed := io.Pipe()
			q := r.request("POST", "/api/x", body)
			q.URL.Host, q.URL.Scheme = strings.TrimPrefix(strings.TrimPrefix(c.base, "https://"), "http://"), c.base[:strings.Index(c.base, ":")]
			q.Header.Set("Te", "trailers")
			res, err := tr.RoundTrip(q) // answered before the body is sent: both ways stream
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.ProtoMajor != 2 {
				t.Errorf("spoken: %s", res.Proto)
			}
			for _, word := range []string{"{\"n\":1}\n", "{\"n\":2}\n"} {
				_, _ = io.WriteString(feed, word)
				got := make([]byte, len(word))
				if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != word {
					t.Fatalf("echo %q, %v", got, err)
				}
			}
			feed.Close()
			text(t, res)
			if got := res.Trailer.Get("X-Proto"); got != "HTTP/2.0 trailers" {
				t.Errorf("the upstream heard %q", got)
			}
		})
	}
}

// flushing flushes after each write.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	_ = http.NewResponseController(f.w).Flush()
	return n, err
}
