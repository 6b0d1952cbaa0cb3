package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

type policyService struct {
	pb.UnimplementedPolicyServiceServer
	broker *broker.Broker
}

// Explain tells how a request would be decided.
func (s *policyService) Explain(ctx context.Context, r *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	d := s.broker.Explain(callerOf(ctx).who.Principal, cred.Request{Target: r.GetTarget(), Scopes: r.GetScopes(), Params: r.GetParams()})
	out := &pb.ExplainResponse{
		Allowed: d.Allowed, Rule: d.Rule, Reason: d.Reason, Message: d.Public, Ttl: durationpb.New(d.TTL), PolicyHash: d.PolicyHash,
	}
	if d.Demand != nil {
		out.Demand = demandTo(*d.Demand)
	}
	for _, rule := range d.Rules {
		out.Rules = append(out.Rules, &pb.RuleResult{Rule: rule.Rule, Matched: rule.Matched, Failed: rule.Failed})
	}
	return out, nil
}

// GetPolicy returns a rule set.
func (s *policyService) GetPolicy(ctx context.Context, r *pb.GetPolicyRequest) (*pb.GetPolicyResponse, error) {
	hash, text, err := s.broker.PolicyText(ctx, callerOf(ctx).who.Principal, r.GetPolicyHash())
	if err != nil {
		return nil, err
	}
	return &pb.GetPolicyResponse{PolicyHash: hash, Text: string(text)}, nil
}

// ListPolicies lists the rule sets that were ever in force.
func (s *policyService) ListPolicies(ctx context.Context, _ *pb.ListPoliciesRequest) (*pb.ListPoliciesResponse, error) {
	all, current, err := s.broker.Policies(ctx, callerOf(ctx).who.Principal)
	if err != nil {
		return nil, err
	}
	out := &pb.ListPoliciesResponse{}
	for _, hash := range all {
		out.Policies = append(out.Policies, &pb.PolicyVersion{PolicyHash: hash, Current: hash == current})
	}
	return out, nil
}
