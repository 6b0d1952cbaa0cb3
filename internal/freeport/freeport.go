// Package freeport finds ports for servers that tests, benchmarks and the demo start as processes of their
// own.
package freeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from here: below the range from which systems choose ports for outgoing connections
// (RFC 6335 has it begin at 49152, Linux at 32768), so that nobody takes one before its server listens, or
// while that is killed and started again.
const (
	first = 10000
	last  = 32000
)

// Addr returns an address of 127.0.0.1 on which nobody listens.
func Addr() (string, error) {
	var failed error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first)) //nolint:gosec // spreads ports, protects nothing
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		failed = errors.Join(failed, err)
	}
	return "", fmt.Errorf("no port is free: %w", failed)
}
