package sdk

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/daypass-io/daypass/cred"
)

// errorDomain is the domain of google.rpc.ErrorInfo in the broker's answers.
const errorDomain = "daypass.io"

// A code that is not listed is Internal.
var kindOf = map[codes.Code]cred.Kind{
	codes.InvalidArgument:    cred.Invalid,
	codes.Unauthenticated:    cred.Unauthenticated,
	codes.PermissionDenied:   cred.Denied,
	codes.NotFound:           cred.NotFound,
	codes.FailedPrecondition: cred.Expired,
	codes.Aborted:            cred.Conflict,
	codes.ResourceExhausted:  cred.Exhausted,
	codes.Unavailable:        cred.Unavailable,
	codes.DeadlineExceeded:   cred.Unavailable,
	codes.Canceled:           cred.Unavailable,
	codes.Unimplemented:      cred.Unavailable,
}

// ourWords are for what the broker itself did not say: gRPC's own words name addresses and system
// calls, and what stands between us and the broker may say anything.
var ourWords = map[codes.Code]string{
	codes.Unavailable:       "the broker can't be reached",
	codes.DeadlineExceeded:  "the broker did not answer in time; try again",
	codes.Canceled:          "the call was given up before the broker answered, or the broker is stopping",
	codes.Unimplemented:     "the broker does not know this call; it may be older than this client",
	codes.ResourceExhausted: "the message is larger than the broker or this client takes",
}

// pending is the kind that shares its code with another; ErrorInfo tells them apart.
const pending = "pending"

// fromStatus is the one mapper from gRPC's errors to ours. A call that ended because its context did
// satisfies errors.Is with the context's error.
func fromStatus(op string, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return cred.Errorf(cred.Unavailable, op, "the broker ended the answer before it was complete", "%w", err)
	}
	out := &cred.Error{Kind: kindOf[st.Code()], Op: op, Err: err}
	info := errorInfo(st)
	if info == nil {
		if out.Public = ourWords[st.Code()]; out.Public == "" {
			out.Public = "the broker, or what stands before it, gave an answer that is not daypass's: " + st.Code().String()
		}
		out.Err = withContext(st.Code(), err)
		return out
	}
	out.Public, out.Reason = st.Message(), info.GetReason()
	out.Rule, out.Claim = info.GetMetadata()["rule"], info.GetMetadata()["claim"]
	for _, d := range st.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			out.RetryAfter = retry.GetRetryDelay().AsDuration()
		}
	}
	if out.Kind == cred.Expired && info.GetMetadata()["kind"] == pending {
		out.Kind = cred.Pending
	}
	return out
}

func errorInfo(st *status.Status) *errdetails.ErrorInfo {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info
		}
	}
	return nil
}

func withContext(code codes.Code, err error) error {
	switch code {
	case codes.Canceled:
		return errors.Join(err, context.Canceled)
	case codes.DeadlineExceeded:
		return errors.Join(err, context.DeadlineExceeded)
	}
	return err
}
