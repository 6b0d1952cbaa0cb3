package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"

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
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n" + header + "\r\n")
	conns := make([]*bufio.ReadWriter, connections)
	for i := range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		conns[i] = bufio.NewReadWriter(bufio.NewReaderSize(conn, 8<<10), bufio.NewWriter(conn))
	}
	return perSecond(ctx, connections, b.round, func(n int) error {
		if _, err := conns[n].Write(request); err != nil {
			return err
		}
		if err := conns[n].Flush(); err != nil {
			return err
		}
		return readAnswer(conns[n].Reader)
	})
}

// readAnswer reads an answer with Content-Length; one that is not 200 is an error.
func readAnswer(r *bufio.Reader) error {
	lines := textproto.NewReader(r)
	status, err := lines.ReadLine()
	if err != nil {
		return err
	}
	length := -1
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return err
		}
		if line == "" {
			break
		}
		if value, found := strings.CutPrefix(line, "Content-Length: "); found {
			if length, err = strconv.Atoi(value); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("the answer has no Content-Length")
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200") {
		body, _ := io.ReadAll(io.LimitReader(r, int64(length)))
		return fmt.Errorf("%s: %s", status, body)
	}
	_, err = io.CopyN(io.Discard, r, int64(length))
	return err
}
