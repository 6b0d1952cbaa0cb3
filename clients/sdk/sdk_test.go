package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func wantKind(t *testing.T, err error, kind cred.Kind) *cred.Error {
	t.Helper()
	e, ok := err.(*cred.Error)
	if !ok || e.Kind != kind || e.Public == "" {
		t.Fatalf("got %v, want kind %v", err, kind)
	}
	return e
}

func TestDialRefusesAddresses(t *testing.T) {
	for _, bad := range []string{
		"", "daypass.example.com", "daypass.example.com:8443", "ftp://daypass.example.com", "https://", "https://:8443",
		"https://daypass.example.com/path", "https://u:p@daypass.example.com", "https://daypass.example.com?x=1", "https://daypass.example.com?", "https://daypass.example.com#x",
		"http://daypass.example.com", "http://10.0.0.1:8080", "http://0.0.0.0", "http://localhost.example.com", "http://127.0.0.1.example.com", "http://[2001:db8::1]", "http://2130706433",
	} {
		for name, dial := range map[string]func() error{
			"Dial":      func() error { _, err := sdk.Dial(bad, nil, nil); return err },
			"DialProxy": func() error { _, err := sdk.DialProxy(bad, nil); return err },
		} {
			if e := wantKind(t, dial(), cred.Invalid); strings.Contains(e.Error(), "u:p") {
				t.Errorf("%s(%q) repeats the password", name, bad)
			}
		}
	}
	for _, good := range []string{"https://daypass.example.com", "https://daypass.example.com:8443/", "http://127.0.0.1:1", "http://127.9.9.9", "http://localhost:1", "http://[::1]:1"} {
		c, err := sdk.Dial(good, nil, nil)
		must(t, err)
		must(t, c.Close())
	}
}

func TestExchangeSendsAKeyOfItsOwn(t *testing.T) {
	var keys []string
	f := &fake{exchange: func(ctx context.Context, r *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if !slices.Equal(md["authorization"], []string{"Bearer a token"}) {
			t.Errorf("authorization %q", md["authorization"])
		}
		keys = append(keys, r.GetIdempotencyKey())
		return &pb.ExchangeResponse{Grant: &pb.Grant{Id: "gr_x"}, GrantToken: "t"}, nil
	}}
	c := f.client(t)
	for _, key := range []string{"", "", "mine"} {
		_, err := c.Exchange(t.Context(), cred.Request{Target: "x", IdempotencyKey: key})
		must(t, err)
	}
	if len(keys[0]) < 20 || keys[0] == keys[1] || keys[2] != "mine" {
		t.Errorf("keys %q", keys)
	}
}

