package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Listen listens on a TCP address. Its errors are for people.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, HintedError{
			Err:  fmt.Errorf("another program listens on %s already", address),
			Hint: "stop it, or set another address to listen on",
		}
	case err != nil:
		return nil, fmt.Errorf("can't listen on %s: %w", address, err)
	}
	return l, nil
}
