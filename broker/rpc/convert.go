package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func requestFrom(r *pb.ExchangeRequest) cred.Request {
	return cred.Request{
		Target: r.GetTarget(), Scopes: r.GetScopes(), Params: r.GetParams(),
		TTL: r.GetTtl().AsDuration(), Reason: r.GetReason(), IdempotencyKey: r.GetIdempotencyKey(),
	}
}

func principalTo(p cred.Principal) *pb.Principal {
	return &pb.Principal{
		Provider: p.Provider, Issuer: p.Issuer, Subject: p.Subject, Name: p.Name,
		Kind: string(p.Kind), Groups: p.Groups,
	}
}

func grantTo(g cred.Grant) *pb.Grant {
	return &pb.Grant{
		Id: string(g.ID), State: string(g.State()), Holder: principalTo(g.Holder),
		Target: g.Want.Target, Scopes: g.Want.Scopes, Reason: g.Want.Reason,
		Rule: g.Rule, PolicyHash: g.PolicyHash,
		CreateTime: timeTo(g.CreatedAt), ExpireTime: timeTo(g.NotAfter), EndTime: timeTo(g.EndedAt), EndReason: g.EndReason,
		Binding: string(g.Want.Binding), Renewals: int32(min(g.Renewals, 1<<30)), ReviewDueTime: reviewDue(g),
	}
}

func reviewDue(g cred.Grant) *timestamppb.Timestamp {
	if g.Review == nil || g.Review.SignedOff != nil {
		return nil
	}
	return timeTo(g.Review.Due)
}

func leaseTo(l cred.Lease) *pb.Lease {
	return &pb.Lease{
		Id: string(l.ID), GrantId: string(l.Grant), Issuer: l.Issuer, State: string(l.State()),
		Revocable: l.Revocable, Fingerprint: l.Fingerprint.String(), ExpireTime: timeTo(l.NotAfter), Note: l.Note,
	}
}

func leasesTo(ls []cred.Lease) []*pb.Lease {
	out := make([]*pb.Lease, len(ls))
	for i, l := range ls {
		out[i] = leaseTo(l)
	}
	return out
}

// credentialTo reveals a credential: the one place where it goes onto the wire.
func credentialTo(r broker.Redeemed) *pb.Credential {
	fields := make(map[string]string, len(r.Credential.Fields))
	for name, secret := range r.Credential.Fields {
		fields[name] = secret.RevealString()
	}
	return &pb.Credential{
		Type: string(r.Credential.Type), Fields: fields,
		ExpireTime: timeTo(r.Credential.NotAfter), LeaseId: string(r.Lease.ID),
	}
}

func targetTo(t cred.Target) *pb.ProxyTarget {
	out := &pb.ProxyTarget{Name: t.Name, MaskDetectors: t.Mask.Detectors}
	if h := t.HTTP; h != nil {
		out.Upstream, out.AllowPrivate = h.Upstream, h.AllowPrivate
		out.InjectKind, out.InjectName = string(h.Inject.Kind), h.Inject.Name
		out.InjectPrefix, out.InjectField = h.Inject.Prefix, h.Inject.Field
	}
	return out
}

func deliveryTo(d cred.Delivery) pb.Delivery {
	switch d {
	case cred.DeliverDirect:
		return pb.Delivery_DELIVERY_DIRECT
	case cred.DeliverProxy:
		return pb.Delivery_DELIVERY_PROXY
	default:
		return pb.Delivery_DELIVERY_UNSPECIFIED
	}
}

// timeTo leaves an absent instant unset.
func timeTo(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFrom(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
