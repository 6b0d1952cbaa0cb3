package rpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// call makes a call with headers of its own and returns what the server says of it: for a stream, of
// its first message.
func call(t *testing.T, conn *grpc.ClientConn, method string, headers ...string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, headers...)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	must(t, err)
	// An empty message is a request of any type.
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil && status.Code(err) != codes.OK {
		t.Log("send:", err) // the server has refused already; RecvMsg tells how
	}
	must(t, stream.CloseSend())
	return stream.RecvMsg(&emptypb.Empty{})
}

func TestEveryMethodHasALineInTheAllowList(t *testing.T) {
	w := newWorld(t, settings{options: rpc.Options{Reflection: true}})
	for _, services := range w.server.ServiceInfo() {
		var methods []string
		for service, info := range services {
			for _, m := range info.Methods {
				methods = append(methods, "/"+service+"/"+m.Name)
			}
		}
		slices.Sort(methods)
		listed := rpc.AllowListed()
		slices.Sort(listed)
		if !slices.Equal(methods, listed) {
			t.Errorf("served  %v\nlisted  %v", methods, listed)
		}
	}
}

// Whoever shows the wrong thing, or nothing, is refused by every method that is not open, and each
// refusal is recorded.
func TestWhoMayCallWhat(t *testing.T) {
	w := newWorld(t, settings{})
	edge, other := w.conn(w.ca.client("daypass://proxy/edge")), w.conn()
	grant, err := w.member().Exchange(t.Context(), cred.Request{Target: "api"})
	must(t, err)
	id, tok := "Bearer "+w.token("ann", "team", "audit", "security"), "Bearer "+grant.Token.RevealString()

	callers := []struct {
		name    string
		conn    *grpc.ClientConn
		headers []string
		may     []string // of the allow-list
	}{
		{"nobody", other, nil, nil},
		{"a bearer", other, []string{"authorization", id}, []string{"bearers", "holders"}},
		{"a grant token", other, []string{"authorization", tok}, []string{"holders"}},
		{"a proxy", edge, nil, []string{"proxies"}},
		{"a proxy with a bearer's token", edge, []string{"authorization", id}, []string{"proxies", "bearers", "holders"}},
		{"two tokens", other, []string{"authorization", id, "authorization", id}, nil},
		{"another scheme", other, []string{"authorization", "Basic " + strings.TrimPrefix(id, "Bearer ")}, nil},
		{"no scheme", other, []string{"authorization", strings.TrimPrefix(id, "Bearer ")}, nil},
		{"an empty token", other, []string{"authorization", "Bearer "}, nil},
		{"two spaces", other, []string{"authorization", strings.Replace(id, " ", "  ", 1)}, nil},
		{"the token elsewhere", other, []string{"proxy-authorization", id, "x-authorization", id}, nil},
		{"a forged token", other, []string{"authorization", id[:len(id)-4] + "AAAA"}, nil},
		{"no JWT", other, []string{"authorization", "Bearer abc"}, nil},
	}
	methods := rpc.AllowListed()
	slices.Sort(methods)
	for _, c := range callers {
		for _, method := range methods {
			access := rpc.Access(method)
			if access == "open" {
				continue
			}
			before := len(w.events(audit.IdentityRefused))
			err := call(t, c.conn, method, c.headers...)
			refused := status.Code(err) == codes.Unauthenticated
			if may := slices.Contains(c.may, access); refused == may {
				t.Errorf("%s at %s: %v", c.name, method, err)
			}
			if recorded := len(w.events(audit.IdentityRefused)) - before; refused && recorded != 1 {
				t.Errorf("%s at %s: %d refusals are recorded", c.name, method, recorded)
			}
		}
	}
	for _, e := range w.events(audit.IdentityRefused) {
		if e.Peer != "127.0.0.1" || e.Error == nil {
			t.Fatalf("recorded %+v", e)
		}
	}
}

