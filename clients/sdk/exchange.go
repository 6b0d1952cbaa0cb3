package sdk

import (
	"context"
	"crypto/rand"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Granted is what an exchange brings.
type Granted struct {
	Grant      *pb.Grant        // in the state pending it is a request that waits for approval, and nothing else is set
	Token      cred.Secret      // the grant token
	Credential *cred.Credential // nil where a proxy spends it
	Lease      cred.LeaseID     // of Credential
}

// Pending reports whether others have to agree first; Wait tells when they have.
func (g Granted) Pending() bool { return g.Grant.GetState() == string(cred.GrantPending) }

// ExchangeOption says more about an exchange than what is asked for.
type ExchangeOption func(*exchangeCall)

type exchangeCall struct {
	req   *pb.ExchangeRequest
	proof func(method, url string) (string, error)
}

// ActedForBy names the agent that acts for the caller, by its ID token (RFC 8693, actor_token).
func ActedForBy(actorToken cred.Secret) ExchangeOption {
	return func(c *exchangeCall) { c.req.ActorToken = actorToken.RevealString() }
}

// Claiming asks for a request that was approved; the rest must be as it was asked for.
func Claiming(id cred.GrantID) ExchangeOption {
	return func(c *exchangeCall) { c.req.RequestId = string(id) }
}

// BoundByProof binds the grant to a DPoP key (RFC 9449): proof makes a proof for a method and URL.
func BoundByProof(proof func(method, url string) (string, error)) ExchangeOption {
	return func(c *exchangeCall) { c.proof = proof }
}

// BoundToCertificate binds the grant to the client certificate of the connection (RFC 8705).
func BoundToCertificate() ExchangeOption {
	return func(c *exchangeCall) { c.req.BindCertificate = true }
}

// Exchange asks for a credential. Where the request carries no idempotency key one is made, so that a
// retry inside gRPC can't mint twice.
func (c *Client) Exchange(ctx context.Context, want cred.Request, options ...ExchangeOption) (Granted, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return Granted{}, err
	}
	if want.IdempotencyKey == "" {
		want.IdempotencyKey = rand.Text()
	}
	call := exchangeCall{req: &pb.ExchangeRequest{
		Target: want.Target, Scopes: want.Scopes, Params: want.Params,
		Reason: want.Reason, IdempotencyKey: want.IdempotencyKey,
	}}
	if want.TTL != 0 {
		call.req.Ttl = durationpb.New(want.TTL)
	}
	for _, o := range options {
		o(&call)
	}
	if call.proof != nil {
		proof, err := call.proof("POST", c.broker+pb.ExchangeService_Exchange_FullMethodName)
		if err != nil {
			return Granted{}, err
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "dpop", proof)
	}
	r, err := c.exchange.Exchange(ctx, call.req)
	if err != nil {
		return Granted{}, fromStatus("exchange", err)
	}
	return grantedFrom(r.GetGrant(), r.GetGrantToken(), r.GetCredential()), nil
}

func grantedFrom(g *pb.Grant, tok string, c *pb.Credential) Granted {
	out := Granted{Grant: g, Token: cred.SecretString(tok)}
	if c != nil {
		credential := credentialFrom(c)
		out.Credential, out.Lease = &credential, cred.LeaseID(c.GetLeaseId())
	}
	return out
}

// Wait calls each with a request of the caller's as it stands, and again as it changes, until it waits
// no more. It comes back to the broker where the connection breaks.
func (c *Client) Wait(ctx context.Context, id cred.GrantID, each func(*pb.WaitResponse) error) error {
	return follow(ctx, c, "wait", c.exchange.Wait, &pb.WaitRequest{RequestId: string(id)}, func(r *pb.WaitResponse) (bool, error) {
		return r.GetGrant().GetState() != string(cred.GrantPending), each(r)
	})
}

// Renew asks for a new grant in place of one that lives. A zero ttl means as long as the rule allows.
func (c *Client) Renew(ctx context.Context, id cred.GrantID, ttl time.Duration) (Granted, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return Granted{}, err
	}
	req := &pb.RenewRequest{GrantId: string(id)}
	if ttl != 0 {
		req.Ttl = durationpb.New(ttl)
	}
	r, err := c.exchange.Renew(ctx, req)
	if err != nil {
		return Granted{}, fromStatus("renew", err)
	}
	return grantedFrom(r.GetGrant(), r.GetGrantToken(), r.GetCredential()), nil
}
