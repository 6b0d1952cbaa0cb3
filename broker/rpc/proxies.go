package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/daypass-io/daypass/broker"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

type proxyService struct {
	pb.UnimplementedProxyServiceServer
	broker    *broker.Broker
	heartbeat time.Duration
}

// Redeem hands a credential to a proxy.
func (s *proxyService) Redeem(ctx context.Context, r *pb.RedeemRequest) (*pb.RedeemResponse, error) {
	redeemed, err := s.broker.Redeem(ctx, callerOf(ctx).who.Principal, r.GetGrantToken())
	if err != nil {
		return nil, err
	}
	return &pb.RedeemResponse{
		Credential: credentialTo(redeemed), Grant: grantTo(redeemed.Grant), Target: targetTo(redeemed.Target),
	}, nil
}

// WatchRevocations streams revocations.
func (s *proxyService) WatchRevocations(_ *pb.WatchRevocationsRequest, out grpc.ServerStreamingServer[pb.WatchRevocationsResponse]) error {
	ctx := out.Context()
	send := func(r broker.Revocation) error {
		return sent(out.Send(&pb.WatchRevocationsResponse{GrantId: string(r.Grant), ExpireTime: timeTo(r.NotAfter)}))
	}
	beat := func() error { return sent(out.Send(&pb.WatchRevocationsResponse{Current: true})) }
	return s.broker.WatchRevocations(ctx, s.heartbeat, send, beat, beat)
}

// ShipUses copies a proxy's entries into the broker's log.
func (s *proxyService) ShipUses(ctx context.Context, r *pb.ShipUsesRequest) (*pb.ShipUsesResponse, error) {
	entries := make([]broker.Shipped, len(r.GetEntries()))
	for i, e := range r.GetEntries() {
		entries[i] = broker.Shipped{Seq: e.GetSeq(), Canonical: e.GetCanonical()}
	}
	next, err := s.broker.ShipUses(ctx, callerOf(ctx).who.Principal, r.GetLog(), entries)
	if err != nil {
		return nil, err
	}
	return &pb.ShipUsesResponse{NextSeq: next}, nil
}
