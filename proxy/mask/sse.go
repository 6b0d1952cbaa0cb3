package mask

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// The limits of an event stream.
const (
	// maxEvent bounds one event. Answers repeat their whole text in their last events.
	maxEvent = 16 << 20
	// maxHeldBytes bounds the memory of events that are held back. Beyond it, what is not decided is
	// masked as Undecided, and so is what follows in that text.
	maxHeldBytes = 8 << 20
	// maxTexts bounds the texts that are open at the same time. Those beyond are masked whole.
	maxTexts = 256
)

// SSE masks an event stream (text/event-stream), in which a secret may be spread over many events.
// See the package comment.
type SSE struct {
	m      *Masker
	dst    io.Writer
	split  splitter
	texts  map[textKey]*text
	queue  []*event // held back, in order
	held   int      // their sizes
	last   *event   // made of the last block; nil where that was a comment
	out    []byte
	counts tally
	closed bool
	err    error // the destination's, errClosed, or that an event is too long
}

// SSE returns a Stream for event streams that passes the masked events on to dst.
func (m *Masker) SSE(dst io.Writer) *SSE {
	return &SSE{m: m, dst: dst, texts: map[textKey]*text{}, counts: make(tally, len(m.labels))}
}

// Write implements Stream. Its errors are the destination's, and one of kind Exhausted for an event
// longer than 16 MiB.
func (s *SSE) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.split.add(p)
	for {
		raw, ok := s.split.next()
		if !ok {
			break
		}
		s.take(raw)
		if len(s.out) >= chunk {
			if err := s.send(); err != nil {
				return 0, err
			}
		}
	}
	if err := s.send(); err != nil {
		return 0, err
	}
	if len(s.split.buf) > maxEvent {
		s.err = &cred.Error{
			Kind: cred.Exhausted, Op: "mask.sse", Reason: "EVENT_TOO_LONG",
			Public: fmt.Sprintf("an event of the answer is longer than %d MiB, so it can't be masked and was cut off", maxEvent>>20),
		}
		return 0, s.err
	}
	return len(p), nil
}

// Flush implements Stream.
func (s *SSE) Flush() error {
	if s.err != nil {
		return s.err
	}
	s.err = flush(s.dst)
	return s.err
}

// Close implements Stream. An event that the end cut off is passed on if it is whole but for its
// blank line; readers drop it otherwise, and half of a JSON text may hold half of a secret.
func (s *SSE) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.err != nil {
		return s.err
	}
	if raw := s.split.buf; len(raw) > 0 && !cutOff(raw) {
		s.take(raw)
	}
	s.endAll()
	s.release()
	err := s.send()
	s.err = errClosed
	return err
}

// cutOff reports whether a last block is the beginning of a JSON text.
func cutOff(raw []byte) bool {
	b := parseBlock(raw)
	data := bytes.TrimSpace(b.data())
	if len(data) == 0 || !opensJSON(data) {
		return false
	}
	_, whole := readPayload(data)
	return !whole && !isDone(data)
}

// Counts implements Stream.
func (s *SSE) Counts() []Count {
	all := make(tally, len(s.counts))
	all.add(s.counts)
	for _, t := range s.texts {
		all.add(t.engine.counts)
	}
	return s.m.counts(all)
}

// send passes on what is released.
func (s *SSE) send() error {
	if len(s.out) == 0 {
		return nil
	}
	_, s.err = s.dst.Write(s.out)
	s.out = s.out[:0]
	return s.err
}

// take takes the next block of the stream and releases what is decided then. Comments keep idle
// connections alive and mean nothing, so they do not wait for the events before them.
func (s *SSE) take(raw []byte) {
	if string(raw) == "\n" { // a blank line more, or the other half of the last block's last line end
		s.lineEnd()
		return
	}
	b := parseBlock(bytes.Clone(raw))
	if b.fields == 0 && b.comments > 0 {
		s.last = nil
		s.out = s.m.whole(s.out, b.raw, s.counts)
		return
	}
	e := s.read(&b)
	s.last = e
	s.queue = append(s.queue, e)
	s.held += e.size()
	s.release()
	if s.held > maxHeldBytes {
		for _, t := range s.texts {
			if len(t.segs) > 0 {
				t.lose()
			}
		}
		s.release()
	}
}

// lineEnd adds a LF to the last block, wherever that is by now.
func (s *SSE) lineEnd() {
	if s.last == nil || s.last.sent {
		s.out = append(s.out, '\n')
		return
	}
	s.last.addLF()
}

// release writes the events from the front of the queue that wait for nothing.
func (s *SSE) release() {
	n := 0
	for n < len(s.queue) && s.queue[n].waiting == 0 {
		s.out = s.queue[n].appendTo(s.out)
		s.held -= s.queue[n].size()
		s.queue[n].sent = true
		n++
	}
	if n > 0 {
		s.queue = s.queue[:copy(s.queue, s.queue[n:])]
	}
}

// read makes an event of a block, and feeds the texts that it carries parts of.
func (s *SSE) read(b *block) *event {
	e := &event{raw: b.raw, length: len(b.raw), hole: freeByte(b.raw)}
	if len(b.values) == 0 {
		e.setFrame(s.m, b.raw, s.counts)
		return e
	}
	data := b.data()
	if isDone(data) {
		s.endAll()
		e.setFrame(s.m, b.raw, s.counts)
		return e
	}
	if opensJSON(data) {
		if p, ok := readPayload(data); ok {
			s.readJSON(e, b, data, p)
			return e
		}
	}
	s.readPlain(e, b, data)
	return e
}

// isDone reports whether data is what ends a Chat Completions stream.
func isDone(data []byte) bool { return string(bytes.TrimSpace(data)) == "[DONE]" }

func opensJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && strings.IndexByte(`{["-0123456789`, data[0]) >= 0
}

// readJSON feeds the texts of a JSON event, and ends those that it ends.
func (s *SSE) readJSON(e *event, b *block, data []byte, p *payload) {
	flat := bytes.ReplaceAll(e.fill(s.m, data, p, s.counts), []byte("\n"), []byte(" "))
	e.setFrame(s.m, b.with(flat), s.counts)
	k := 0
	for _, l := range p.leaves {
		if l.kind == leafText {
			s.feed(textKey{p.eventType(b), p.scope, l.in.path() + "/" + l.name}, e.segs[k])
			k++
		}
	}
	s.endBy(b, p)
}

// readPlain handles data that is no JSON. An event without a name of its own may be a piece of a
// text; one with a name is masked alone, so that a message such as the address that opens an MCP
// session does not wait for the next.
func (s *SSE) readPlain(e *event, b *block, data []byte) {
	if b.event != "" && b.event != "message" {
		e.setFrame(s.m, b.raw, s.counts)
		return
	}
	e.segs = []*segment{{event: e, text: data, lines: true}}
	e.setFrame(s.m, b.with([]byte{e.hole}), s.counts)
	s.feed(textKey{path: "data"}, e.segs[0])
}

// feed gives a segment to its text.
func (s *SSE) feed(key textKey, seg *segment) {
	t := s.texts[key]
	if t == nil {
		t = newText(s.m)
		if len(s.texts) < maxTexts {
			s.texts[key] = t
		} else {
			t.lost = true
			s.counts[s.m.undecidedRank()]++
			seg.out = s.m.appendMark(nil, s.m.undecidedRank())
		}
	}
	t.feed(seg)
}
