package mask

import (
	"errors"
	"io"
	"sync"
)

// errClosed answers a Write behind Close.
var errClosed = errors.New("mask: the text has ended: Write after Close")

// Writer masks a text and passes it on. It holds back at most what the package comment says.
type Writer struct {
	engine *engine
	dst    io.Writer
	out    outBuffer
	room   *room // owner: the Writer until it is closed
	closed bool
	err    error // the destination's, or errClosed
}

// Writer returns a Writer that passes the masked text on to dst.
func (m *Masker) Writer(dst io.Writer) *Writer {
	w := &Writer{dst: dst, out: outBuffer{m: m}}
	w.engine = newEngine(m, &w.out)
	w.room = rooms.Get().(*room)
	w.engine.v.buf, w.out.b = w.room.in[:0], w.room.out[:0]
	return w
}

// room is what a Writer works in. One that is closed gives it back for the next.
type room struct{ in, out []byte }

var rooms = sync.Pool{New: func() any { return new(room) }}

// mostRoom is what is kept of either half: a chunk and what may be held back.
const mostRoom = chunk + 2*maxHold

// leave gives the room back.
func (w *Writer) leave() {
	r := w.room
	if r.in, r.out = w.engine.v.buf, w.out.b; cap(r.in) <= mostRoom && cap(r.out) <= mostRoom {
		rooms.Put(r)
	}
	w.engine.v.buf, w.out.b, w.room = nil, nil, nil
}

// Write implements Stream.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	for done := 0; done < len(p); {
		n := min(chunk, len(p)-done)
		w.engine.write(p[done : done+n])
		if err := w.send(); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

// Flush implements Stream. Write passes on at once what is decided, so only dst is left to flush.
func (w *Writer) Flush() error {
	if w.err != nil {
		return w.err
	}
	w.err = flush(w.dst)
	return w.err
}

// flush flushes dst where it can, as http.Flusher and bufio.Writer do.
func flush(dst io.Writer) error {
	switch f := dst.(type) {
	case interface{ Flush() error }:
		return f.Flush()
	case interface{ Flush() }:
		f.Flush()
	}
	return nil
}

// Close implements Stream. A second Close does nothing.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	defer w.leave()
	if w.err != nil {
		return w.err
	}
	w.engine.finish()
	err := w.send()
	w.err = errClosed
	return err
}

// Counts implements Stream.
func (w *Writer) Counts() []Count { return w.out.m.counts(w.engine.counts) }

// send passes on what is decided.
func (w *Writer) send() error {
	if len(w.out.b) == 0 {
		return nil
	}
	_, w.err = w.dst.Write(w.out.b)
	w.out.b = w.out.b[:0]
	return w.err
}

// outBuffer collects what an engine has decided.
type outBuffer struct {
	m *Masker
	b []byte
}

func (o *outBuffer) plain(b []byte, _ int)    { o.b = append(o.b, b...) }
func (o *outBuffer) masked(rank uint8, _ int) { o.b = o.m.appendMark(o.b, rank) }
