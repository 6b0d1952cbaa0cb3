package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

type exchangeService struct {
	pb.UnimplementedExchangeServiceServer
	broker *broker.Broker
}

// Exchange decides, and for a target that is delivered directly goes on to redeem.
func (s *exchangeService) Exchange(ctx context.Context, r *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	ex, err := exchange(ctx, s.broker, callerOf(ctx).who, requestFrom(r))
	if err != nil {
		return nil, err
	}
	out := &pb.ExchangeResponse{Grant: grantTo(ex.grant), GrantToken: ex.token.RevealString()}
	if ex.redeemed != nil {
		out.Credential = credentialTo(*ex.redeemed)
	}
	return out, nil
}

// exchanged is the outcome of an exchange, for both doors.
type exchanged struct {
	grant    cred.Grant
	token    cred.Secret
	redeemed *broker.Redeemed // set for direct delivery
}

func exchange(ctx context.Context, b *broker.Broker, who cred.Principal, want cred.Request) (exchanged, error) {
	g, err := b.Exchange(ctx, who, want)
	if err != nil {
		return exchanged{}, err
	}
	out := exchanged{grant: g}
	if out.token, err = b.GrantToken(g); err != nil {
		return exchanged{}, err
	}
	target, err := b.Target(g)
	if err != nil {
		return exchanged{}, err
	}
	if target.Deliver != cred.DeliverDirect {
		return out, nil
	}
	redeemed, err := b.Redeem(ctx, who, out.token.RevealString())
	if err != nil {
		return exchanged{}, err
	}
	out.redeemed = &redeemed
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
	g, leases, err := s.broker.Revoke(ctx, c.who, id, r.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.RevokeResponse{Grant: grantTo(g), Leases: leasesTo(leases)}, nil
}

// ListTargets tells what the caller may ask for.
func (s *exchangeService) ListTargets(ctx context.Context, _ *pb.ListTargetsRequest) (*pb.ListTargetsResponse, error) {
	out := &pb.ListTargetsResponse{}
	for _, o := range s.broker.Offers(callerOf(ctx).who) {
		out.Targets = append(out.Targets, &pb.TargetSummary{
			Name: o.Target.Name, Delivery: deliveryTo(o.Target.Deliver), Scopes: o.Scopes, MaxTtl: durationpb.New(o.MaxTTL),
		})
	}
	return out, nil
}

// WhoAmI tells who the caller is.
func (s *exchangeService) WhoAmI(ctx context.Context, _ *pb.WhoAmIRequest) (*pb.WhoAmIResponse, error) {
	return &pb.WhoAmIResponse{Principal: principalTo(callerOf(ctx).who)}, nil
}
