package mask

import (
	"math/bits"
	"slices"
)

// chunk is how much of a long text is worked on at a time.
const chunk = 32 << 10

// sink takes what an engine has decided, in order. Places count from the start of the text.
type sink interface {
	plain(b []byte, at int)    // b stands at that place and stays
	masked(rank uint8, at int) // what begins there is masked, once under this rank's name
}

// engine masks a text that arrives in pieces. However it is cut, what leaves is the same.
type engine struct {
	m    *Masker
	sink sink
	v    view
	base int // the place of v.buf's first byte in the text; the rest of the places are in v.buf

	scan    int    // where to look next; everything before it is decided
	sent    int    // everything before it has been passed on, or masked
	covered int    // everything before it, from sent on, is masked
	spans   []span // found, not yet passed; in order of start, then rank
	tails   []*tail
	after   []int // by rank: before this place lies an earlier match of the detector
	finds   []finding
	counts  tally
}

// span is what of the text is to be masked, and the rank of the name.
type span struct {
	start, end int
	rank       uint8
	tail       *tail // where it is still growing
}

// finding is a match with the rank of what found it.
type finding struct {
	match
	rank uint8
}

// tail is a match that grows.
type tail struct {
	grow      grow
	rank      uint8
	pos, end  int
	done      bool
	beingSent bool // its start has been passed
}

func newEngine(m *Masker, to sink) *engine {
	return &engine{m: m, sink: to, after: make([]int, len(m.labels)), counts: make(tally, len(m.labels))}
}

// write takes a piece of at most chunk bytes.
func (e *engine) write(p []byte) {
	e.v.buf = append(e.v.buf, p...)
	e.step()
}

// finish ends the text, once.
func (e *engine) finish() {
	e.v.eof = true
	e.step()
}

// passed returns the place up to which the text has left or is masked.
func (e *engine) passed() int { return e.base + max(e.sent, e.covered) }

// step works on what has arrived.
func (e *engine) step() {
	e.growTails()
	e.look()
	frontier := e.v.escapeStart(e.m.lookback.frontier(e.v.buf, e.scan))
	if e.v.eof {
		frontier = len(e.v.buf)
	}
	e.pass(max(frontier, e.sent))
	e.compact()
}

// look finds all that is decided, up to the first place that is not.
func (e *engine) look() {
	for {
		at, hits := e.m.sieve.next(e.v.buf, e.scan)
		e.scan = at
		if hits == 0 || at+sieveWidth > len(e.v.buf) && !e.v.eof {
			return
		}
		if hits&e.m.numberBits != 0 && e.v.inNumber(at) {
			hits &^= e.m.numberBits
		}
		if hits != 0 && !e.lookAt(at, hits) {
			return
		}
		e.scan++
	}
}

// lookAt asks every detector whose anchor may be at i. It returns false where one is undecided.
func (e *engine) lookAt(i int, hits uint64) bool {
	e.finds = e.finds[:0]
	for h := hits &^ e.m.knownBits; h != 0; h &= h - 1 {
		a := &e.m.actions[bits.TrailingZeros64(h)]
		if i < e.after[a.rank] {
			continue
		}
		switch m := a.find(&e.v, i); m.verdict {
		case undecided:
			return false
		case found:
			e.finds = append(e.finds, finding{m, a.rank})
		}
	}
	if hits&e.m.knownBits != 0 {
		end, is := e.m.known.find(&e.v, i)
		if is == undecided {
			return false
		}
		if is == found {
			e.finds = append(e.finds, finding{matched(i, end), credentialRank})
		}
	}
	for _, f := range e.finds {
		e.commit(f)
	}
	return true
}

// commit takes a match. One that begins in a JSON escape takes what of the escape is before it with
// it: a backslash before the replacement would be an escape that does not exist.
func (e *engine) commit(f finding) {
	s := span{start: f.start, end: f.end, rank: f.rank}
	e.after[s.rank] = max(e.after[s.rank], s.end)
	s.start = e.v.escapeStart(s.start)
	if f.grow != nil {
		s.tail = &tail{grow: f.grow, rank: f.rank, pos: f.end, end: f.end}
		e.tails = append(e.tails, s.tail)
		e.growTail(s.tail)
	}
	at, _ := slices.BinarySearchFunc(e.spans, s, func(a, b span) int {
		if a.start != b.start {
			return a.start - b.start
		}
		return int(a.rank) - int(b.rank)
	})
	e.spans = slices.Insert(e.spans, at, s)
}

func (e *engine) growTails() {
	for _, t := range e.tails {
		e.growTail(t)
	}
}

func (e *engine) growTail(t *tail) {
	if !t.done {
		t.end, t.pos, t.done = t.grow.more(&e.v, t.pos)
	}
	e.after[t.rank] = max(e.after[t.rank], t.end)
}

// pass lets everything before frontier leave. Matches that overlap are one: the first of them
// gives the name.
func (e *engine) pass(frontier int) {
	e.coverTails()
	for len(e.spans) > 0 && e.spans[0].start < frontier {
		s := e.spans[0]
		e.spans = e.spans[:copy(e.spans, e.spans[1:])]
		if s.start >= e.covered {
			e.plain(s.start)
			e.sink.masked(s.rank, e.base+s.start)
			e.counts[s.rank]++
		}
		e.covered = max(e.covered, s.end)
		if s.tail != nil {
			s.tail.beingSent = true
			e.coverTails()
		}
	}
	e.plain(frontier)
}

// coverTails masks as far as the growing matches have grown, and forgets those that have ended.
func (e *engine) coverTails() {
	e.tails = slices.DeleteFunc(e.tails, func(t *tail) bool {
		if t.beingSent {
			e.covered = max(e.covered, t.end)
		}
		return t.beingSent && t.done
	})
}

// plain passes the unmasked text before a place.
func (e *engine) plain(to int) {
	if from := max(e.sent, e.covered); from < to {
		e.sink.plain(e.v.buf[from:to], e.base+from)
	}
	e.sent = max(e.sent, to)
}

// compact forgets what no detector will look at again, once that is half of the buffer.
func (e *engine) compact() {
	n := e.sent
	for _, t := range e.tails {
		n = min(n, t.pos)
	}
	if n -= lookbehind; n <= 0 || n*2 < len(e.v.buf) {
		return
	}
	e.v.drop(n)
	e.base += n
	e.scan, e.sent, e.covered = e.scan-n, e.sent-n, max(0, e.covered-n)
	for i := range e.spans {
		e.spans[i].start -= n
		e.spans[i].end -= n
	}
	for _, t := range e.tails {
		t.pos -= n
		t.end -= n
	}
	for rank := range e.after {
		e.after[rank] = max(0, e.after[rank]-n)
	}
}
