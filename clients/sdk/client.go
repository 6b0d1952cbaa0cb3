package sdk

import (
	"context"
	"crypto/tls"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Client asks a broker. It is safe for concurrent use.
type Client struct {
	conn     *grpc.ClientConn
	tokens   TokenSource
	broker   string // its URL
	exchange pb.ExchangeServiceClient
	approval pb.ApprovalServiceClient
	lock     pb.LockServiceClient
	policy   pb.PolicyServiceClient
	rotation pb.RotationServiceClient
	audit    pb.AuditServiceClient
}

// Dial returns a client of the broker at a URL. It connects at the first call.
func Dial(broker string, tokens TokenSource, tlsConfig *tls.Config) (*Client, error) {
	conn, err := dial(broker, tlsConfig)
	if err != nil {
		return nil, err
	}
	return &Client{
		conn: conn, tokens: tokens, broker: strings.TrimSuffix(broker, "/"),
		exchange: pb.NewExchangeServiceClient(conn), approval: pb.NewApprovalServiceClient(conn),
		lock: pb.NewLockServiceClient(conn), policy: pb.NewPolicyServiceClient(conn), rotation: pb.NewRotationServiceClient(conn), audit: pb.NewAuditServiceClient(conn),
	}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Revoke ends a grant and its leases. An empty ID means the grant of the grant token that the client
// authenticates with.
func (c *Client) Revoke(ctx context.Context, id cred.GrantID, reason string) (*pb.RevokeResponse, error) {
	return ask(ctx, c, "revoke", c.exchange.Revoke, &pb.RevokeRequest{GrantId: string(id), Reason: reason})
}

// Targets lists what the caller may ask for.
func (c *Client) Targets(ctx context.Context) ([]*pb.TargetSummary, error) {
	r, err := ask(ctx, c, "targets", c.exchange.ListTargets, &pb.ListTargetsRequest{})
	return r.GetTargets(), err
}

// WhoAmI tells who the broker takes the caller for.
func (c *Client) WhoAmI(ctx context.Context) (*pb.Principal, error) {
	r, err := ask(ctx, c, "whoami", c.exchange.WhoAmI, &pb.WhoAmIRequest{})
	return r.GetPrincipal(), err
}

// ask makes a call that has one answer, with the caller's token.
func ask[Q, R any](ctx context.Context, c *Client, op string, call func(context.Context, *Q, ...grpc.CallOption) (*R, error), req *Q) (*R, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := call(ctx, req)
	return r, fromStatus(op, err)
}

// authorize puts the token into the call's metadata.
func (c *Client) authorize(ctx context.Context) (context.Context, error) {
	tok, err := c.tokens(ctx)
	if err != nil {
		return ctx, err
	}
	if tok.IsZero() {
		return ctx, &cred.Error{Kind: cred.Unauthenticated, Op: "authorize", Reason: "NO_TOKEN", Public: "there is no token to show to the broker; sign in, or name a file with an OIDC ID token"}
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tok.RevealString()), nil
}

func credentialFrom(c *pb.Credential) cred.Credential {
	out := cred.Credential{Type: cred.CredentialType(c.GetType()), Fields: make(map[string]cred.Secret, len(c.GetFields()))}
	for name, value := range c.GetFields() {
		out.Fields[name] = cred.SecretString(value)
	}
	if t := c.GetExpireTime(); t != nil {
		out.NotAfter = t.AsTime()
	}
	return out
}
