package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// metrics counts calls by method and code. It names no principal and no target, so /metrics tells
// how the broker fares and not who uses it.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	web     *prometheus.CounterVec
}

func newMetrics(r *prometheus.Registry) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_grpc_calls_total", Help: "Calls answered, by method and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daypass_grpc_call_seconds", Help: "How long calls took, in seconds, by method.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"method"}),
		web: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_http_requests_total", Help: "HTTP requests answered, by endpoint and status.",
		}, []string{"endpoint", "status"}),
	}
	return m, errors.Join(r.Register(m.calls), r.Register(m.seconds), r.Register(m.web))
}

func (m *metrics) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start := time.Now()
	out, err := next(ctx, req)
	m.observe(info.FullMethod, start, err)
	return out, err
}

func (m *metrics) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	start := time.Now()
	err := next(srv, ss)
	m.observe(info.FullMethod, start, err)
	return err
}

func (m *metrics) observe(method string, start time.Time, err error) {
	m.calls.WithLabelValues(method, status.Code(err).String()).Inc()
	m.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
}