func TestProxyCertificates(t *testing.T) {
	w := newWorld(t, settings{})
	grant, err := w.member().Exchange(t.Context(), cred.Request{Target: "api"})
	must(t, err)
	redeem := func(ca *authority, uris ...string) error {
		_, err := w.proxy(ca, uris...).Redeem(t.Context(), grant.Token)
		return err
	}
	must(t, redeem(w.ca, "daypass://proxy/edge"))
	for _, uris := range [][]string{
		nil,
		{"daypass://proxy/"},
		{"daypass://proxy"},
		{"daypass://proxy/edge/more"},
		{"daypass://proxy//edge"},
		{"daypass://broker/edge"},
		{"https://proxy/edge"},
		{"daypass://proxy/edge?x=1"},
		{"daypass://proxy/edge#x"},
		{"daypass://proxy:1/edge"},
		{"daypass://u@proxy/edge"},
		{"daypass://proxy/ed%67e%2f"},
		{"daypass://proxy/edge", "daypass://proxy/edge"},
		{"daypass://proxy/edge", "https://example.com"},
		{"daypass:proxy/edge"},
		{"daypass://proxy/-edge"},
		{"daypass://proxy/" + strings.Repeat("e", 129)},
	} {
		err := redeem(w.ca, uris...)
		if cred.KindOf(err) != cred.Unauthenticated || err == nil {
			t.Errorf("%q: %v", uris, err)
		}
	}
	// Another CA's certificate makes no proxy, whatever name it has.
	if err := redeem(newAuthority(t), "daypass://proxy/edge"); cred.KindOf(err) != cred.Unauthenticated || err == nil {
		t.Errorf("another CA: %v", err)
	}
	// Nor does one that is for servers.
	c := w.conn(w.ca.leaf(x509.ExtKeyUsageServerAuth, "daypass://proxy/edge"))
	_, err = pb.NewProxyServiceClient(c).Redeem(t.Context(), &pb.RedeemRequest{GrantToken: grant.Token.RevealString()})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("a server's certificate: %v", err)
	}
}

// Over plain text there is no certificate, and a header does not stand for one.
func TestPlainTextHasNoProxies(t *testing.T) {
	w := newWorld(t, settings{plain: true})
	err := call(t, w.conn(), pb.ProxyService_Redeem_FullMethodName, "x-forwarded-client-cert", "URI=daypass://proxy/edge")
	if status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

func TestTLS12IsRefused(t *testing.T) {
	w := newWorld(t, settings{})
	_, addr, _ := strings.Cut(w.url, "://")
	config := w.tls()
	config.MaxVersion = tls.VersionTLS12
	c, err := tls.Dial("tcp", addr, config)
	if err == nil {
		_ = c.Close()
		t.Fatal("TLS 1.2 is spoken")
	}
	if !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("refused, but for another reason: %v", err)
	}
}

// What may not be seen looks exactly as if it did not exist.
func TestMissingAndForbiddenAreTheSame(t *testing.T) {
	w := newWorld(t, settings{})
	got, err := w.member().Exchange(t.Context(), cred.Request{Target: "orders"})
	must(t, err)
	conn := w.conn()
	eve := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+w.token("eve"))
	exchanges, audits := pb.NewExchangeServiceClient(conn), pb.NewAuditServiceClient(conn)
	theirs, nowhere := got.Grant.GetId(), "gr_"+strings.Repeat("0", 26)
	for name, ask := range map[string]func(string) error{
		"GetGrant": func(id string) error {
			_, err := audits.GetGrant(eve, &pb.GetGrantRequest{GrantId: id})
			return err
		},
		"Revoke": func(id string) error {
			_, err := exchanges.Revoke(eve, &pb.RevokeRequest{GrantId: id})
			return err
		},
		"Exchange": func(id string) error {
			target := map[string]string{theirs: "hidden", nowhere: "absent"}[id]
			_, err := exchanges.Exchange(eve, &pb.ExchangeRequest{Target: target})
			return err
		},
	} {
		forbidden, missing := ask(theirs), ask(nowhere)
		if status.Code(forbidden) != codes.NotFound {
			t.Errorf("%s: forbidden is %v", name, forbidden)
		}
		same := func(err error) string { // the name that was sent is all that may differ
			s := fmt.Sprint(status.Convert(err).Proto())
			return strings.NewReplacer("hidden", "NAME", "orders", "NAME", "absent", "NAME", theirs, "ID", nowhere, "ID").Replace(s)
		}
		if f, m := same(forbidden), same(missing); f != m {
			t.Errorf("%s: forbidden %s\nmissing   %s", name, f, m)
		}
	}
	if _, revoked := w.mint.counts(); revoked != 0 {
		t.Error("somebody else revoked")
	}
}
