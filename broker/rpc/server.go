package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Limits of one server.
const (
	maxRequestBytes = 8 << 20 // a full ShipUses is the largest
	maxInFlight     = 2048    // calls that run at once; more are told to come back
	headerTimeout   = 10 * time.Second
	idleTimeout     = 5 * time.Minute
)

// Options are what a Server needs besides the broker.
type Options struct {
	TLS        *tls.Config // nil: plain text, which the caller allows on loopback alone
	Reflection bool
	Logger     *slog.Logger
	Metrics    *prometheus.Registry
}

// Server serves gRPC and HTTP on one port.
type Server struct {
	broker   *broker.Broker
	log      *slog.Logger
	metrics  *metrics
	validate protovalidate.Validator
	inFlight chan struct{} // a place for each call that runs
	grpc     *grpc.Server
	health   *health.Server
	http     *http.Server
	tls      *tls.Config
	ending   chan struct{} // closed once by end
	end      func()
}

// New wires a broker to the wire.
func New(b *broker.Broker, o Options) (*Server, error) {
	validate, err := protovalidate.New(protovalidate.WithMessages(
		&pb.ExchangeRequest{}, &pb.RevokeRequest{}, &pb.RedeemRequest{}, &pb.ShipUsesRequest{},
		&pb.ListGrantsRequest{}, &pb.GetGrantRequest{}, &pb.ExportRequest{}))
	if err != nil {
		return nil, err
	}
	s := &Server{
		broker: b, log: o.Logger, metrics: newMetrics(o.Metrics), validate: validate,
		inFlight: make(chan struct{}, maxInFlight), health: health.NewServer(), tls: o.TLS, ending: make(chan struct{}),
	}
	s.end = sync.OnceFunc(func() { close(s.ending) })
	// The order is fixed: count, catch panics, record and map errors, authenticate, limit, validate.
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.ChainUnaryInterceptor(s.metrics.unary, s.recordUnary, s.recoverUnary(), s.authUnary, s.limitUnary, s.validateUnary),
		grpc.ChainStreamInterceptor(s.metrics.stream, s.recordStream, s.recoverStream(), s.authStream, s.limitStream, s.validateStream),
	)
	pb.RegisterExchangeServiceServer(s.grpc, &exchangeService{broker: b})
	pb.RegisterProxyServiceServer(s.grpc, &proxyService{broker: b, ending: s.ending})
	pb.RegisterAuditServiceServer(s.grpc, &auditService{broker: b})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	if o.Reflection {
		reflection.Register(s.grpc)
	}
	s.http = s.newHTTP(o)
	return s, nil
}

func (s *Server) newHTTP(o Options) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(o.TLS == nil)
	web := s.endpoints(o.Metrics)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				s.grpc.ServeHTTP(w, r)
				return
			}
			web.ServeHTTP(w, r)
		}),
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		TLSConfig:         o.TLS,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
}

// Serve answers on a listener until Shutdown or Close; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	var err error
	if s.tls != nil {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting, ends the streams that have no end of their own, and waits for the calls
// that run, until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.health.Shutdown()
	s.end()
	return s.http.Shutdown(ctx)
}

// Close stops at once.
func (s *Server) Close() error {
	s.end()
	return s.http.Close()
}

// recordUnary writes one line for each call and turns its error into a status.
func (s *Server) recordUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start := time.Now()
	out, err := next(ctx, req)
	s.logCall(ctx, info.FullMethod, start, err)
	return out, toStatus(err)
}

func (s *Server) recordStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	start := time.Now()
	err := next(srv, ss)
	s.logCall(ss.Context(), info.FullMethod, start, err)
	return toStatus(err)
}

func (s *Server) logCall(ctx context.Context, method string, start time.Time, err error) {
	level := slog.LevelDebug
	if err != nil {
		level = slog.LevelInfo
		if k := cred.KindOf(err); k == cred.Internal || k == cred.Unavailable {
			level = slog.LevelError
		}
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := []any{"method", method, "peer", peerAddr(ctx), "ms", time.Since(start).Milliseconds()}
	if err != nil {
		attrs = append(attrs, "kind", cred.KindOf(err).String(), "error", err)
	}
	s.log.Log(ctx, level, "call", attrs...)
}

func (s *Server) recoverUnary() grpc.UnaryServerInterceptor {
	return recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(s.panicked))
}

func (s *Server) recoverStream() grpc.StreamServerInterceptor {
	return recovery.StreamServerInterceptor(recovery.WithRecoveryHandlerContext(s.panicked))
}

// panicked logs where it happened. The value itself may hold anything, so only its type is told.
func (s *Server) panicked(ctx context.Context, p any) error {
	s.log.ErrorContext(ctx, "a call panicked", "type", typeName(p), "stack", string(debug.Stack()))
	return cred.Errorf(cred.Internal, "call", "", "panic of type %s", typeName(p))
}

func (s *Server) limitUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return next(ctx, req)
}

func (s *Server) limitStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	return next(srv, ss)
}

// enter takes a place among the calls that run.
func (s *Server) enter() (leave func(), err error) {
	select {
	case s.inFlight <- struct{}{}:
		return func() { <-s.inFlight }, nil
	default:
		return nil, &cred.Error{Kind: cred.Exhausted, Op: "call", Reason: "TOO_MANY_CALLS", Public: "the broker is serving as many calls as it can; try again in a second"}
	}
}
