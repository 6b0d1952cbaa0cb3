package sdk

import (
	"context"

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
	return follow(ctx, c, "rotation", c.rotation.WatchRotation, &pb.WatchRotationRequest{RotationId: string(id)}, func(r *pb.WatchRotationResponse) (bool, error) {
		return r.GetRotation().GetEndTime() != nil, each(r.GetRotation())
	})
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
