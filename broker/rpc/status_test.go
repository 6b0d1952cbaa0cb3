package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/cred"
)

const inner = "10.0.0.7:5432 says no"

func kinds() []cred.Kind {
	var all []cred.Kind
	for k := cred.Internal; k <= cred.Unavailable; k++ {
		all = append(all, k)
	}
	return all
}

func TestTablesKnowEveryKind(t *testing.T) {
	for name, knows := range rpc.KindTables() {
		for _, k := range append(kinds(), cred.Unavailable) {
			if !knows(k) {
				t.Errorf("%s does not know %v", name, k)
			}
		}
		if knows(cred.Unavailable + 1) {
			t.Errorf("%s knows a kind that this test does not", name)
		}
	}
}

// An error of the broker comes out of the sdk as it went in, but for its cause.
func TestErrorsSurviveTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	ann := w.member()
	for _, k := range kinds() {
		w.mint.failWith(func(context.Context) error {
			return fmt.Errorf("wrapped: %w", &cred.Error{
				Kind: k, Op: "mint", Public: "the mint says " + k.String(), Reason: "A_REASON", Rule: "a-rule \xff", Claim: "ref", Err: errors.New(inner),
			})
		})
		_, err := ann.Exchange(t.Context(), cred.Request{Target: "orders"})
		e, ok := err.(*cred.Error)
		if !ok || e.Kind != k {
			t.Errorf("%v came out as %v", k, err)
			continue
		}
		want := cred.Error{Public: "the mint says " + k.String(), Reason: "A_REASON", Rule: "a-rule \uFFFD", Claim: "ref"}
		if k == cred.Internal {
			want = cred.Error{Public: cred.PublicText(nil), Reason: "INTERNAL"}
		}
		if e.Public != want.Public || e.Reason != want.Reason || e.Rule != want.Rule || e.Claim != want.Claim {
			t.Errorf("%v: got %+v, want %+v", k, e, want)
		}
		if strings.Contains(err.Error(), inner) {
			t.Errorf("%v: the cause came out: %v", k, err)
		}
	}
}

func TestForeignErrorsBecomeTheFixedSentence(t *testing.T) {
	for name, err := range map[string]error{
		"plain":         errors.New(inner),
		"a gRPC status": status.Error(codes.NotFound, inner),
		"internal":      cred.Errorf(cred.Internal, "op", "public text of an internal error", "%s", inner),
	} {
		st := status.Convert(rpc.ToStatus(err))
		info, ok := st.Details()[0].(*errdetails.ErrorInfo)
		if st.Code() != codes.Internal || st.Message() != cred.PublicText(nil) || !ok || info.GetReason() != "INTERNAL" || info.GetDomain() != "daypass.io" {
			t.Errorf("%s: %v", name, st.Proto())
		}
		if all := st.Proto().String(); strings.Contains(all, inner) || strings.Contains(all, "public text") {
			t.Errorf("%s: %s", name, all)
		}
	}
}

func TestEndedContextsHaveTheirCodes(t *testing.T) {
	lost := &cred.Error{Kind: cred.Unavailable, Op: "x", Public: "the source is away", Err: context.Canceled}
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{fmt.Errorf("x: %w", context.Canceled), codes.Canceled},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{lost, codes.Unavailable}, // what we know better stays
		{nil, codes.OK},
	} {
		if got := status.Code(rpc.ToStatus(c.err)); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
