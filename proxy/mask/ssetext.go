package mask

// textKey tells which strings of successive events are one text: those at the same path of events of
// the same type, about the same item.
type textKey struct {
	kind  string
	scope scope
	path  string
}

// text is a text that arrives in the events of a stream. As a sink it hands what its engine has
// decided to the segments, from which the events are written.
type text struct {
	m      *Masker
	engine *engine
	segs   []*segment // not yet decided, in order
	fed    int        // where the next segment begins
	lost   bool       // it could not be held back any longer: all that follows is masked
}

// segment is what one event carries of a text.
type segment struct {
	event   *event
	text    []byte // decoded
	literal []byte // as it stood in the event
	lines   bool   // it is an event's whole data, else a JSON string
	end     int    // its end in the text
	out     []byte // masked
}

func newText(m *Masker) *text {
	t := &text{m: m}
	t.engine = newEngine(m, t)
	return t
}

// feed takes the next segment. Its event waits until all of it is decided.
func (t *text) feed(s *segment) {
	if t.lost {
		return
	}
	t.fed += len(s.text)
	s.end = t.fed
	s.event.waiting++
	t.segs = append(t.segs, s)
	for rest := s.text; len(rest) > 0; {
		n := min(chunk, len(rest))
		t.engine.write(rest[:n])
		rest = rest[n:]
	}
	t.settle()
}

// settle lets go of the segments that are decided.
func (t *text) settle() {
	n := 0
	for n < len(t.segs) && t.segs[n].end <= t.engine.passed() {
		t.segs[n].event.waiting--
		n++
	}
	t.segs = t.segs[n:]
}

// finish decides about what was held back, since the text has ended.
func (t *text) finish() {
	if !t.lost {
		t.engine.finish()
		t.settle()
	}
}

// lose masks all that is not decided, and all that follows.
func (t *text) lose() {
	t.lost = true
	t.engine.counts[t.m.undecidedRank()]++
	for i, s := range t.segs {
		if i == 0 {
			s.out = t.m.appendMark(s.out, t.m.undecidedRank())
		}
		s.event.waiting--
	}
	t.segs = nil
}

func (t *text) plain(b []byte, at int) {
	for _, s := range t.segs {
		if at < s.end {
			n := min(len(b), s.end-at)
			s.out = append(s.out, b[:n]...)
			at += n
			b = b[n:]
		}
		if len(b) == 0 {
			return
		}
	}
}

func (t *text) masked(rank uint8, at int) {
	for _, s := range t.segs {
		if at < s.end {
			s.out = t.m.appendMark(s.out, rank)
			return
		}
	}
}
