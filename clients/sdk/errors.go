package sdk

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/daypass-io/daypass/cred"
)

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
}

// pending is the kind that shares its code with another; ErrorInfo tells them apart.
const pending = "pending"

// fromStatus is the one mapper from gRPC's errors to ours.
func fromStatus(op string, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return cred.Errorf(cred.Unavailable, op, "the broker did not answer", "%w", err)
	}
	out := &cred.Error{Kind: kindOf[st.Code()], Op: op, Public: st.Message(), Err: err}
	informed := false
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok {
			continue
		}
		informed = true
		out.Reason, out.Rule, out.Claim = info.GetReason(), info.GetMetadata()["rule"], info.GetMetadata()["claim"]
		if info.GetMetadata()["kind"] == pending {
			out.Kind = cred.Pending
		}
	}
	if !informed && out.Kind == cred.Unavailable {
		// gRPC's own words name addresses and system calls; ours say what it means.
		out.Public = "the broker can't be reached, or did not answer in time"
	}
	return out
}
