package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
)

// httpConn is a client that costs next to nothing: client and server share the processors, and what the
// client takes is missing in both sides of a ratio.
type httpConn struct {
	*bufio.ReadWriter
	net.Conn
	host string
}

func dialHTTP(addr string) (*httpConn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &httpConn{bufio.NewReadWriter(bufio.NewReaderSize(conn, 8<<10), bufio.NewWriter(conn)), conn, addr}, nil
}

// dialAll opens so many connections; close closes them.
func dialAll(addr string, n int) (conns []*httpConn, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range conns {
			_ = c.Conn.Close()
		}
	}
	for range n {
		c, err := dialHTTP(addr)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, c)
	}
	return conns, closeAll, nil
}

// get sends a request with header lines of the caller's, each ended, and expects 200.
func (c *httpConn) get(path, header string) error {
	return c.do("GET "+path+" HTTP/1.1\r\nHost: "+c.host+"\r\n"+header+"\r\n", nil)
}

// post sends a body and expects 200.
func (c *httpConn) post(path, contentType string, body []byte) error {
	return c.do("POST "+path+" HTTP/1.1\r\nHost: "+c.host+"\r\nContent-Type: "+contentType+"\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n", body)
}

func (c *httpConn) do(head string, body []byte) error {
	if _, err := c.WriteString(head); err != nil {
		return err
	}
	if _, err := c.ReadWriter.Write(body); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	return readAnswer(c.Reader)
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
