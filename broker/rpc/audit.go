package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

type auditService struct {
	pb.UnimplementedAuditServiceServer
	broker *broker.Broker
}

// ListGrants lists grants, newest first.
func (s *auditService) ListGrants(ctx context.Context, r *pb.ListGrantsRequest) (*pb.ListGrantsResponse, error) {
	grants, next, err := s.broker.ListGrants(ctx, callerOf(ctx).who.Principal, broker.GrantFilter{
		Target: r.GetTarget(), State: cred.GrantState(r.GetState()),
		After: cred.GrantID(r.GetPageToken()), Limit: int(r.GetPageSize()),
	})
	if err != nil {
		return nil, err
	}
	out := &pb.ListGrantsResponse{NextPageToken: string(next)}
	for _, g := range grants {
		out.Grants = append(out.Grants, grantTo(g))
	}
	return out, nil
}

// GetGrant tells one grant.
func (s *auditService) GetGrant(ctx context.Context, r *pb.GetGrantRequest) (*pb.GetGrantResponse, error) {
	g, leases, err := s.broker.GetGrant(ctx, callerOf(ctx).who.Principal, cred.GrantID(r.GetGrantId()))
	if err != nil {
		return nil, err
	}
	return &pb.GetGrantResponse{Grant: grantTo(g), Leases: leasesTo(leases)}, nil
}

// ListLeases lists leases over all grants.
func (s *auditService) ListLeases(ctx context.Context, r *pb.ListLeasesRequest) (*pb.ListLeasesResponse, error) {
	leases, next, err := s.broker.ListLeases(ctx, callerOf(ctx).who.Principal, broker.LeaseFilter{
		State: cred.LeaseState(r.GetState()), Issuer: r.GetIssuer(), After: r.GetPageToken(), Limit: int(r.GetPageSize()),
	})
	if err != nil {
		return nil, err
	}
	return &pb.ListLeasesResponse{Leases: leasesTo(leases), NextPageToken: next}, nil
}

// ListSources tells what the last comparisons with the sources' own lists found.
func (s *auditService) ListSources(ctx context.Context, _ *pb.ListSourcesRequest) (*pb.ListSourcesResponse, error) {
	all, err := s.broker.ListSources(ctx, callerOf(ctx).who.Principal)
	if err != nil {
		return nil, err
	}
	out := &pb.ListSourcesResponse{}
	for _, r := range all {
		out.Sources = append(out.Sources, &pb.SourceReport{
			Issuer: r.Issuer, CompareTime: timeTo(r.At), Listed: int64(r.Listed), Ours: int64(r.Ours),
			Strays: int64(r.Strays), StrayNames: r.StrayNames, Missing: int64(r.Missing), Problem: r.Problem,
		})
	}
	return out, nil
}

// Export streams the log.
func (s *auditService) Export(r *pb.ExportRequest, out grpc.ServerStreamingServer[pb.ExportResponse]) error {
	ctx := out.Context()
	filter := broker.ExportFilter{
		Since: timeFrom(r.GetSince()), Until: timeFrom(r.GetUntil()),
		Grant: cred.GrantID(r.GetGrantId()), Target: r.GetTarget(), Subject: r.GetPrincipal(),
	}
	trailer, err := s.broker.Export(ctx, callerOf(ctx).who.Principal, filter, func(e audit.Exported) error {
		entry := &pb.ExportedEntry{Seq: e.Seq, Canonical: e.Canonical}
		for _, h := range e.Proof {
			entry.Proof = append(entry.Proof, h[:])
		}
		return sent(out.Send(&pb.ExportResponse{Part: &pb.ExportResponse_Entry{Entry: entry}}))
	})
	if err != nil {
		return err
	}
	cp, err := checkpointTo(trailer)
	if err != nil {
		return err
	}
	return sent(out.Send(&pb.ExportResponse{Part: &pb.ExportResponse_Checkpoint{Checkpoint: cp}}))
}

// GetCheckpoint returns a signed checkpoint.
func (s *auditService) GetCheckpoint(ctx context.Context, _ *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	trailer, err := s.broker.Checkpoint(ctx, callerOf(ctx).who.Principal)
	if err != nil {
		return nil, err
	}
	cp, err := checkpointTo(trailer)
	if err != nil {
		return nil, err
	}
	return &pb.GetCheckpointResponse{Checkpoint: cp}, nil
}

func checkpointTo(t audit.Trailer) (*pb.Checkpoint, error) {
	out := &pb.Checkpoint{Note: string(t.Note), VerifierKey: t.VerifierKey}
	for _, h := range t.HandOvers {
		line, err := h.Encode()
		if err != nil {
			return nil, err
		}
		out.HandOvers = append(out.HandOvers, line)
	}
	return out, nil
}
