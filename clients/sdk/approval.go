package sdk

import (
	"context"

	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Requests lists what waits for a verdict and the caller may see, oldest first.
func (c *Client) Requests(ctx context.Context) ([]*pb.AccessRequest, error) {
	r, err := ask(ctx, c, "requests", c.approval.ListRequests, &pb.ListRequestsRequest{})
	return r.GetRequests(), err
}

// Request returns one request, whatever became of it.
func (c *Client) Request(ctx context.Context, id cred.GrantID) (*pb.AccessRequest, error) {
	r, err := ask(ctx, c, "request", c.approval.GetRequest, &pb.GetRequestRequest{RequestId: string(id)})
	return r.GetRequest(), err
}

// Review gives the caller's verdict on a request. digest is that of the request as it was shown.
func (c *Client) Review(ctx context.Context, id cred.GrantID, digest string, v cred.Verdict) (*pb.AccessRequest, error) {
	r, err := ask(ctx, c, "review", c.approval.Review, &pb.ReviewRequest{RequestId: string(id), Digest: digest, Approve: v.Approve, Comment: v.Comment})
	return r.GetRequest(), err
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
	r, err := ask(ctx, c, "standing", c.approval.ProposeStanding, want)
	return r.GetStanding(), err
}

// ReviewStanding gives the caller's verdict on a standing approval.
func (c *Client) ReviewStanding(ctx context.Context, id, digest string, v cred.Verdict) (*pb.StandingApproval, error) {
	r, err := ask(ctx, c, "standing", c.approval.ReviewStanding, &pb.ReviewStandingRequest{StandingId: id, Digest: digest, Approve: v.Approve, Comment: v.Comment})
	return r.GetStanding(), err
}

// Standing lists standing approvals.
func (c *Client) Standing(ctx context.Context) ([]*pb.StandingApproval, error) {
	r, err := ask(ctx, c, "standing", c.approval.ListStanding, &pb.ListStandingRequest{})
	return r.GetStanding(), err
}

// RevokeStanding ends a standing approval.
func (c *Client) RevokeStanding(ctx context.Context, id, reason string) (*pb.StandingApproval, error) {
	r, err := ask(ctx, c, "standing", c.approval.RevokeStanding, &pb.RevokeStandingRequest{StandingId: id, Reason: reason})
	return r.GetStanding(), err
}

// Lock sets a lock, and tells what it ended.
func (c *Client) Lock(ctx context.Context, want *pb.LockRequest) (*pb.LockResponse, error) {
	return ask(ctx, c, "lock", c.lock.Lock, want)
}

// Unlock lifts a lock.
func (c *Client) Unlock(ctx context.Context, id, reason string) (*pb.LockEntry, error) {
	r, err := ask(ctx, c, "unlock", c.lock.Unlock, &pb.UnlockRequest{LockId: id, Reason: reason})
	return r.GetLock(), err
}

// Locks lists the locks in force.
func (c *Client) Locks(ctx context.Context) ([]*pb.LockEntry, error) {
	r, err := ask(ctx, c, "locks", c.lock.ListLocks, &pb.ListLocksRequest{})
	return r.GetLocks(), err
}

// Explain tells how a request of the caller's would be decided now.
func (c *Client) Explain(ctx context.Context, want cred.Request) (*pb.ExplainResponse, error) {
	return ask(ctx, c, "explain", c.policy.Explain, &pb.ExplainRequest{Target: want.Target, Scopes: want.Scopes, Params: want.Params})
}

// Policy returns a rule set that is or was in force, by its hash; empty: the one in force.
func (c *Client) Policy(ctx context.Context, hash string) (*pb.GetPolicyResponse, error) {
	return ask(ctx, c, "policy", c.policy.GetPolicy, &pb.GetPolicyRequest{PolicyHash: hash})
}

// Policies lists the rule sets that were ever in force.
func (c *Client) Policies(ctx context.Context) ([]*pb.PolicyVersion, error) {
	r, err := ask(ctx, c, "policies", c.policy.ListPolicies, &pb.ListPoliciesRequest{})
	return r.GetPolicies(), err
}
