package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/daypass-io/daypass/cred"
)

// recordUnary writes one line for each call and turns its error into a status.
func (s *Server) recordUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start := time.Now()
	out, err := next(ctx, req)
	return out, s.finish(ctx, info.FullMethod, start, err)
}

func (s *Server) recordStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	start := time.Now()
	err := next(srv, ss)
	return s.finish(ss.Context(), info.FullMethod, start, err)
}

func (s *Server) finish(ctx context.Context, method string, start time.Time, err error) error {
	answer := toStatus(err)
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok && allowList[method] == open {
		answer = err // health and reflection are gRPC's own, and so is what they answer
	}
	s.logCall(ctx, "method", method, peerAddr(ctx), start, status.Code(answer), err)
	return answer
}

// logCall writes one line for a call through either door. It never holds a message.
func (s *Server) logCall(ctx context.Context, door, name, peer string, start time.Time, code codes.Code, err error) {
	level := slog.LevelInfo
	switch code {
	case codes.OK:
		level = slog.LevelDebug
	case codes.Internal, codes.Unknown, codes.Unavailable:
		level = slog.LevelError
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := []any{door, name, "peer", peer, "ms", time.Since(start).Milliseconds(), "code", code.String()}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	s.log.Log(ctx, level, "call", attrs...)
}

func (s *Server) recoverUnary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		caught := recovery.WithRecoveryHandlerContext(s.catcher(info.FullMethod))
		return recovery.UnaryServerInterceptor(caught)(ctx, req, info, next)
	}
}

func (s *Server) recoverStream() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		caught := recovery.WithRecoveryHandlerContext(s.catcher(info.FullMethod))
		return recovery.StreamServerInterceptor(caught)(srv, ss, info, next)
	}
}

func (s *Server) catcher(method string) recovery.RecoveryHandlerFuncContext {
	return func(ctx context.Context, p any) error { return toStatus(s.panicked(ctx, method, p)) }
}

// panicked logs where it happened. The value itself may hold anything, so only its type is told.
func (s *Server) panicked(ctx context.Context, call string, p any) error {
	kind := fmt.Sprintf("%T", p)
	s.log.ErrorContext(ctx, "a call panicked", "call", call, "type", kind, "stack", string(debug.Stack()))
	return cred.Errorf(cred.Internal, "call", "", "panic of type %s", kind)
}

func (s *Server) limitUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	leave, err := s.placesFor(info.FullMethod).enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return next(ctx, req)
}

func (s *Server) limitStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	leave, err := s.placesFor(info.FullMethod).enter()
	if err != nil {
		return err
	}
	defer leave()
	return next(srv, ss)
}

func (s *Server) placesFor(method string) places {
	switch {
	case allowList[method] == open:
		return s.openCalls
	case endless(method) && allowList[method] == bearers:
		return s.waiting
	}
	return s.inFlight
}

// places are the calls that may run at once.
type places chan struct{}

// enter takes a place, or says that none is free.
func (p places) enter() (leave func(), err error) {
	select {
	case p <- struct{}{}:
		return func() { <-p }, nil
	default:
		return nil, &cred.Error{Kind: cred.Exhausted, Op: "call", Reason: "TOO_MANY_CALLS", Public: "the broker is serving as many calls as it can; try again in a second"}
	}
}
