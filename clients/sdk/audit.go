package sdk

import (
	"context"
	"errors"
	"io"

	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Grants returns one page of grants, newest first, and the token of the next page.
func (c *Client) Grants(ctx context.Context, r *pb.ListGrantsRequest) ([]*pb.Grant, string, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, "", err
	}
	out, err := c.audit.ListGrants(ctx, r)
	return out.GetGrants(), out.GetNextPageToken(), fromStatus("grants", err)
}

// Grant returns one grant and its leases.
func (c *Client) Grant(ctx context.Context, id cred.GrantID) (*pb.GetGrantResponse, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	out, err := c.audit.GetGrant(ctx, &pb.GetGrantRequest{GrantId: string(id)})
	return out, fromStatus("grant", err)
}

// Export calls each for every entry that matches, and returns the checkpoint that covers them. A
// stream that ends without its checkpoint is an error: entries may be missing.
func (c *Client) Export(ctx context.Context, r *pb.ExportRequest, each func(*pb.ExportedEntry) error) (*pb.Checkpoint, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := c.audit.Export(ctx, r)
	if err != nil {
		return nil, fromStatus("export", err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, &cred.Error{Kind: cred.Unavailable, Op: "export", Public: "the export ended before its checkpoint; it is not complete"}
		}
		if err != nil {
			return nil, fromStatus("export", err)
		}
		if cp := m.GetCheckpoint(); cp != nil {
			return cp, nil
		}
		if err := each(m.GetEntry()); err != nil {
			return nil, err
		}
	}
}

// Checkpoint returns a signed checkpoint of the log as it is now.
func (c *Client) Checkpoint(ctx context.Context) (*pb.Checkpoint, error) {
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	out, err := c.audit.GetCheckpoint(ctx, &pb.GetCheckpointRequest{})
	return out.GetCheckpoint(), fromStatus("checkpoint", err)
}
