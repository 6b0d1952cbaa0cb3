package sdk

import (
	"context"

	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Requests lists what waits for a verdict and the caller may see, oldest first.
func (c *Client) Requests(ctx context.Context) ([]*pb.AccessRequest, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.approval.ListRequests(ctx, &pb.ListRequestsRequest{})
	return r.GetRequests(), fromStatus("requests", err)
}

// Request returns one request, whatever became of it.
func (c *Client) Request(ctx context.Context, id cred.GrantID) (*pb.AccessRequest, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.approval.GetRequest(ctx, &pb.GetRequestRequest{RequestId: string(id)})
	return r.GetRequest(), fromStatus("request", err)
}

// Review gives the caller's verdict on a request. digest is that of the request as it was shown.
func (c *Client) Review(ctx context.Context, id cred.GrantID, digest string, v cred.Verdict) (*pb.AccessRequest, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.approval.Review(ctx, &pb.ReviewRequest{RequestId: string(id), Digest: digest, Approve: v.Approve, Comment: v.Comment})
	return r.GetRequest(), fromStatus("review", err)
}

// WatchRequests calls each with every request that waits, then with nil, then with each that comes or
// changes, until ctx ends or each fails.
func (c *Client) WatchRequests(ctx context.Context, each func(*pb.AccessRequest) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	authorized, err := c.authorize(ctx)
	if err != nil {
		return err
	}
	stream, err := c.approval.Watch(authorized, &pb.WatchRequest{})
	if err != nil {
		return fromStatus("watch", err)
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return fromStatus("watch", err)
		}
		if err := each(r.GetRequest()); err != nil {
			return err
		}
	}
}

// ProposeStanding drafts an approval for requests to come.
func (c *Client) ProposeStanding(ctx context.Context, want *pb.ProposeStandingRequest) (*pb.StandingApproval, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.approval.ProposeStanding(ctx, want)
	return r.GetStanding(), fromStatus("standing", err)
}

// ReviewStanding gives the caller's verdict on a standing approval.
func (c *Client) ReviewStanding(ctx context.Context, id, digest string, v cred.Verdict) (*pb.StandingApproval, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.approval.ReviewStanding(ctx, &pb.ReviewStandingRequest{StandingId: id, Digest: digest, Approve: v.Approve, Comment: v.Comment})
	return r.GetStanding(), fromStatus("standing", err)
}

// Standing lists standing approvals.
func (c *Client) Standing(ctx context.Context) ([]*pb.StandingApproval, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.approval.ListStanding(ctx, &pb.ListStandingRequest{})
	return r.GetStanding(), fromStatus("standing", err)
}

// RevokeStanding ends a standing approval.
func (c *Client) RevokeStanding(ctx context.Context, id, reason string) (*pb.StandingApproval, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.approval.RevokeStanding(ctx, &pb.RevokeStandingRequest{StandingId: id, Reason: reason})
	return r.GetStanding(), fromStatus("standing", err)
}

// Lock sets a lock, and tells what it ended.
func (c *Client) Lock(ctx context.Context, want *pb.LockRequest) (*pb.LockResponse, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.lock.Lock(ctx, want)
	return r, fromStatus("lock", err)
}

// Unlock lifts a lock.
func (c *Client) Unlock(ctx context.Context, id, reason string) (*pb.LockEntry, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.lock.Unlock(ctx, &pb.UnlockRequest{LockId: id, Reason: reason})
	return r.GetLock(), fromStatus("unlock", err)
}

// Locks lists the locks in force.
func (c *Client) Locks(ctx context.Context) ([]*pb.LockEntry, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.lock.ListLocks(ctx, &pb.ListLocksRequest{})
	return r.GetLocks(), fromStatus("locks", err)
}

// Explain tells how a request of the caller's would be decided now.
func (c *Client) Explain(ctx context.Context, want cred.Request) (*pb.ExplainResponse, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.policy.Explain(ctx, &pb.ExplainRequest{Target: want.Target, Scopes: want.Scopes, Params: want.Params})
	return r, fromStatus("explain", err)
}

// Policy returns a rule set that is or was in force, by its hash; empty: the one in force.
func (c *Client) Policy(ctx context.Context, hash string) (*pb.GetPolicyResponse, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.policy.GetPolicy(ctx, &pb.GetPolicyRequest{PolicyHash: hash})
	return r, fromStatus("policy", err)
}

// Policies lists the rule sets that were ever in force.
func (c *Client) Policies(ctx context.Context) ([]*pb.PolicyVersion, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.policy.ListPolicies(ctx, &pb.ListPoliciesRequest{})
	return r.GetPolicies(), fromStatus("policies", err)
}
