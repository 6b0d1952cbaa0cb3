package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

type exchangeService struct {
	pb.UnimplementedExchangeServiceServer
	broker *broker.Broker
	binder *binder
}

// Exchange decides, and for a target that is delivered directly goes on to redeem.
func (s *exchangeService) Exchange(ctx context.Context, r *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	who, want := callerOf(ctx).who, requestFrom(r)
	var err error
	if r.GetActorToken() != "" {
		if who, err = s.broker.ActFor(ctx, who, r.GetActorToken()); err != nil {
			return nil, err
		}
	}
	if who.Key, want.Binding, err = s.binder.ofCall(ctx, r.GetBindCertificate()); err != nil {
		return nil, s.broker.RefuseBinding(ctx, who.Principal, err)
	}
	got, err := s.broker.Deliver(ctx, who, want, cred.GrantID(r.GetRequestId()))
	if err != nil {
		return nil, err
	}
	out := &pb.ExchangeResponse{Grant: grantTo(got.Grant), GrantToken: got.Token.RevealString()}
	if got.Redeemed != nil {
		out.Credential = credentialTo(*got.Redeemed)
	}
	return out, nil
}

// Wait streams how a request stands.
func (s *exchangeService) Wait(r *pb.WaitRequest, out grpc.ServerStreamingServer[pb.WaitResponse]) error {
	ctx := out.Context()
	return s.broker.Wait(ctx, callerOf(ctx).who, cred.GrantID(r.GetRequestId()), func(w broker.Waited) error {
		return sent(out.Send(&pb.WaitResponse{Grant: grantTo(w.Grant), Asked: w.Asked, Approvals: int32(min(w.Approvals, 1<<30))}))
	})
}

// Renew gives a new grant in place of one that lives.
func (s *exchangeService) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.RenewResponse, error) {
	who := callerOf(ctx).who
	g, err := s.broker.Renew(ctx, who, cred.GrantID(r.GetGrantId()), r.GetTtl().AsDuration())
	if err != nil {
		return nil, err
	}
	got, err := s.broker.DeliverGrant(ctx, who, g)
	if err != nil {
		return nil, err
	}
	out := &pb.RenewResponse{Grant: grantTo(got.Grant), GrantToken: got.Token.RevealString()}
	if got.Redeemed != nil {
		out.Credential = credentialTo(*got.Redeemed)
	}
	return out, nil
}

// Revoke ends a grant.
func (s *exchangeService) Revoke(ctx context.Context, r *pb.RevokeRequest) (*pb.RevokeResponse, error) {
	c := callerOf(ctx)
	id := cred.GrantID(r.GetGrantId())
	switch {
	case id == "" && c.grant == "":
		return nil, &cred.Error{Kind: cred.Invalid, Op: "revoke", Reason: "GRANT_ID_MISSING", Public: "name the grant to revoke, or authenticate with its grant token"}
	case id == "":
		id = c.grant
	case c.grant != "" && c.grant != id:
		return nil, &cred.Error{Kind: cred.NotFound, Op: "revoke", Reason: "GRANT_UNKNOWN", Public: "a grant token revokes its own grant alone"}
	}
	g, leases, err := s.broker.Revoke(ctx, c.who.Principal, id, r.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.RevokeResponse{Grant: grantTo(g), Leases: leasesTo(leases)}, nil
}

// ListTargets tells what the caller may ask for.
func (s *exchangeService) ListTargets(ctx context.Context, _ *pb.ListTargetsRequest) (*pb.ListTargetsResponse, error) {
	out := &pb.ListTargetsResponse{}
	for _, o := range s.broker.Offers(callerOf(ctx).who.Principal) {
		out.Targets = append(out.Targets, &pb.TargetSummary{
			Name: o.Target.Name, Delivery: deliveryTo(o.Target.Deliver), Scopes: o.Scopes, MaxTtl: durationpb.New(o.MaxTTL),
		})
	}
	return out, nil
}

// WhoAmI tells who the caller is.
func (s *exchangeService) WhoAmI(ctx context.Context, _ *pb.WhoAmIRequest) (*pb.WhoAmIResponse, error) {
	return &pb.WhoAmIResponse{Principal: principalTo(callerOf(ctx).who.Principal)}, nil
}
