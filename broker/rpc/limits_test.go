package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// A panic ends its call alone, through either door, and its value is told to nobody.
func TestPanics(t *testing.T) {
	w := newWorld(t, settings{})
	secret := "panic-" + strings.Repeat("value", 3)
	w.mint.failWith(func(context.Context) error { panic(secret) })
	_, err := w.member().Exchange(t.Context(), cred.Request{Target: "orders"})
	if e := wantError(t, err, cred.Internal, "INTERNAL"); e.Public != cred.PublicText(nil) {
		t.Errorf("says %q", e.Public)
	}
	r := postForm(t, w, w.web(false), "/oauth/token", tokenForm(w.token("ann", "team"), "orders"))
	if r.status != http.StatusInternalServerError || !strings.Contains(r.body, `"server_error"`) {
		t.Errorf("HTTP: %d %s", r.status, r.body)
	}
	logs := w.logs.String()
	if strings.Contains(logs+r.body, secret) {
		t.Error("the panic's value is told")
	}
	if strings.Count(logs, "a call panicked") != 2 || !strings.Contains(logs, "type=string") || !strings.Contains(logs, "mint_test.go") {
		t.Errorf("the log does not tell of two panics and where: %s", logs)
	}
	w.mint.failWith(nil)
	if _, err := w.member().Exchange(t.Context(), cred.Request{Target: "orders"}); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}

func TestValidationNamesTheField(t *testing.T) {
	w := newWorld(t, settings{})
	conn, edge := w.conn(), w.conn(w.ca.client("daypass://proxy/edge"))
	x, a, p := pb.NewExchangeServiceClient(conn), pb.NewAuditServiceClient(conn), pb.NewProxyServiceClient(edge)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+w.token("ann", "audit"))
	exchange := func(r *pb.ExchangeRequest) error { _, err := x.Exchange(ctx, r); return err }
	long := func(n int) string { return strings.Repeat("x", n) }
	for field, err := range map[string]error{
		"target":                exchange(&pb.ExchangeRequest{}),
		"scopes[1]":             exchange(&pb.ExchangeRequest{Target: "orders", Scopes: []string{"read", ""}}),
		`params["k"]`:           exchange(&pb.ExchangeRequest{Target: "orders", Params: map[string]string{"k": long(8193)}}),
		"ttl":                   exchange(&pb.ExchangeRequest{Target: "orders", Ttl: &durationpb.Duration{Seconds: -1}}),
		"reason":                exchange(&pb.ExchangeRequest{Target: "orders", Reason: long(8193)}),
		"idempotency_key":       exchange(&pb.ExchangeRequest{Target: "orders", IdempotencyKey: long(129)}),
		`params["xxxxxxxxxxxxx`: exchange(&pb.ExchangeRequest{Target: "orders", Params: map[string]string{long(2000): ""}}),
		"page_size":             second(a.ListGrants(ctx, &pb.ListGrantsRequest{PageSize: -1})),
		"grant_id":              second(a.GetGrant(ctx, &pb.GetGrantRequest{})),
		"grant_token":           second(p.Redeem(t.Context(), &pb.RedeemRequest{})),
		"entries":               second(p.ShipUses(t.Context(), &pb.ShipUsesRequest{Log: "x"})),
		"principal": func() error {
			stream, err := a.Export(ctx, &pb.ExportRequest{Principal: long(513)})
			must(t, err)
			return second(stream.Recv())
		}(),
	} {
		st := status.Convert(err)
		if st.Code() != codes.InvalidArgument || !strings.Contains(st.Message(), "the field "+field) || len(st.Message()) > 400 {
			t.Errorf("%s: %v", field, err)
		}
	}
	// Whoever is nobody is not told what a message must be like: who comes before what.
	_, err := x.Exchange(t.Context(), &pb.ExchangeRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	if n := len(w.events(audit.ExchangeGranted)); n != 0 {
		t.Errorf("%d grants were made", n)
	}
}

func second[T any](_ T, err error) error { return err }

func TestCallsBeyondTheLimitAreToldToComeBack(t *testing.T) {
	w := newWorld(t, settings{options: rpc.Options{MaxInFlight: 1}})
	entered, leave := make(chan struct{}), make(chan struct{})
	w.mint.failWith(func(context.Context) error {
		close(entered)
		<-leave
		return &cred.Error{Kind: cred.Denied, Op: "mint", Reason: "DONE", Public: "done"}
	})
	first := make(chan error, 1)
	client := w.member()
	go func() { first <- second(client.Exchange(t.Context(), cred.Request{Target: "orders"})) }()
	<-entered
	_, err := w.member().WhoAmI(t.Context())
	wantError(t, err, cred.Exhausted, "TOO_MANY_CALLS")
	r := postForm(t, w, w.web(false), "/oauth/token", tokenForm(w.token("ann", "team"), "orders"))
	if r.status != http.StatusTooManyRequests || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "temporarily_unavailable") {
		t.Errorf("HTTP: %d %s", r.status, r.body)
	}
	// What needs no identity has places of its own, and takes none of the others'.
	health := healthpb.NewHealthClient(w.conn())
	if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	close(leave)
	wantError(t, <-first, cred.Denied, "DONE")
	for range 200 { // more watchers than open calls may run
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := health.Watch(ctx, &healthpb.HealthCheckRequest{})
		must(t, err)
		if _, err = stream.Recv(); err != nil {
			if status.Code(err) != codes.ResourceExhausted {
				t.Fatalf("watching health: %v", err)
			}
			break
		}
	}
	if _, err := w.member().WhoAmI(t.Context()); err != nil {
		t.Errorf("watchers of health crowd out callers: %v", err)
	}
}

// A large message is taken only from who has shown a certificate.
func TestMessagesThatAreTooLarge(t *testing.T) {
	w := newWorld(t, settings{})
	ship := func(c *sdk.ProxyClient, size int) error {
		entries := []sdk.ShippedEntry{}
		for range size >> 15 {
			entries = append(entries, sdk.ShippedEntry{Canonical: bytes.Repeat([]byte("x"), 1<<15)})
		}
		return second(c.ShipUses(t.Context(), "daypass-proxy/edge/uses", entries))
	}
	if err := ship(w.edge(), 4<<20); cred.KindOf(err) != cred.Invalid {
		t.Errorf("4 MiB from a proxy: %v", err) // read, and refused for what it says
	}
	if err := ship(w.edge(), 9<<20); cred.KindOf(err) != cred.Exhausted {
		t.Errorf("9 MiB from a proxy: %v", err)
	}
	anybody, err := sdk.DialProxy(w.url, w.tls())
	must(t, err)
	defer anybody.Close()
	if err := ship(anybody, 1<<20); cred.KindOf(err) != cred.Exhausted {
		t.Errorf("1 MiB from anybody: %v", err)
	}
}

// The largest ExchangeRequest that validation lets through is not too large to be read.
func TestTheLargestRequestIsRead(t *testing.T) {
	w := newWorld(t, settings{})
	wide := func(n int) string { return strings.Repeat("𝕏", n) }
	r := cred.Request{Target: wide(128), Reason: wide(1024), IdempotencyKey: wide(128), Params: map[string]string{}}
	for i := range 64 {
		r.Scopes = append(r.Scopes, wide(255)+string(rune('a'+i%26)))
	}
	for i := range 32 {
		r.Params[wide(63)+string(rune('a'+i))] = wide(1024)
	}
	_, err := w.member().Exchange(t.Context(), r)
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind == cred.Exhausted || e.Kind == cred.Internal || e.Kind == cred.Unavailable {
		t.Errorf("got %v", err)
	}
}
