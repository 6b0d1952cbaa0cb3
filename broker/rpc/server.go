package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/daypass-io/daypass/broker"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Limits of one server.
const (
	maxCallerBytes = 256 << 10 // a message; the largest that validation lets through is an ExchangeRequest
	maxProxyBytes  = 8 << 20   // a message of who showed a certificate: a full ShipUses is the largest
	maxHeaderBytes = 64 << 10  // the largest token takes 16 KiB

	defaultInFlight = 2048 // calls that run at once; more are told to come back
	maxWaiting      = 1024 // streams of callers that wait for others, which last: they never crowd out calls
	maxOpenCalls    = 128  // the same for calls that need no identity, so that they never crowd out the others

	headerTimeout    = 10 * time.Second
	idleTimeout      = 5 * time.Minute
	silenceTimeout   = 30 * time.Second // after it the peer must answer a ping, or take what is written
	defaultHeartbeat = 2 * time.Second
)

// Options are what a Server needs besides the broker. Logger and Metrics are required.
type Options struct {
	TLS *tls.Config // at least TLS 1.3 is spoken; nil: plain text, which the caller allows on loopback alone
	// ClientCAs returns who issues the certificates of companion proxies; nil, and nil returned: there are
	// none. TLS must ask for certificates and verify none (tls.RequestClientCert): callers may bind grants
	// to their own.
	ClientCAs func() *x509.CertPool
	// SawProxy, unless it is nil, is called with the name and the certificate of a proxy at each call.
	SawProxy   func(name string, leaf *x509.Certificate)
	Reflection bool
	// Handlers answer requests at further paths, which are no part of the API.
	Handlers map[string]http.Handler
	// Login is what people need to sign in, for clients that ask; see Login.
	Login   []Login
	Logger  *slog.Logger
	Metrics *prometheus.Registry

	// Heartbeat is how often a watcher of revocations hears from us at the least, so that it can tell
	// silence from a lost connection. Zero means 2 s.
	Heartbeat time.Duration
	// MaxInFlight is how many calls may run at once. Zero means 2048.
	MaxInFlight int
}

// Server serves gRPC and HTTP on one port.
type Server struct {
	broker    *broker.Broker
	log       *slog.Logger
	metrics   *metrics
	validate  protovalidate.Validator
	heartbeat time.Duration
	clientCAs func() *x509.CertPool
	sawProxy  func(name string, leaf *x509.Certificate)
	login     []Login
	binder    *binder
	inFlight  places // of those who showed who they are
	waiting   places // of those who wait for others
	openCalls places // of everybody
	callers   *grpc.Server
	proxies   *grpc.Server // the same services, for messages as large as proxies send
	health    *health.Server
	http      *http.Server
	running   context.Context // ends when Shutdown or Close begins
	end       context.CancelFunc
}

// New wires a broker to the wire.
func New(b *broker.Broker, o Options) (*Server, error) {
	if o.Logger == nil || o.Metrics == nil {
		return nil, errors.New("rpc: the options lack a logger or a metrics registry")
	}
	validate, err := protovalidate.New(protovalidate.WithMessages(
		&pb.ExchangeRequest{}, &pb.RevokeRequest{}, &pb.RedeemRequest{}, &pb.ShipUsesRequest{},
		&pb.ListGrantsRequest{}, &pb.GetGrantRequest{}, &pb.ExportRequest{}, &pb.WaitRequest{}, &pb.RenewRequest{},
		&pb.GetRequestRequest{}, &pb.ReviewRequest{}, &pb.ProposeStandingRequest{}, &pb.ReviewStandingRequest{}, &pb.RevokeStandingRequest{},
		&pb.LockRequest{}, &pb.UnlockRequest{}, &pb.ExplainRequest{}, &pb.GetPolicyRequest{},
		&pb.RotateRequest{}, &pb.CheckRotationRequest{}, &pb.GetRotationRequest{}, &pb.WatchRotationRequest{}, &pb.ListRotationsRequest{}))
	if err != nil {
		return nil, err
	}
	counters, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	s := &Server{
		broker: b, log: o.Logger, metrics: counters, validate: validate, health: health.NewServer(),
		clientCAs: o.ClientCAs, sawProxy: o.SawProxy, login: o.Login, binder: newBinder(b.URL()),
		heartbeat: orDefault(o.Heartbeat, defaultHeartbeat),
		inFlight:  make(places, orDefault(o.MaxInFlight, defaultInFlight)), waiting: make(places, maxWaiting), openCalls: make(places, maxOpenCalls),
	}
	s.running, s.end = context.WithCancel(context.Background())
	s.callers = s.newGRPC(maxCallerBytes, o.Reflection)
	s.proxies = s.newGRPC(maxProxyBytes, o.Reflection)
	s.http = s.newHTTP(o)
	return s, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// newGRPC makes a gRPC server of all services. The order of the interceptors is fixed: count, catch
// panics, record and map errors, authenticate, limit, validate.
func (s *Server) newGRPC(maxBytes int, reflect bool) *grpc.Server {
	g := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxBytes),
		grpc.ChainUnaryInterceptor(s.metrics.unary, s.recoverUnary(), s.recordUnary, s.authUnary, s.limitUnary, s.validateUnary),
		grpc.ChainStreamInterceptor(s.metrics.stream, s.recoverStream(), s.recordStream, s.authStream, s.limitStream, s.validateStream),
	)
	pb.RegisterExchangeServiceServer(g, &exchangeService{broker: s.broker, binder: s.binder})
	pb.RegisterApprovalServiceServer(g, &approvalService{broker: s.broker})
	pb.RegisterLockServiceServer(g, &lockService{broker: s.broker})
	pb.RegisterPolicyServiceServer(g, &policyService{broker: s.broker})
	pb.RegisterRotationServiceServer(g, &rotationService{broker: s.broker})
	pb.RegisterProxyServiceServer(g, &proxyService{broker: s.broker, heartbeat: s.heartbeat})
	pb.RegisterAuditServiceServer(g, &auditService{broker: s.broker})
	healthpb.RegisterHealthServer(g, s.health)
	if reflect {
		reflection.Register(g)
	}
	return g
}

func (s *Server) newHTTP(o Options) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(o.TLS == nil)
	web := s.endpoints(o.Metrics, o.Handlers)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				s.grpcFor(r).ServeHTTP(w, r)
				return
			}
			web.ServeHTTP(w, r)
		}),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: silenceTimeout, WriteByteTimeout: silenceTimeout},
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		TLSConfig:         atLeastTLS13(o.TLS),
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
}

func atLeastTLS13(c *tls.Config) *tls.Config {
	c = c.Clone()
	if c != nil {
		c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	}
	return c
}

// grpcFor chooses by the connection: gRPC reads a message before any interceptor can ask who sends
// it, so large ones are taken only from who has shown a certificate.
func (s *Server) grpcFor(r *http.Request) *grpc.Server {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && s.fromOurCA(r.TLS) {
		return s.proxies
	}
	return s.callers
}

// Serve answers on a listener until Shutdown or Close; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	var err error
	if s.http.TLSConfig != nil {
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
