package mask

import (
	"errors"
	"io"
	"math/bits"
	"slices"
)

// chunk is how much of a long Write is worked on at a time.
const chunk = 32 << 10

// errClosed answers a Write behind Close.
var errClosed = errors.New("mask: the text has ended: Write after Close")

// Writer masks a text that arrives in pieces. However it is cut, what leaves is the same.
type Writer struct {
	m   *Masker
	dst io.Writer
	v   view

	scan   int    // where to look next; everything before it is decided
	sent   int    // everything before it has been passed on, or masked
	masked int    // everything before it, from sent on, is masked
	spans  []span // found, not yet passed; in order of start, then rank
	tails  []*tail
	after  []int // by rank: before this place lies an earlier match of the detector
	finds  []finding
	counts tally
	out    []byte
	err    error // the destination's, or errClosed
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

// Writer returns a Writer that passes the masked text on to dst.
func (m *Masker) Writer(dst io.Writer) *Writer {
	return &Writer{m: m, dst: dst, after: make([]int, len(m.labels)), counts: make(tally, len(m.labels))}
}

// Write implements Stream.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	for done := 0; done < len(p); {
		n := min(chunk, len(p)-done)
		w.v.buf = append(w.v.buf, p[done:done+n]...)
		if err := w.step(); err != nil {
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
	if w.v.eof {
		return nil
	}
	w.v.eof = true
	if w.err != nil {
		return w.err
	}
	err := w.step()
	w.err = errClosed
	return err
}

// Counts implements Stream.
func (w *Writer) Counts() []Count { return w.m.counts(w.counts) }

// step works on what has arrived.
func (w *Writer) step() error {
	w.growTails()
	w.look()
	frontier := w.m.lookback.frontier(w.v.buf, w.scan)
	if w.v.eof {
		frontier = len(w.v.buf)
	}
	w.pass(max(frontier, w.sent))
	w.compact()
	return w.send()
}

// look finds all that is decided, up to the first place that is not.
func (w *Writer) look() {
	for {
		at, hits := w.m.sieve.next(w.v.buf, w.scan)
		w.scan = at
		if hits == 0 || at+sieveWidth > len(w.v.buf) && !w.v.eof {
			return
		}
		if hits&w.m.numberBits != 0 && w.v.inNumber(at) {
			hits &^= w.m.numberBits
		}
		if hits != 0 && !w.lookAt(at, hits) {
			return
		}
		w.scan++
	}
}

// lookAt asks every detector whose anchor may be at i. It returns false where one is undecided.
func (w *Writer) lookAt(i int, hits uint64) bool {
	w.finds = w.finds[:0]
	for h := hits &^ w.m.knownBits; h != 0; h &= h - 1 {
		a := &w.m.actions[bits.TrailingZeros64(h)]
		if i < w.after[a.rank] {
			continue
		}
		switch m := a.find(&w.v, i); m.verdict {
		case undecided:
			return false
		case found:
			w.finds = append(w.finds, finding{m, a.rank})
		}
	}
	if hits&w.m.knownBits != 0 {
		end, is := w.m.known.find(&w.v, i)
		if is == undecided {
			return false
		}
		if is == found {
			w.finds = append(w.finds, finding{matched(i, end), credentialRank})
		}
	}
	for _, f := range w.finds {
		w.commit(f)
	}
	return true
}

// commit takes a match. One that begins in a JSON escape takes the escape's backslash with it: a
// backslash before the replacement would be an escape that does not exist.
func (w *Writer) commit(f finding) {
	s := span{start: f.start, end: f.end, rank: f.rank}
	w.after[s.rank] = max(w.after[s.rank], s.end)
	if w.v.escaped(s.start) {
		s.start--
	}
	if f.grow != nil {
		s.tail = &tail{grow: f.grow, rank: f.rank, pos: f.end, end: f.end}
		w.tails = append(w.tails, s.tail)
		w.growTail(s.tail)
	}
	at, _ := slices.BinarySearchFunc(w.spans, s, func(a, b span) int {
		if a.start != b.start {
			return a.start - b.start
		}
		return int(a.rank) - int(b.rank)
	})
	w.spans = slices.Insert(w.spans, at, s)
}

func (w *Writer) growTails() {
	for _, t := range w.tails {
		w.growTail(t)
	}
}

func (w *Writer) growTail(t *tail) {
	if !t.done {
		t.end, t.pos, t.done = t.grow.more(&w.v, t.pos)
	}
	w.after[t.rank] = max(w.after[t.rank], t.end)
}

// pass puts everything before frontier into out. Matches that overlap are one: the first of them
// gives the name.
func (w *Writer) pass(frontier int) {
	w.coverTails()
	for len(w.spans) > 0 && w.spans[0].start < frontier {
		s := w.spans[0]
		w.spans = w.spans[:copy(w.spans, w.spans[1:])]
		if s.start >= w.masked {
			w.plain(s.start)
			w.out = append(append(append(w.out, "[masked:"...), w.m.labels[s.rank]...), ']')
			w.counts[s.rank]++
		}
		w.masked = max(w.masked, s.end)
		if s.tail != nil {
			s.tail.beingSent = true
			w.coverTails()
		}
	}
	w.plain(frontier)
}

// coverTails masks as far as the growing matches have grown, and forgets those that have ended.
func (w *Writer) coverTails() {
	w.tails = slices.DeleteFunc(w.tails, func(t *tail) bool {
		if t.beingSent {
			w.masked = max(w.masked, t.end)
		}
		return t.beingSent && t.done
	})
}

// plain passes the unmasked text before to.
func (w *Writer) plain(to int) {
	if from := max(w.sent, w.masked); from < to {
		w.out = append(w.out, w.v.buf[from:to]...)
	}
	w.sent = max(w.sent, to)
}

// compact forgets what no detector will look at again, once that is half of the buffer.
func (w *Writer) compact() {
	n := w.sent
	for _, t := range w.tails {
		n = min(n, t.pos)
	}
	if n -= lookbehind; n <= 0 || n*2 < len(w.v.buf) {
		return
	}
	w.v.drop(n)
	w.scan, w.sent, w.masked = w.scan-n, w.sent-n, max(0, w.masked-n)
	for i := range w.spans {
		w.spans[i].start -= n
		w.spans[i].end -= n
	}
	for _, t := range w.tails {
		t.pos -= n
		t.end -= n
	}
	for rank := range w.after {
		w.after[rank] = max(0, w.after[rank]-n)
	}
}

// send passes out on.
func (w *Writer) send() error {
	if len(w.out) == 0 {
		return nil
	}
	_, w.err = w.dst.Write(w.out)
	w.out = w.out[:0]
	return w.err
}
