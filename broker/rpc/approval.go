package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

type approvalService struct {
	pb.UnimplementedApprovalServiceServer
	broker *broker.Broker
}

// ListRequests lists what waits for a verdict.
func (s *approvalService) ListRequests(ctx context.Context, _ *pb.ListRequestsRequest) (*pb.ListRequestsResponse, error) {
	all, err := s.broker.ListRequests(ctx, callerOf(ctx).who.Principal)
	if err != nil {
		return nil, err
	}
	out := &pb.ListRequestsResponse{}
	for _, p := range all {
		out.Requests = append(out.Requests, accessRequestTo(p))
	}
	return out, nil
}

// GetRequest shows a request.
func (s *approvalService) GetRequest(ctx context.Context, r *pb.GetRequestRequest) (*pb.GetRequestResponse, error) {
	p, err := s.broker.GetRequest(ctx, callerOf(ctx).who.Principal, cred.GrantID(r.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return &pb.GetRequestResponse{Request: accessRequestTo(p)}, nil
}

// Review gives a verdict.
func (s *approvalService) Review(ctx context.Context, r *pb.ReviewRequest) (*pb.ReviewResponse, error) {
	digest, err := digestFrom(r.GetDigest())
	if err != nil {
		return nil, err
	}
	who := callerOf(ctx).who
	g, err := s.broker.Review(ctx, who, cred.GrantID(r.GetRequestId()), digest, cred.Verdict{Approve: r.GetApprove(), Comment: r.GetComment()})
	if err != nil {
		return nil, err
	}
	return &pb.ReviewResponse{Request: accessRequestTo(broker.Put{Grant: g})}, nil
}

// Watch streams requests as they come and change.
func (s *approvalService) Watch(_ *pb.WatchRequest, out grpc.ServerStreamingServer[pb.WatchResponse]) error {
	ctx := out.Context()
	send := func(p broker.Put) error {
		return sent(out.Send(&pb.WatchResponse{Request: accessRequestTo(p)}))
	}
	return s.broker.WatchRequests(ctx, callerOf(ctx).who.Principal, send, func() error { return sent(out.Send(&pb.WatchResponse{})) })
}

// ProposeStanding drafts a standing approval.
func (s *approvalService) ProposeStanding(ctx context.Context, r *pb.ProposeStandingRequest) (*pb.ProposeStandingResponse, error) {
	out, err := s.broker.Propose(ctx, callerOf(ctx).who, broker.Standing{
		Rule: r.GetRule(), Target: r.GetTarget(), Scopes: r.GetScopes(), Claims: r.GetClaims(),
		NotAfter: timeFrom(r.GetExpireTime()), Reason: r.GetReason(),
	})
	if err != nil {
		return nil, err
	}
	return &pb.ProposeStandingResponse{Standing: standingTo(out)}, nil
}

// ReviewStanding gives a verdict on a standing approval.
func (s *approvalService) ReviewStanding(ctx context.Context, r *pb.ReviewStandingRequest) (*pb.ReviewStandingResponse, error) {
	digest, err := digestFrom(r.GetDigest())
	if err != nil {
		return nil, err
	}
	out, err := s.broker.ReviewStanding(ctx, callerOf(ctx).who, r.GetStandingId(), digest, cred.Verdict{Approve: r.GetApprove(), Comment: r.GetComment()})
	if err != nil {
		return nil, err
	}
	return &pb.ReviewStandingResponse{Standing: standingTo(out)}, nil
}

// ListStanding lists standing approvals.
func (s *approvalService) ListStanding(ctx context.Context, _ *pb.ListStandingRequest) (*pb.ListStandingResponse, error) {
	all, err := s.broker.ListStanding(ctx, callerOf(ctx).who.Principal)
	if err != nil {
		return nil, err
	}
	out := &pb.ListStandingResponse{}
	for _, one := range all {
		out.Standing = append(out.Standing, standingTo(one))
	}
	return out, nil
}

// RevokeStanding ends a standing approval.
func (s *approvalService) RevokeStanding(ctx context.Context, r *pb.RevokeStandingRequest) (*pb.RevokeStandingResponse, error) {
	out, err := s.broker.RevokeStanding(ctx, callerOf(ctx).who.Principal, r.GetStandingId(), r.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.RevokeStandingResponse{Standing: standingTo(out)}, nil
}

func digestFrom(text string) (d cred.Digest, err error) {
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return d, &cred.Error{Kind: cred.Invalid, Op: "review", Reason: "DIGEST_MALFORMED", Public: "the digest must be 64 hex digits, as the request shows it"}
	}
	return d, nil
}

func accessRequestTo(p broker.Put) *pb.AccessRequest {
	g := p.Grant
	out := &pb.AccessRequest{
		Grant: grantTo(g), Digest: g.Digest.String(), Claims: claimsTo(g.Holder.Claims), Approvals: approvalsTo(g.Approvals),
		Params: g.Want.Params, Ttl: durationpb.New(g.TTL), YourGroups: p.Groups,
	}
	if g.Demand != nil {
		out.Demand = demandTo(*g.Demand)
	}
	if g.Holder.Actor != nil {
		out.Actor = principalTo(*g.Holder.Actor)
	}
	if g.Review != nil && g.Review.SignedOff == nil {
		out.ReviewDueTime = timeTo(g.Review.Due)
	}
	return out
}

// claimsTo shows claims that are plain values; approvers read them, so lists and objects stay out.
func claimsTo(claims map[string]any) map[string]string {
	out := map[string]string{}
	for name, value := range claims {
		if text, ok := cred.ClaimText(value); ok {
			out[name] = text
		}
	}
	return out
}

func demandTo(d cred.Demand) *pb.Demand {
	return &pb.Demand{AllOf: quorumsTo(d.AllOf), AnyOf: quorumsTo(d.AnyOf)}
}

func quorumsTo(all []cred.Quorum) []*pb.Quorum {
	out := make([]*pb.Quorum, len(all))
	for i, q := range all {
		out[i] = &pb.Quorum{Group: q.Group, Count: int32(min(q.Count, 1<<30))}
	}
	return out
}

func approvalsTo(all []cred.Approval) []*pb.Approval {
	out := make([]*pb.Approval, len(all))
	for i, a := range all {
		out[i] = &pb.Approval{
			By: principalTo(a.By), Groups: a.Groups, Approve: a.Verdict.Approve, Comment: a.Verdict.Comment,
			Time: timeTo(a.At), StandingId: a.Standing,
		}
	}
	return out
}

func standingTo(s broker.Standing) *pb.StandingApproval {
	state := "draft"
	if s.InForce() {
		state = "in_force"
	}
	return &pb.StandingApproval{
		Id: s.ID, Rule: s.Rule, Target: s.Target, Scopes: s.Scopes, Claims: s.Claims, ExpireTime: timeTo(s.NotAfter),
		Reason: s.Reason, State: state, ProposedBy: principalTo(s.ProposedBy), Approvals: approvalsTo(s.Approvals),
		Digest: s.Digest().String(), Uses: s.Uses, Demand: demandTo(s.Demand),
	}
}
