package notice

import (
	"io"
	"net"
	"sync"
)

// maxReached bounds how many notices reached remembers.
const maxReached = 1000

// reached remembers who has had a notice that goes on to be tried for others. A crash forgets it, and
// then they get it twice, with the same Message-ID.
type reached struct {
	mu sync.Mutex
	by map[string][]string // recipients by the notice's ID; guarded by mu
}

func (r *reached) of(id string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[id]
}

// add notes recipients and returns how many have had the notice.
func (r *reached) add(id string, to []string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(to) == 0 {
		return len(r.by[id])
	}
	if r.by == nil {
		r.by = map[string][]string{}
	}
	for old := range r.by {
		if len(r.by) < maxReached {
			break
		}
		delete(r.by, old)
	}
	r.by[id] = append(r.by[id], to...)
	return len(r.by[id])
}

func (r *reached) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.by, id)
}

// maxReplies bounds what is read of a mail server in one session, in bytes.
const maxReplies = 1 << 20

// bounded is a connection that ends after so many bytes from the other side.
type bounded struct {
	net.Conn
	left int
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
