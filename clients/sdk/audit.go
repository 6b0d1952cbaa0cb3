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
	out, err := ask(ctx, c, "grants", c.audit.ListGrants, r)
	return out.GetGrants(), out.GetNextPageToken(), err
}

// Grant returns one grant and its leases.
func (c *Client) Grant(ctx context.Context, id cred.GrantID) (*pb.GetGrantResponse, error) {
	return ask(ctx, c, "grant", c.audit.GetGrant, &pb.GetGrantRequest{GrantId: string(id)})
}

// Leases returns one page of leases over all grants, and the token of the next page.
func (c *Client) Leases(ctx context.Context, r *pb.ListLeasesRequest) ([]*pb.Lease, string, error) {
	out, err := ask(ctx, c, "leases", c.audit.ListLeases, r)
	return out.GetLeases(), out.GetNextPageToken(), err
}

// Sources returns what the last comparisons of leases with the sources' own lists found.
func (c *Client) Sources(ctx context.Context) ([]*pb.SourceReport, error) {
	out, err := ask(ctx, c, "sources", c.audit.ListSources, &pb.ListSourcesRequest{})
	return out.GetSources(), err
}

// Export calls each for every entry that matches, and returns the checkpoint that covers them. A
// stream that does not end with its checkpoint is an error: entries may be missing. An error of each
// ends the export and is returned as it is.
func (c *Client) Export(ctx context.Context, r *pb.ExportRequest, each func(*pb.ExportedEntry) error) (*pb.Checkpoint, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // frees the stream where it is left early
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := c.audit.Export(ctx, r)
	if err != nil {
		return nil, fromStatus("export", err)
	}
	var checkpoint *pb.Checkpoint
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && checkpoint != nil:
			return checkpoint, nil
		case errors.Is(err, io.EOF):
			return nil, brokenExport("the export ended before its checkpoint; it is not complete")
		case err != nil:
			return nil, fromStatus("export", err)
		case checkpoint != nil || m.GetEntry() == nil && m.GetCheckpoint() == nil:
			return nil, brokenExport("the export holds what this client does not know; it is not complete")
		}
		if checkpoint = m.GetCheckpoint(); checkpoint != nil {
			continue
		}
		if err := each(m.GetEntry()); err != nil {
			return nil, err
		}
	}
}

func brokenExport(public string) error {
	return &cred.Error{Kind: cred.Unavailable, Op: "export", Reason: "EXPORT_INCOMPLETE", Public: public}
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
