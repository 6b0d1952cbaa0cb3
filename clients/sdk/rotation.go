package sdk

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Rotate begins the rotation of a root, named by itself or by an issuer or target that has one root.
func (c *Client) Rotate(ctx context.Context, root, reason string) (*pb.Rotation, error) {
	r, err := ask(ctx, c, "rotate", c.rotation.Rotate, &pb.RotateRequest{Root: root, Reason: reason})
	return r.GetRotation(), err
}

// CheckRotation looks at whether a rotation could succeed, and changes nothing.
func (c *Client) CheckRotation(ctx context.Context, root string) (*pb.CheckRotationResponse, error) {
	return ask(ctx, c, "rotate", c.rotation.CheckRotation, &pb.CheckRotationRequest{Root: root})
}

// Rotation returns one rotation, with its receipt once it is done.
func (c *Client) Rotation(ctx context.Context, id cred.RotationID) (*pb.Rotation, error) {
	r, err := ask(ctx, c, "rotation", c.rotation.GetRotation, &pb.GetRotationRequest{RotationId: string(id)})
	return r.GetRotation(), err
}

// WatchRotation calls each with a rotation as it stands and at each change, and returns once it is over,
// ctx ends or each fails. It asks again where the connection is lost: a rotation goes on when the broker
// is started anew.
func (c *Client) WatchRotation(ctx context.Context, id cred.RotationID, each func(*pb.Rotation) error) error {
	for {
		over, err := c.watchOnce(ctx, id, each)
		if over || err != nil && cred.KindOf(err) != cred.Unavailable || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (c *Client) watchOnce(ctx context.Context, id cred.RotationID, each func(*pb.Rotation) error) (over bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	authorized, err := c.authorize(ctx)
	if err != nil {
		return true, err
	}
	stream, err := c.rotation.WatchRotation(authorized, &pb.WatchRotationRequest{RotationId: string(id)})
	if err != nil {
		return false, fromStatus("rotation", err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return over, nil // or the broker is stopping
		}
		if err != nil {
			return false, fromStatus("rotation", err)
		}
		if err := each(r.GetRotation()); err != nil {
			return true, err
		}
		over = r.GetRotation().GetEndTime() != nil
	}
}

// Rotations lists rotations, newest first; zero asks for the broker's own limit.
func (c *Client) Rotations(ctx context.Context, limit int) ([]*pb.Rotation, error) {
	r, err := ask(ctx, c, "rotations", c.rotation.ListRotations, &pb.ListRotationsRequest{Limit: int32(limit)})
	return r.GetRotations(), err
}

// Roots lists what can be rotated.
func (c *Client) Roots(ctx context.Context) ([]*pb.Root, error) {
	r, err := ask(ctx, c, "roots", c.rotation.ListRoots, &pb.ListRootsRequest{})
	return r.GetRoots(), err
}