func TestATokenThatCannotBeHad(t *testing.T) {
	f := &fake{}
	url := f.serve(t)
	broken := errors.New("no sign-in")
	c, err := sdk.Dial(url, func(context.Context) (cred.Secret, error) { return cred.Secret{}, broken }, nil)
	must(t, err)
	defer c.Close()
	if _, err := c.WhoAmI(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	empty, err := sdk.Dial(url, sdk.StaticToken(cred.Secret{}), nil)
	must(t, err)
	defer empty.Close()
	_, err = empty.Exchange(t.Context(), cred.Request{Target: "x"})
	wantKind(t, err, cred.Unauthenticated)
}

// What the broker did not say itself is told in our words, whatever stands between says.
func TestErrorsThatAreNotTheBrokers(t *testing.T) {
	const alien = "proxy 10.0.0.9 says no"
	foreign := &errdetails.ErrorInfo{Domain: "other.example.com", Reason: "ALIEN", Metadata: map[string]string{"kind": "pending"}}
	var answer error
	f := &fake{exchange: func(context.Context, *pb.ExchangeRequest) (*pb.ExchangeResponse, error) { return nil, answer }}
	c := f.client(t)
	for code, kind := range map[codes.Code]cred.Kind{
		codes.Unavailable: cred.Unavailable, codes.DeadlineExceeded: cred.Unavailable, codes.Canceled: cred.Unavailable, codes.Unimplemented: cred.Unavailable,
		codes.PermissionDenied: cred.Denied, codes.Unauthenticated: cred.Unauthenticated, codes.ResourceExhausted: cred.Exhausted, codes.NotFound: cred.NotFound,
		codes.FailedPrecondition: cred.Expired, codes.Aborted: cred.Conflict, codes.InvalidArgument: cred.Invalid, codes.Internal: cred.Internal, codes.Unknown: cred.Internal, codes.DataLoss: cred.Internal,
	} {
		st, err := status.New(code, alien).WithDetails(foreign)
		must(t, err)
		answer = st.Err()
		_, err = c.Exchange(t.Context(), cred.Request{Target: "x"})
		if e := wantKind(t, err, kind); strings.Contains(e.Public, alien) || e.Reason != "" {
			t.Errorf("%v: %+v", code, e)
		}
	}
	nowhere, err := sdk.Dial("http://127.0.0.1:1", sdk.StaticToken(cred.SecretString("t")), nil)
	must(t, err)
	defer nowhere.Close()
	_, err = nowhere.WhoAmI(t.Context())
	if e := wantKind(t, err, cred.Unavailable); strings.Contains(e.Public, "127.0.0.1") {
		t.Errorf("says %q", e.Public)
	}
}

func TestContextsThatEnd(t *testing.T) {
	f := &fake{exchange: func(ctx context.Context, _ *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	c := f.client(t)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Exchange(short, cred.Request{Target: "x"})
	if wantKind(t, err, cred.Unavailable); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Exchange(over, cred.Request{Target: "x"})
	if wantKind(t, err, cred.Unavailable); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func goodAnswer() *pb.RedeemResponse {
	return &pb.RedeemResponse{
		Credential: &pb.Credential{Type: "bearer", Fields: map[string]string{"token": "x"}, LeaseId: "le_x", ExpireTime: timestamppb.New(time.Unix(100, 0))},
		Grant:      &pb.Grant{Id: "gr_x", ExpireTime: timestamppb.Now(), Holder: &pb.Principal{Subject: "s"}},
		Target:     &pb.ProxyTarget{Name: "api", Upstream: "https://api.example.com", InjectKind: "header", InjectName: "X", InjectPrefix: "p", InjectField: "f", AllowPrivate: true, MaskDetectors: []string{"pii"}},
	}
}

func TestRedeem(t *testing.T) {
	answer := goodAnswer()
	c := (&fake{redeem: func() *pb.RedeemResponse { return answer }}).proxy(t)
	got, err := c.Redeem(t.Context(), cred.SecretString("t"))
	must(t, err)
	want := cred.HTTPTarget{Upstream: "https://api.example.com", AllowPrivate: true, Inject: cred.Injection{Kind: "header", Name: "X", Prefix: "p", Field: "f"}}
	if *got.Target.HTTP != want || got.Target.Name != "api" || !slices.Equal(got.Target.Mask.Detectors, []string{"pii"}) || got.Lease != "le_x" ||
		got.Credential.Fields["token"].RevealString() != "x" || !got.Credential.NotAfter.Equal(time.Unix(100, 0)) {
		t.Errorf("%+v", got)
	}
	answer.Target.Upstream = ""
	if got, err = c.Redeem(t.Context(), cred.SecretString("t")); err != nil || got.Target.HTTP != nil {
		t.Errorf("a target without an upstream: %+v, %v", got.Target.HTTP, err)
	}
}

// What this version does not know, at any depth, might be a restriction.
func TestRedeemRefusesWhatItDoesNotKnow(t *testing.T) {
	field := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1)
	unknown := func(m proto.Message) { m.ProtoReflect().SetUnknown(field) }
	answer := goodAnswer()
	c := (&fake{redeem: func() *pb.RedeemResponse { return answer }}).proxy(t)
	for name, change := range map[string]func(*pb.RedeemResponse){
		"answer":          func(r *pb.RedeemResponse) { unknown(r) },
		"target":          func(r *pb.RedeemResponse) { unknown(r.Target) },
		"credential":      func(r *pb.RedeemResponse) { unknown(r.Credential) },
		"grant":           func(r *pb.RedeemResponse) { unknown(r.Grant) },
		"holder":          func(r *pb.RedeemResponse) { unknown(r.Grant.Holder) },
		"inject kind":     func(r *pb.RedeemResponse) { r.Target.InjectKind = "cookie" },
		"credential type": func(r *pb.RedeemResponse) { r.Credential.Type = "kerberos" },
	} {
		answer = goodAnswer()
		change(answer)
		_, err := c.Redeem(t.Context(), cred.SecretString("t"))
		if e := wantKind(t, err, cred.Denied); e.Reason != "UNKNOWN_RESTRICTION" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*pb.RedeemResponse){
		"credential": func(r *pb.RedeemResponse) { r.Credential = nil },
		"grant":      func(r *pb.RedeemResponse) { r.Grant = nil },
		"target":     func(r *pb.RedeemResponse) { r.Target = nil },
		"end":        func(r *pb.RedeemResponse) { r.Grant.ExpireTime = nil },
	} {
		answer = goodAnswer()
		change(answer)
		_, err := c.Redeem(t.Context(), cred.SecretString("t"))
		if e := wantKind(t, err, cred.Unavailable); e.Reason != "ANSWER_INCOMPLETE" {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestWatchRevocations(t *testing.T) {
	odd := &pb.WatchRevocationsResponse{GrantId: "odd"}
	odd.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1))
	script := []*pb.WatchRevocationsResponse{
		{GrantId: "past", ExpireTime: timestamppb.New(time.Unix(7, 0))}, {}, {Current: true}, {GrantId: "live"}, {}, odd,
	}
	f := &fake{watch: func(s grpc.ServerStreamingServer[pb.WatchRevocationsResponse]) error {
		for _, m := range script {
			if err := s.Send(m); err != nil {
				return err
			}
		}
		return nil
	}}
	var told []string
	watch := func() error {
		told = nil
		return f.proxy(t).WatchRevocations(t.Context(), func(id cred.GrantID, until time.Time) {
			told = append(told, fmt.Sprint(id, " ", until.IsZero()))
		}, func() { told = append(told, "current") })
	}
	err := watch()
	if e := wantKind(t, err, cred.Denied); e.Reason != "UNKNOWN_RESTRICTION" {
		t.Error(err)
	}
	if want := []string{"past false", "current", "live true", "current", "current"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	script = script[:1] // it ends before it was ever current
	if err = watch(); !slices.Equal(told, []string{"past false"}) {
		t.Errorf("told %q", told)
	}
	wantKind(t, err, cred.Unavailable)
}

func TestExportThatIsNotWhole(t *testing.T) {
	entry := &pb.ExportResponse{Part: &pb.ExportResponse_Entry{Entry: &pb.ExportedEntry{Seq: 1}}}
	end := &pb.ExportResponse{Part: &pb.ExportResponse_Checkpoint{Checkpoint: &pb.Checkpoint{Note: "n"}}}
	type play struct { // what one stream brings
		messages []*pb.ExportResponse
		last     error
	}
	plays := make(chan play, 1)
	f := &fake{export: func(s grpc.ServerStreamingServer[pb.ExportResponse]) error {
		p := <-plays
		for _, m := range p.messages {
			if err := s.Send(m); err != nil {
				return err
			}
		}
		return p.last
	}}
	c := f.client(t)
	n := 0
	export := func(broken error, messages ...*pb.ExportResponse) (*pb.Checkpoint, error) {
		plays <- play{messages, broken}
		n = 0
		return c.Export(t.Context(), &pb.ExportRequest{}, func(*pb.ExportedEntry) error { n++; return nil })
	}
	cp, err := export(nil, entry, entry, end)
	if err != nil || cp.GetNote() != "n" || n != 2 {
		t.Errorf("a whole one: %v, %v, %d entries", cp, err, n)
	}
	for name, messages := range map[string][]*pb.ExportResponse{
		"nothing": {}, "no checkpoint": {entry}, "an entry after it": {end, entry}, "two": {end, end}, "an unknown part": {{}, end},
	} {
		_, err := export(nil, messages...)
		if e := wantKind(t, err, cred.Unavailable); e.Reason != "EXPORT_INCOMPLETE" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = export(status.Error(codes.Unavailable, "x"), entry, end)
	wantKind(t, err, cred.Unavailable)
	mine := errors.New("disk full")
	plays <- play{messages: []*pb.ExportResponse{entry, entry, end}}
	if _, err := c.Export(t.Context(), &pb.ExportRequest{}, func(*pb.ExportedEntry) error { return mine }); err != mine {
		t.Errorf("an error of the callback: %v", err)
	}
}
