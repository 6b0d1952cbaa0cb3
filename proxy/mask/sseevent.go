package mask

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// freeByte returns a control character that does not occur in raw. It stands in an event's frame for
// each segment; no detector takes it for a part of anything. Where there is none, which takes an
// event made for it, zero is returned, and the segments are left out and counted as Undecided.
func freeByte(raw []byte) byte {
	for c := byte(1); c < ' '; c++ {
		if c != '\t' && c != '\n' && c != '\r' && bytes.IndexByte(raw, c) < 0 {
			return c
		}
	}
	return 0
}

// event is a block that waits for its texts to be decided.
type event struct {
	raw     []byte   // as it arrived
	frame   [][]byte // what stands around the segments, masked; one more than there are segments
	segs    []*segment
	waiting int  // segments that are not decided
	changed bool // something in the frame was masked
	sent    bool
	hole    byte // see freeByte
	length  int  // of raw when it was queued
}

// size is how much memory the event takes, roughly.
func (e *event) size() int {
	const overhead = 256
	return 3*e.length + overhead*(1+len(e.segs))
}

// addLF adds a LF behind the event.
func (e *event) addLF() {
	last := len(e.frame) - 1
	e.raw = append(e.raw, '\n')
	e.frame[last] = append(slices.Clip(e.frame[last]), '\n')
}

// appendTo appends the event as it is to be sent: where nothing was masked, as it arrived.
func (e *event) appendTo(b []byte) []byte {
	clean := !e.changed
	for _, s := range e.segs {
		clean = clean && bytes.Equal(s.out, s.text)
	}
	if clean {
		return append(b, e.raw...)
	}
	for i, part := range e.frame {
		b = append(b, part...)
		if i < len(e.frame)-1 {
			b = e.segs[i].appendTo(b)
		}
	}
	return b
}

func (s *segment) appendTo(b []byte) []byte {
	switch {
	case s.lines:
		return append(b, bytes.ReplaceAll(s.out, []byte("\n"), []byte("\ndata: "))...)
	case bytes.Equal(s.out, s.text):
		return append(b, s.literal...)
	}
	quoted, _ := jsontext.AppendQuote(b, s.out) // bytes that are no UTF-8 are replaced
	return quoted
}

// setFrame masks what stands around the segments and cuts it at the holes. Where that is not
// possible any more, the segments are left out: something that covers one of them was masked.
func (e *event) setFrame(m *Masker, frame []byte, t tally) {
	before := t.sum()
	frame = m.whole(nil, frame, t)
	if endsLine(e.raw) && !endsLine(frame) { // the blank line was masked too
		frame = append(frame, "\n\n"...)
	}
	e.changed = e.changed || t.sum() != before
	if len(e.segs) == 0 {
		e.frame = [][]byte{frame}
		return
	}
	if e.hole == 0 {
		t[m.undecidedRank()]++
	}
	e.frame = bytes.Split(frame, []byte{e.hole})
	if len(e.frame) != len(e.segs)+1 || e.hole == 0 {
		e.changed = true
		e.frame = [][]byte{bytes.Join(e.frame, nil)}
	}
}

func endsLine(b []byte) bool {
	return len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r')
}

// fill writes the payload of an event with every leaf masked that stands alone, and holes for texts.
func (e *event) fill(m *Masker, data []byte, p *payload, t tally) []byte {
	var out []byte
	at := 0
	for _, l := range p.leaves {
		out = append(out, data[at:l.start]...)
		at = l.end
		literal := data[l.start:l.end]
		switch l.kind {
		case leafDrop:
			if len(literal) > len("[]") {
				literal = []byte("null")
				e.changed = true
			}
			out = append(out, literal...)
		case leafText:
			out = append(out, e.hole)
			e.segs = append(e.segs, &segment{event: e, text: decoded(literal), literal: literal})
		default:
			masked, changed := m.leaf(literal, l.kind, t)
			out = append(out, masked...)
			e.changed = e.changed || changed
		}
	}
	return append(out, data[at:]...)
}

// leaf masks a JSON string or number on its own.
func (m *Masker) leaf(literal []byte, kind leafKind, t tally) (masked []byte, changed bool) {
	value := literal
	if kind == leafAlone {
		value = decoded(literal)
	}
	if m.Clean(value) {
		return literal, false
	}
	before := t.sum()
	out := m.whole(nil, value, t)
	if t.sum() == before {
		return literal, false
	}
	quoted, _ := jsontext.AppendQuote(nil, out) // bytes that are no UTF-8 are replaced
	return quoted, true
}
