package e2e_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// wire stands between the broker and PostgreSQL, and loses an answer.
type wire struct {
	addr string

	mu   sync.Mutex    // owns lost
	lost chan struct{} // of the next commit the answer is lost, and this is closed then; nil: none is
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{addr: l.Addr().String()}
	var carried sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); carried.Wait() })
	carried.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			carried.Go(func() { w.carry(client, to) })
		}
	})
	return w
}

// loseCommit has PostgreSQL do the next commit, and the broker not hear of it. The channel is closed when
// that has happened.
func (w *wire) loseCommit() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = make(chan struct{})
	return w.lost
}

// losing reports, once, that a message is the commit whose answer is to be lost.
func (w *wire) losing(message []byte) (lost chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !bytes.Contains(message, []byte("commit\x00")) {
		return nil
	}
	lost, w.lost = w.lost, nil
	return lost
}

// carry forwards what the broker sends, and what PostgreSQL answers, until either hangs up.
func (w *wire) carry(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	asked := make(chan struct{}) // closed before the message is sent whose answer is lost
	var lost chan struct{}       // closed after its answer has come
	var answers sync.WaitGroup
	defer answers.Wait()
	defer server.Close()
	answers.Go(func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			select {
			case <-asked:
				_ = client.Close()
				close(lost)
				return
			default:
			}
			if _, failed := client.Write(buf[:n]); err != nil || failed != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if l := w.losing(buf[:n]); l != nil {
			lost = l
			close(asked)
			_, _ = server.Write(buf[:n])
			_, _ = io.Copy(io.Discard, client) // until the answer has come
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}
