package rpc

import (
	"context"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

type lockService struct {
	pb.UnimplementedLockServiceServer
	broker *broker.Broker
}

// Lock sets a lock.
func (s *lockService) Lock(ctx context.Context, r *pb.LockRequest) (*pb.LockResponse, error) {
	if r.GetEverything() != (r.GetSubject() == "" && r.GetTarget() == "" && r.GetIssuer() == "") {
		return nil, &cred.Error{
			Kind: cred.Invalid, Op: "lock", Reason: "LOCK_INVALID",
			Public: "name a subject, a target or both, or else say that everything is to be locked",
		}
	}
	l, n, err := s.broker.Lock(ctx, callerOf(ctx).who.Principal, broker.Lock{
		Issuer: r.GetIssuer(), Subject: r.GetSubject(), Target: r.GetTarget(), Reason: r.GetReason(),
	}, r.GetTtl().AsDuration())
	if err != nil {
		return nil, err
	}
	return &pb.LockResponse{Lock: lockTo(l), RevokedGrants: int64(n)}, nil
}

// Unlock lifts a lock.
func (s *lockService) Unlock(ctx context.Context, r *pb.UnlockRequest) (*pb.UnlockResponse, error) {
	l, err := s.broker.Unlock(ctx, callerOf(ctx).who.Principal, r.GetLockId(), r.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.UnlockResponse{Lock: lockTo(l)}, nil
}

// ListLocks lists the locks in force.
func (s *lockService) ListLocks(ctx context.Context, _ *pb.ListLocksRequest) (*pb.ListLocksResponse, error) {
	all, err := s.broker.ListLocks(ctx, callerOf(ctx).who.Principal)
	if err != nil {
		return nil, err
	}
	out := &pb.ListLocksResponse{}
	for _, l := range all {
		out.Locks = append(out.Locks, lockTo(l))
	}
	return out, nil
}

func lockTo(l broker.Lock) *pb.LockEntry {
	return &pb.LockEntry{
		Id: l.ID, Issuer: l.Issuer, Subject: l.Subject, Target: l.Target, Reason: l.Reason,
		SetBy: principalTo(l.SetBy), CreateTime: timeTo(l.At), ExpireTime: timeTo(l.NotAfter),
	}
}
