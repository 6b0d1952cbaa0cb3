package freeport_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/daypass-io/daypass/internal/freeport"
)

func TestAddr(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		addr, err := freeport.Addr()
		if err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(addr)
		if n, _ := strconv.Atoi(port); err != nil || n < 10000 || n >= 32768 || seen[addr] {
			t.Errorf("got %s, seen %v", addr, seen[addr])
		}
		l, err := net.Listen("tcp", addr) // which is kept, so that the next one differs
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		seen[addr] = true
	}
}
