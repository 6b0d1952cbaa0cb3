package mask

import "bytes"

// splitter cuts an event stream into blocks: an event, or a comment, with the blank line that ends it
// (WHATWG HTML, section 9.2.5). Lines end in LF, CR LF or CR.
type splitter struct {
	buf  []byte
	pos  int  // everything before it has been looked at
	line int  // where the line that holds pos begins
	cr   bool // the byte before pos is a CR that ended a line
}

// next returns the next whole block, or false. The block is valid until add.
func (s *splitter) next() ([]byte, bool) {
	for s.pos < len(s.buf) {
		c := s.buf[s.pos]
		s.pos++
		if c == '\n' && s.cr { // the other half of a line end
			s.cr = false
			s.line = s.pos
			if s.pos == 1 { // and of the last block's, which did not wait for it
				return s.take(), true
			}
			continue
		}
		s.cr = c == '\r'
		if c != '\n' && c != '\r' {
			continue
		}
		empty := s.line == s.pos-1
		s.line = s.pos
		if empty {
			if s.cr && s.pos < len(s.buf) && s.buf[s.pos] == '\n' {
				s.pos++
				s.cr = false
			}
			return s.take(), true
		}
	}
	return nil, false
}

func (s *splitter) take() []byte {
	block := s.buf[:s.pos:s.pos]
	s.buf = s.buf[s.pos:]
	s.pos, s.line = 0, 0
	return block
}

// add takes more of the stream.
func (s *splitter) add(p []byte) { s.buf = append(s.buf, p...) }

// block is one block's fields.
type block struct {
	raw      []byte
	event    string   // the value of its event field
	values   [][2]int // where in raw the values of its data fields are
	lines    [][2]int // where in raw the lines of its data fields are, with their ends
	fields   int      // how many fields of any name it has
	comments int
}

var utf8BOM = []byte("\xef\xbb\xbf")

// parseBlock finds a block's fields.
func parseBlock(raw []byte) block {
	b := block{raw: raw}
	at := 0
	if bytes.HasPrefix(raw, utf8BOM) {
		at = len(utf8BOM)
	}
	for at < len(raw) {
		end := at
		for end < len(raw) && raw[end] != '\n' && raw[end] != '\r' {
			end++
		}
		next := min(end+1, len(raw))
		if next < len(raw) && raw[end] == '\r' && raw[next] == '\n' {
			next++
		}
		b.field(at, end, next)
		at = next
	}
	return b
}

// field notes the field on the line from at to end; the next line begins at next.
func (b *block) field(at, end, next int) {
	if at == end {
		return
	}
	if b.raw[at] == ':' {
		b.comments++
		return
	}
	b.fields++
	name, value := b.raw[at:end], end
	if colon := bytes.IndexByte(name, ':'); colon >= 0 {
		name, value = name[:colon], at+colon+1
		if value < end && b.raw[value] == ' ' {
			value++
		}
	}
	switch string(name) {
	case "event":
		b.event = string(b.raw[value:end])
	case "data":
		b.values = append(b.values, [2]int{value, end})
		b.lines = append(b.lines, [2]int{at, next})
	}
}

// data returns the event's data, its lines joined by LF.
func (b *block) data() []byte {
	if len(b.values) == 1 {
		return b.raw[b.values[0][0]:b.values[0][1]]
	}
	var all []byte
	for i, v := range b.values {
		if i > 0 {
			all = append(all, '\n')
		}
		all = append(all, b.raw[v[0]:v[1]]...)
	}
	return all
}

// with returns the block with other data in one line.
func (b *block) with(data []byte) []byte {
	out := append([]byte{}, b.raw[:b.values[0][0]]...)
	if out[len(out)-1] != ' ' && out[len(out)-1] != ':' { // a data line without a colon
		out = append(out, ':')
	}
	out = append(out, data...)
	at := b.values[0][1]
	for _, line := range b.lines[1:] {
		// What the first line's end is ends the one line that is left.
		if line[0] > at {
			out = append(out, b.raw[at:line[0]]...)
		}
		at = line[1]
	}
	return append(out, b.raw[at:]...)
}
