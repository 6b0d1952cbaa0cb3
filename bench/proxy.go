package main

import (
	"context"
	"fmt"

	"github.com/daypass-io/daypass/cred"
)

// connections is how many keep-alive connections the load has.
const connections = 32

// benchProxy compares the proxy, with verification, masking and durable records, with a bare
// httputil.ReverseProxy in a process of its own, before the same upstream.
func benchProxy(ctx context.Context, b *bench) ([]result, error) {
	upstream, up, err := self("upstream")
	if err != nil {
		return nil, err
	}
	defer up.stop()
	bare, rp, err := self("reverseproxy", "http://"+upstream)
	if err != nil {
		return nil, err
	}
	defer rp.stop()
	c, err := startCluster(ctx, b.dir, upstream, overTLS)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	if err := c.startProxy(); err != nil {
		return nil, err
	}
	granted, err := c.client.Exchange(ctx, cred.Request{Target: "api"})
	if err != nil {
		return nil, err
	}
	header := "Authorization: Bearer " + granted.Token.RevealString() + "\r\n"
	ours, theirs, err := b.inTurn(
		func() (float64, error) { return httpLoad(ctx, b, c.proxy, "/api/v1/text", header) },
		func() (float64, error) { return httpLoad(ctx, b, bare, "/v1/text", header) },
	)
	if err != nil {
		return nil, err
	}
	return []result{ratio(fmt.Sprintf("proxy: 1 KiB JSON, %d connections", connections), "requests/s", ours, theirs, "a bare httputil.ReverseProxy", "≥ 0.60")}, nil
}

// httpLoad sends one request after another on each connection and reads each answer in full. It
// knows no more of HTTP than it needs, to leave the processor to the servers.
func httpLoad(ctx context.Context, b *bench, addr, path, header string) (float64, error) {
	conns, closeAll, err := dialAll(addr, connections)
	if err != nil {
		return 0, err
	}
	defer closeAll()
	return perSecond(ctx, connections, b.round, func(n int) error { return conns[n].get(path, header) })
}
