package sdk

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// ProxyClient is a companion proxy's connection to its broker. It is safe for concurrent use.
type ProxyClient struct {
	conn  *grpc.ClientConn
	proxy pb.ProxyServiceClient
}

// DialProxy returns a proxy's client; tlsConfig holds its client certificate.
func DialProxy(broker string, tlsConfig *tls.Config) (*ProxyClient, error) {
	conn, err := dial(broker, tlsConfig, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second}))
	if err != nil {
		return nil, err
	}
	return &ProxyClient{conn, pb.NewProxyServiceClient(conn)}, nil
}

// Close ends the connection.
func (c *ProxyClient) Close() error { return c.conn.Close() }

// Redeemed is a credential, the grant that it is for and the target that it may be spent on.
type Redeemed struct {
	Grant      *pb.Grant
	Target     cred.Target
	Lease      cred.LeaseID
	Credential cred.Credential
}

// Redeem turns a grant token into a credential. An answer that this version does not wholly
// understand is refused: what it does not know might restrict it.
func (c *ProxyClient) Redeem(ctx context.Context, grantToken cred.Secret) (Redeemed, error) {
	r, err := c.proxy.Redeem(ctx, &pb.RedeemRequest{GrantToken: grantToken.RevealString()})
	if err != nil {
		return Redeemed{}, fromStatus("redeem", err)
	}
	if len(r.ProtoReflect().GetUnknown()) > 0 || len(r.GetTarget().ProtoReflect().GetUnknown()) > 0 {
		return Redeemed{}, &cred.Error{
			Kind: cred.Denied, Op: "redeem", Reason: "UNKNOWN_RESTRICTION",
			Public: "the broker restricts this target in a way that this proxy is too old to know; update the proxy",
		}
	}
	target, err := targetFrom(r.GetTarget())
	if err != nil {
		return Redeemed{}, err
	}
	return Redeemed{
		Grant: r.GetGrant(), Target: target,
		Lease: cred.LeaseID(r.GetCredential().GetLeaseId()), Credential: credentialFrom(r.GetCredential()),
	}, nil
}

func targetFrom(t *pb.ProxyTarget) (cred.Target, error) {
	kind := cred.InjectKind(t.GetInjectKind())
	switch kind {
	case "", cred.InjectBearer, cred.InjectBasic, cred.InjectHeader, cred.InjectQuery:
	default:
		return cred.Target{}, &cred.Error{
			Kind: cred.Denied, Op: "redeem", Reason: "UNKNOWN_RESTRICTION",
			Public: "the broker asks for a way of injection that this proxy does not know; update the proxy",
		}
	}
	return cred.Target{
		Name: t.GetName(), Deliver: cred.DeliverProxy,
		HTTP: &cred.HTTPTarget{
			Upstream: t.GetUpstream(), AllowPrivate: t.GetAllowPrivate(),
			Inject: cred.Injection{Kind: kind, Name: t.GetInjectName(), Prefix: t.GetInjectPrefix(), Field: t.GetInjectField()},
		},
		Mask: cred.MaskSettings{Detectors: t.GetMaskDetectors()},
	}, nil
}

// WatchRevocations calls revoked for each revoked grant that would still live, past ones first, and
// current each time the broker confirms that nothing is missing. It returns when the stream breaks.
func (c *ProxyClient) WatchRevocations(ctx context.Context, revoked func(cred.GrantID, time.Time), current func()) error {
	stream, err := c.proxy.WatchRevocations(ctx, &pb.WatchRevocationsRequest{})
	if err != nil {
		return fromStatus("watch", err)
	}
	synced := false
	for {
		m, err := stream.Recv()
		if err != nil {
			return fromStatus("watch", err)
		}
		if m.GetGrantId() != "" {
			revoked(cred.GrantID(m.GetGrantId()), m.GetExpireTime().AsTime())
		}
		if synced = synced || m.GetCurrent(); synced {
			current()
		}
	}
}

// ShippedEntry is one entry of the proxy's own log.
type ShippedEntry struct {
	Seq       uint64
	Canonical []byte
}

// ShipUses copies consecutive entries into the broker's log and returns the next sequence number that
// the broker wants.
func (c *ProxyClient) ShipUses(ctx context.Context, log string, entries []ShippedEntry) (uint64, error) {
	r := &pb.ShipUsesRequest{Log: log}
	for _, e := range entries {
		r.Entries = append(r.Entries, &pb.ShippedEntry{Seq: e.Seq, Canonical: e.Canonical})
	}
	out, err := c.proxy.ShipUses(ctx, r)
	return out.GetNextSeq(), fromStatus("ship", err)
}
