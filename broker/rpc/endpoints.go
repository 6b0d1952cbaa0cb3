package rpc

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
)

// Deadlines of one HTTP request, from when its header was read. gRPC's calls have their own.
const (
	bodyTimeout   = 10 * time.Second
	answerTimeout = 60 * time.Second // an issuer may take a while
)

// endpoint answers a request, or returns why not.
type endpoint func(http.ResponseWriter, *http.Request) error

// endpoints are the HTTP door: the same broker calls as the gRPC one, in OAuth's words.
func (s *Server) endpoints(registry *prometheus.Registry, more map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	handle := func(method, path string, fail func(http.ResponseWriter, error), serve endpoint) {
		mux.Handle(method+" "+path, s.edge(path, fail, serve))
		mux.Handle(path, s.edge(path, writeProblem, onlyMethod(method)))
	}
	handle(http.MethodPost, "/oauth/token", writeOAuthError, s.token)
	handle(http.MethodPost, "/oauth/revoke", writeOAuthError, s.revoke)
	handle(http.MethodGet, "/.well-known/openid-configuration", writeProblem, s.discovery)
	handle(http.MethodGet, "/.well-known/oauth-authorization-server", writeProblem, s.discovery)
	handle(http.MethodGet, "/.well-known/daypass-configuration", writeProblem, s.daypassConfiguration)
	handle(http.MethodGet, "/jwks.json", writeProblem, s.jwks)
	handle(http.MethodGet, "/healthz", writeProblem, alive)
	handle(http.MethodGet, "/readyz", writeProblem, s.ready)
	exposition := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	handle(http.MethodGet, "/metrics", writeProblem, func(w http.ResponseWriter, r *http.Request) error {
		exposition.ServeHTTP(w, r)
		return nil
	})
	for path, handler := range more {
		mux.Handle(path, s.edge(path, writeProblem, func(w http.ResponseWriter, r *http.Request) error {
			handler.ServeHTTP(w, r)
			return nil
		}))
	}
	mux.Handle("/", s.edge("none", writeProblem, nothingHere))
	return mux
}

// edge is what every request passes through, as every call does through the interceptors: deadlines,
// a way for panics to end, one mapper of errors, and a line in the log and the metrics.
func (s *Server) edge(name string, fail func(http.ResponseWriter, error), serve endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		deadlines := http.NewResponseController(w)
		_ = deadlines.SetReadDeadline(start.Add(bodyTimeout)) // every connection of ours supports them
		_ = deadlines.SetWriteDeadline(start.Add(answerTimeout))
		ctx := broker.WithPeer(r.Context(), hostOf(r.RemoteAddr))
		answer := &statusWriter{ResponseWriter: w}
		err := s.guard(ctx, name, func() error { return serve(answer, r.WithContext(ctx)) })
		if err != nil && answer.status == 0 {
			fail(answer, err)
		}
		s.metrics.web.WithLabelValues(name, strconv.Itoa(answer.status)).Inc()
		s.logCall(ctx, "endpoint", name, hostOf(r.RemoteAddr), start, codeOfAnswer(err), err)
	})
}

// guard turns a panic into an error.
func (s *Server) guard(ctx context.Context, name string, serve func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(ctx, name, p)
		}
	}()
	return serve()
}

func codeOfAnswer(err error) codes.Code { return status.Code(toStatus(err)) }

// statusWriter remembers the status that was sent; zero: none yet.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap serves http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// onlyMethod refuses every other method (RFC 9110, section 15.5.6).
func onlyMethod(method string) endpoint {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Allow", method)
		writeProblemStatus(w, http.StatusMethodNotAllowed, "this path answers "+method+" alone")
		return nil
	}
}

func nothingHere(http.ResponseWriter, *http.Request) error {
	return &cred.Error{Kind: cred.NotFound, Op: "http", Public: "there is nothing at this path; gRPC is served over HTTP/2 on this port"}
}
