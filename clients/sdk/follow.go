package sdk

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/daypass-io/daypass/cred"
)

// follow calls each with what a stream brings until that says that it is over, and comes back to the
// broker where the connection breaks or the broker stops.
func follow[Q, R any](ctx context.Context, c *Client, op string, open func(context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[R], error), req *Q, each func(*R) (over bool, err error)) error {
	for {
		over, err := followOnce(ctx, c, op, open, req, each)
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

func followOnce[Q, R any](ctx context.Context, c *Client, op string, open func(context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[R], error), req *Q, each func(*R) (over bool, err error)) (over bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	authorized, err := c.authorize(ctx)
	if err != nil {
		return true, err
	}
	stream, err := open(authorized, req)
	if err != nil {
		return false, fromStatus(op, err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fromStatus(op, err)
		}
		if over, err := each(r); err != nil || over {
			return true, err
		}
	}
}
