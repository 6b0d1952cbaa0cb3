package rpc

import (
	"context"
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/daypass-io/daypass/cred"
)

func (s *Server) validateUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s *Server) validateStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return next(srv, &validated{ss, s})
}

// validated checks each message that a stream receives.
type validated struct {
	grpc.ServerStream
	server *Server
}

func (v *validated) RecvMsg(m any) error {
	if err := v.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return v.server.check(m)
}

// check holds a message against the rules in its .proto file.
func (s *Server) check(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	err := s.validate.Validate(m)
	if err == nil {
		return nil
	}
	public := "the request breaks the rules of its message"
	if v, ok := errors.AsType[*protovalidate.ValidationError](err); ok && len(v.Violations) > 0 {
		first := v.Violations[0].Proto
		public = fmt.Sprintf("the field %.128s is not acceptable: %s", protovalidate.FieldPathString(first.GetField()), first.GetMessage())
	}
	return &cred.Error{Kind: cred.Invalid, Op: "validate", Reason: "FIELD_INVALID", Public: public, Err: err}
}
