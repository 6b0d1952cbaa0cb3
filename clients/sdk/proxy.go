package sdk

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

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
	conn, err := dial(broker, tlsConfig)
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
// understand, at any depth, is refused: what it does not know might restrict it. So proxies are
// updated before their broker is.
func (c *ProxyClient) Redeem(ctx context.Context, grantToken cred.Secret) (Redeemed, error) {
	r, err := c.proxy.Redeem(ctx, &pb.RedeemRequest{GrantToken: grantToken.RevealString()})
	if err != nil {
		return Redeemed{}, fromStatus("redeem", err)
	}
	switch {
	case hasUnknown(r.ProtoReflect()):
		return Redeemed{}, tooOld("redeem", "the broker says something of this credential that this proxy is too old to know")
	case r.GetCredential() == nil || r.GetGrant().GetId() == "" || r.GetGrant().GetExpireTime() == nil || r.GetTarget().GetName() == "":
		return Redeemed{}, &cred.Error{Kind: cred.Unavailable, Op: "redeem", Reason: "ANSWER_INCOMPLETE", Public: "the broker's answer lacks a part that is needed"}
	case !knownTypes[cred.CredentialType(r.GetCredential().GetType())]:
		return Redeemed{}, tooOld("redeem", "the broker sent a type of credential that this proxy does not know")
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

// knownTypes are the types of credential that this version knows how to spend, or how not to.
var knownTypes = map[cred.CredentialType]bool{
	cred.Bearer: true, cred.UserPassword: true, cred.AWS: true, cred.TLS: true, cred.SSHCertificate: true, cred.KV: true,
}

// tooOld refuses what this version does not know.
func tooOld(op, public string) error {
	return &cred.Error{Kind: cred.Denied, Op: op, Reason: "UNKNOWN_RESTRICTION", Public: public + "; update the proxy"}
}

// hasUnknown reports whether a message, or one within it, has a field that this version does not know.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() != nil && !f.IsList() && !f.IsMap() { // no list or map of ours holds messages
			found = hasUnknown(v.Message())
		}
		return !found
	})
	return found
}

func targetFrom(t *pb.ProxyTarget) (cred.Target, error) {
	kind := cred.InjectKind(t.GetInjectKind())
	switch kind {
	case "", cred.InjectBearer, cred.InjectBasic, cred.InjectHeader, cred.InjectQuery:
	default:
		return cred.Target{}, tooOld("redeem", "the broker asks for a way of injection that this proxy does not know")
	}
	out := cred.Target{Name: t.GetName(), Deliver: cred.DeliverProxy, Mask: cred.MaskSettings{Detectors: t.GetMaskDetectors()}}
	if t.GetUpstream() != "" {
		out.HTTP = &cred.HTTPTarget{
			Upstream: t.GetUpstream(), AllowPrivate: t.GetAllowPrivate(),
			Inject: cred.Injection{Kind: kind, Name: t.GetInjectName(), Prefix: t.GetInjectPrefix(), Field: t.GetInjectField()},
		}
	}
	return out, nil
}

// WatchRevocations calls revoked for each revoked grant that would still live, past ones first, with
// the instant until which it must be remembered (zero: always). It calls current once all past ones
// were told, and again with each later message: what was revoked before then is known. It returns, with
// an error, when the stream breaks or brings what this version does not know. Both functions are called
// from one goroutine, in order.
func (c *ProxyClient) WatchRevocations(ctx context.Context, revoked func(cred.GrantID, time.Time), current func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // frees the stream where it is left early
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
		if hasUnknown(m.ProtoReflect()) {
			return tooOld("watch", "the broker revokes in a way that this proxy is too old to know")
		}
		if m.GetGrantId() != "" {
			revoked(cred.GrantID(m.GetGrantId()), endOf(m))
		}
		if synced = synced || m.GetCurrent(); synced {
			current()
		}
	}
}

func endOf(m *pb.WatchRevocationsResponse) time.Time {
	if m.GetExpireTime() == nil {
		return time.Time{}
	}
	return m.GetExpireTime().AsTime()
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
