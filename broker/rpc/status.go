package rpc

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/daypass-io/daypass/cred"
)

// errorDomain is the domain of google.rpc.ErrorInfo in our answers.
const errorDomain = "daypass.io"

var codeOf = map[cred.Kind]codes.Code{
	cred.Internal:        codes.Internal,
	cred.Invalid:         codes.InvalidArgument,
	cred.Unauthenticated: codes.Unauthenticated,
	cred.Denied:          codes.PermissionDenied,
	cred.NotFound:        codes.NotFound,
	cred.Pending:         codes.FailedPrecondition,
	cred.Expired:         codes.FailedPrecondition,
	cred.Conflict:        codes.Aborted,
	cred.Exhausted:       codes.ResourceExhausted,
	cred.Unavailable:     codes.Unavailable,
}

// toStatus is the one mapper from our errors to gRPC's: the public text, never the cause, and an
// ErrorInfo with reason, kind, rule and claim.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	kind := cred.KindOf(err)
	switch {
	case kind != cred.Internal:
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the caller went away, or the broker is stopping")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the deadline passed before this was done")
	}
	info := &errdetails.ErrorInfo{
		Domain: errorDomain, Reason: strings.ToUpper(kind.String()), Metadata: map[string]string{"kind": kind.String()},
	}
	if e, ok := errors.AsType[*cred.Error](err); ok && kind != cred.Internal {
		if e.Reason != "" {
			info.Reason = e.Reason
		}
		if e.Rule != "" {
			info.Metadata["rule"] = strings.ToValidUTF8(e.Rule, "\uFFFD")
		}
		if e.Claim != "" {
			info.Metadata["claim"] = strings.ToValidUTF8(e.Claim, "\uFFFD")
		}
	}
	details := []protoadapt.MessageV1{info}
	if e, ok := errors.AsType[*cred.Error](err); ok && e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	st := status.New(codeOf[kind], cred.PublicText(err))
	if detailed, err := st.WithDetails(details...); err == nil {
		st = detailed
	}
	return st.Err()
}

// sent says what it means that a message could not be sent: nobody is there to take it any more.
func sent(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(context.Canceled, err)
}
