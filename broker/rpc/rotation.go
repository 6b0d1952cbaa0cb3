package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

type rotationService struct {
	pb.UnimplementedRotationServiceServer
	broker *broker.Broker
}

// Rotate begins a rotation.
func (s *rotationService) Rotate(ctx context.Context, r *pb.RotateRequest) (*pb.RotateResponse, error) {
	out, err := s.broker.Rotate(ctx, callerOf(ctx).who, r.GetRoot(), r.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.RotateResponse{Rotation: rotationTo(out)}, nil
}

// CheckRotation looks at whether one could succeed.
func (s *rotationService) CheckRotation(ctx context.Context, r *pb.CheckRotationRequest) (*pb.CheckRotationResponse, error) {
	root, findings, err := s.broker.CheckRotation(ctx, callerOf(ctx).who, r.GetRoot())
	if err != nil {
		return nil, err
	}
	out := &pb.CheckRotationResponse{Root: root, Findings: findingsTo(findings), Ok: true}
	for _, f := range findings {
		out.Ok = out.Ok && f.OK
	}
	return out, nil
}

// GetRotation shows a rotation.
func (s *rotationService) GetRotation(ctx context.Context, r *pb.GetRotationRequest) (*pb.GetRotationResponse, error) {
	out, err := s.broker.GetRotation(ctx, callerOf(ctx).who.Principal, cred.RotationID(r.GetRotationId()))
	if err != nil {
		return nil, err
	}
	return &pb.GetRotationResponse{Rotation: rotationTo(out)}, nil
}

// WatchRotation streams a rotation until it is over.
func (s *rotationService) WatchRotation(r *pb.WatchRotationRequest, out grpc.ServerStreamingServer[pb.WatchRotationResponse]) error {
	ctx := out.Context()
	return s.broker.WaitRotation(ctx, callerOf(ctx).who.Principal, cred.RotationID(r.GetRotationId()), func(r cred.Rotation) error {
		return sent(out.Send(&pb.WatchRotationResponse{Rotation: rotationTo(r)}))
	})
}

// ListRotations lists rotations.
func (s *rotationService) ListRotations(ctx context.Context, r *pb.ListRotationsRequest) (*pb.ListRotationsResponse, error) {
	all, err := s.broker.ListRotations(ctx, callerOf(ctx).who.Principal, int(r.GetLimit()))
	if err != nil {
		return nil, err
	}
	out := &pb.ListRotationsResponse{}
	for _, one := range all {
		one.Receipt = ""
		out.Rotations = append(out.Rotations, rotationTo(one))
	}
	return out, nil
}

// ListRoots lists what can be rotated.
func (s *rotationService) ListRoots(ctx context.Context, _ *pb.ListRootsRequest) (*pb.ListRootsResponse, error) {
	all, err := s.broker.ListRoots(ctx, callerOf(ctx).who.Principal)
	if err != nil {
		return nil, err
	}
	out := &pb.ListRootsResponse{}
	for _, root := range all {
		to := &pb.Root{Name: root.Name, Issuer: root.Issuer, Targets: root.Targets, DueTime: timeTo(root.DueAt)}
		if root.Last != nil {
			last := *root.Last
			last.Receipt = ""
			to.Last = rotationTo(last)
		}
		out.Roots = append(out.Roots, to)
	}
	return out, nil
}

// rotationTo shows everything of a rotation but its notes, which are secrets.
func rotationTo(r cred.Rotation) *pb.Rotation {
	out := &pb.Rotation{
		Id: string(r.ID), Root: r.Root, State: string(r.State()), Step: string(r.Step()), Attempt: int32(min(r.Attempt, 1<<30)),
		NextTime: timeTo(r.NextAt), Why: r.Why, Alarmed: r.Alarmed, By: principalTo(r.By), Reason: r.Reason, RequestId: string(r.Grant),
		Findings: findingsTo(r.Findings), OldName: r.Old, NewName: r.New,
		CreateTime: timeTo(r.CreatedAt), SwitchTime: timeTo(r.SwitchedAt), EndTime: timeTo(r.EndedAt), Receipt: r.Receipt,
	}
	for _, past := range r.Past {
		out.Steps = append(out.Steps, &pb.StepRecord{
			Step: string(past.Step), Outcome: string(past.Outcome), BeginTime: timeTo(past.BegunAt), EndTime: timeTo(past.EndedAt),
			Attempts: int32(min(past.Attempts, 1<<30)), Text: past.Text,
		})
	}
	return out
}

func findingsTo(all []cred.Finding) []*pb.Finding {
	var out []*pb.Finding
	for _, f := range all {
		out = append(out, &pb.Finding{Name: f.Name, Ok: f.OK, Text: f.Text, Open: f.Open})
	}
	return out
}
