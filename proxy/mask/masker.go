package mask

import (
	"io"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// Credential is the name under which a secret that the proxy itself injected is masked and counted.
const Credential = "credential"

// Undecided is the name under which text of an event stream is masked that could not be held back
// for as long as it would have taken to decide about it.
const Undecided = "undecided"

// credentialRank is the first, so that a find of ours gives the name where others start with it.
const credentialRank = 0

// Count says how often something was masked under one name. Overlapping finds are one masked place
// and count once, under the name of the find that starts first.
type Count struct {
	Detector string
	N        int
}

// Stream masks what is written to it. *Writer and *SSE are Streams. A Stream is used by one
// goroutine at a time.
type Stream interface {
	// Write takes more of the text; all that is decided goes on to the destination at once. An
	// error is the destination's, and every later call returns it.
	io.Writer
	// Flush passes on what is decided, and flushes the destination where that has a Flush method.
	// It never lets go of what may yet turn out to be the start of something that must be masked.
	Flush() error
	// Close ends the text: what was held back is decided and passed on. It does not close the
	// destination.
	Close() error
	// Counts returns what was masked so far, sorted by name.
	Counts() []Count
}

// Masker finds secrets and personal data. It is immutable and safe for concurrent use.
type Masker struct {
	sieve      sieve
	actions    [64]action
	labels     []string // by rank: Credential, the detectors' names, Undecided
	known      *knownForms
	knownBits  uint64 // of the sieve
	numberBits uint64 // of the sieve: anchors that begin with a digit
	lookback   *lookback
}

// action is what a bit of the sieve stands for.
type action struct {
	find find
	rank uint8 // index into labels
}

// Masker returns a masker that finds what the detectors find, and the given secrets in every form in
// which text may carry them; see the package comment for the forms.
func (d *Detectors) Masker(secrets ...cred.Secret) *Masker {
	m := &Masker{lookback: newLookback(d.enabled), known: newKnownForms(secrets), labels: []string{credentialRank: Credential}}
	bit := uint(0)
	for _, det := range d.enabled {
		rank := uint8(len(m.labels))
		m.labels = append(m.labels, det.name)
		for _, a := range det.anchors {
			m.sieve.add(bit, a[:]...)
			m.actions[bit] = action{det.find, rank}
			if set(a[0])['4'] {
				m.numberBits |= 1 << bit
			}
			bit++
		}
	}
	m.labels = append(m.labels, Undecided)
	m.knownBits = m.known.sift(&m.sieve, bit)
	return m
}

// appendMark appends what stands in the place of something masked. It is made so that it can stand in
// a JSON string, a line of an event stream, a header or a URL.
func (m *Masker) appendMark(b []byte, rank uint8) []byte {
	return append(append(append(b, "[masked:"...), m.labels[rank]...), ']')
}

// Bytes returns text with everything masked, and what was masked. The result never shares memory
// with text.
func (m *Masker) Bytes(text []byte) ([]byte, []Count) {
	t := make(tally, len(m.labels))
	out := m.whole(make([]byte, 0, len(text)), text, t)
	return out, m.counts(t)
}

// Clean reports whether a quick look tells that nothing in a whole text is masked. It may say no of a
// text of which Bytes would mask nothing.
func (m *Masker) Clean(text []byte) bool {
	at, hits := m.sieve.next(text, 0)
	return hits == 0 || at+sieveWidth > len(text) && !m.known.short
}

// whole appends text with everything masked to dst, and adds what was masked to t.
func (m *Masker) whole(dst, text []byte, t tally) []byte {
	if m.Clean(text) {
		return append(dst, text...)
	}
	out := outBuffer{m, dst}
	e := newEngine(m, &out)
	for len(text) > 0 {
		n := min(chunk, len(text))
		e.write(text[:n])
		text = text[n:]
	}
	e.finish()
	t.add(e.counts)
	return out.b
}

// ForContentType returns the Stream that fits a body of a media type: SSE for text/event-stream,
// else Writer.
func (m *Masker) ForContentType(contentType string, dst io.Writer) Stream {
	media, _, _ := strings.Cut(contentType, ";")
	if strings.EqualFold(strings.TrimSpace(media), "text/event-stream") {
		return m.SSE(dst)
	}
	return m.Writer(dst)
}

// tally counts masked places by rank.
type tally []int

func (t tally) add(u tally) {
	for rank, n := range u {
		t[rank] += n
	}
}

func (t tally) sum() (n int) {
	for _, k := range t {
		n += k
	}
	return n
}

func (m *Masker) undecidedRank() uint8 { return uint8(len(m.labels) - 1) }

func (m *Masker) counts(t tally) []Count {
	var out []Count
	for rank, n := range t {
		if n > 0 {
			out = append(out, Count{m.labels[rank], n})
		}
	}
	slices.SortFunc(out, func(a, b Count) int { return strings.Compare(a.Detector, b.Detector) })
	return out
}
