package sdk_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a broker that says what it is told to: what a real one never says. The tests against a real
// one stand in broker/rpc.
type fake struct {
	pb.UnimplementedExchangeServiceServer
	pb.UnimplementedAuditServiceServer
	pb.UnimplementedProxyServiceServer
	exchange func(context.Context, *pb.ExchangeRequest) (*pb.ExchangeResponse, error)
	export   func(grpc.ServerStreamingServer[pb.ExportResponse]) error
	redeem   func() *pb.RedeemResponse
	watch    func(grpc.ServerStreamingServer[pb.WatchRevocationsResponse]) error
}

func (f *fake) Exchange(ctx context.Context, r *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	return f.exchange(ctx, r)
}

func (f *fake) Export(_ *pb.ExportRequest, s grpc.ServerStreamingServer[pb.ExportResponse]) error {
	return f.export(s)
}

func (f *fake) Redeem(context.Context, *pb.RedeemRequest) (*pb.RedeemResponse, error) {
	return f.redeem(), nil
}

func (f *fake) WatchRevocations(_ *pb.WatchRevocationsRequest, s grpc.ServerStreamingServer[pb.WatchRevocationsResponse]) error {
	return f.watch(s)
}

// serve returns the fake's URL.
func (f *fake) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := grpc.NewServer()
	pb.RegisterExchangeServiceServer(g, f)
	pb.RegisterAuditServiceServer(g, f)
	pb.RegisterProxyServiceServer(g, f)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	t.Cleanup(func() {
		g.Stop()
		must(t, <-served)
	})
	return "http://" + listener.Addr().String()
}

func (f *fake) client(t *testing.T) *sdk.Client {
	t.Helper()
	c, err := sdk.Dial(f.serve(t), sdk.StaticToken(cred.SecretString("a token")), nil)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func (f *fake) proxy(t *testing.T) *sdk.ProxyClient {
	t.Helper()
	c, err := sdk.DialProxy(f.serve(t), nil)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
