package kv

import (
	"bytes"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// wire stands between us and PostgreSQL: it keeps what we send, and breaks the connection at one of
// the messages, before it reaches the server, or after the server has done it.
type wire struct {
	l    net.Listener
	to   string
	wg   sync.WaitGroup
	over chan struct{} // closed when the test is

	mu       sync.Mutex // owns what follows
	sent     []byte     // everything that went to the server
	fault    issuertest.Fault
	at       int // which message from now on; zero: none
	seen     int
	vanishes func() // where it is set, the message "commit" reaches nobody, and this is called
}

func newWire(t testing.TB, pg *peers.PostgresServer) *wire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{l: l, to: pg.Addr(), over: make(chan struct{})}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		close(w.over)
		w.wg.Wait()
	})
	return w
}

func (w *wire) address(pg *peers.PostgresServer) string {
	return "postgres://" + w.l.Addr().String() + "/" + pg.Database + "?sslmode=disable"
}

// breakAt breaks the nth message from now on.
func (w *wire) breakAt(fault issuertest.Fault, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault, w.at, w.seen = fault, n, 0
}

// vanishAtCommit has us vanish at the next commit as a machine does whose power fails: PostgreSQL hears no
// more of us, not even that the connection has ended. It tells when that was.
func (w *wire) vanishAtCommit(tell func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vanishes = tell
}

func (w *wire) vanished(p []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.vanishes == nil || !bytes.Contains(p, []byte("commit")) {
		return false
	}
	w.vanishes()
	return true
}

func (w *wire) came() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen >= w.at
}

func (w *wire) holds(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.sent, []byte(text))
}

func (w *wire) next(p []byte) issuertest.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, p...)
	w.seen++
	if w.seen == w.at {
		return w.fault
	}
	return issuertest.None
}

func (w *wire) accept() {
	for {
		client, err := w.l.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() { w.carry(client) })
	}
}

// carry forwards what we send in turns with what the server answers, since neither side sends unasked.
func (w *wire) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var silenced sync.Mutex // held while an answer is being lost
	var answers sync.WaitGroup
	answers.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			silenced.Lock()
			_, failed := client.Write(buf[:n])
			silenced.Unlock()
			if err != nil || failed != nil {
				_ = client.Close()
				return
			}
		}
	})
	defer answers.Wait()
	defer func() { _ = server.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if w.vanished(buf[:n]) {
			_ = client.Close()
			ended := make(chan struct{})
			go func() { answers.Wait(); close(ended) }()
			select {
			case <-ended: // by the server itself
			case <-w.over:
			}
			return
		}
		switch w.next(buf[:n]) {
		case issuertest.Silent:
			for err == nil {
				_, err = client.Read(buf) // until we give up
			}
			return
		case issuertest.NotDone:
			return
		case issuertest.DoneLost:
			silenced.Lock()
			_ = client.Close()
			_, _ = server.Write(buf[:n])
			time.Sleep(100 * time.Millisecond) // for the server to do it; whether it has is looked at afterwards
			silenced.Unlock()
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func directAddress(pg *peers.PostgresServer) string {
	return "postgres://" + net.JoinHostPort(pg.Host, strconv.Itoa(pg.Port)) + "/" + pg.Database + "?sslmode=disable"
}
