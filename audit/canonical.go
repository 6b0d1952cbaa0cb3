package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

// MaxEntry is the greatest length of an entry's canonical form in bytes. It is what an entry bundle
// of C2SP tlog-tiles can hold (a length of 16 bits).
const MaxEntry = 65535

// entry is an event at its place in the log. Its members are written in this order.
type entry struct {
	Seq uint64 `json:"seq"`
	Event
}

// Canonical returns the bytes that stand for an event in the log at place seq, counted from zero: one
// JSON object in UTF-8 without line breaks or spaces between its tokens. Its first members are "seq",
// "kind" and "time"; then follow the parts of Event in their order; the members of maps are sorted by
// their bytes. Times are UTC, RFC 3339, with nanoseconds where they are not zero. No character is
// escaped but those that JSON asks for (RFC 8259, section 7), U+2028 and U+2029; bytes that are not
// UTF-8 become U+FFFD. In claims and details an integer that a float64 can't hold becomes a string.
//
// An event without kind or time, one that can't be written as JSON and one longer than MaxEntry is an
// Invalid error.
func Canonical(seq uint64, e Event) ([]byte, error) {
	x, err := Encode(e)
	if err != nil {
		return nil, err
	}
	return x.At(seq)
}

// Encoded is an event's canonical form but for its place in the log: all of the work that can be done
// before the place is known.
type Encoded struct{ behind []byte } // the sequence number

const beforeSeq = `{"seq":`

// Encode does what Canonical does before the place is known. Errors are those of Canonical.
func Encode(e Event) (Encoded, error) {
	if err := checkEvent(e); err != nil {
		return Encoded{}, err
	}
	enc := encoders.Get().(*encoder)
	defer enc.done()
	if err := enc.entry(0, e); err != nil {
		return Encoded{}, notCanonical("a part of it can't be written as JSON", err)
	}
	if err := checkLength(len(enc.b)); err != nil {
		return Encoded{}, err
	}
	b := bytes.Clone(enc.b)
	if enc.replaced { // names in a map can have become equal, or have changed their order
		if _, _, err := Parse(b); err != nil {
			return Encoded{}, notCanonical("two of its members have the same name once invalid UTF-8 is replaced", err)
		}
	}
	return Encoded{b[len(beforeSeq)+len("0"):]}, nil
}

// At returns what Canonical returns for the event at place seq.
func (x Encoded) At(seq uint64) ([]byte, error) {
	const digits = 19
	if seq > math.MaxInt64 {
		return nil, notCanonical("its sequence number is too large", nil)
	}
	b := make([]byte, 0, len(beforeSeq)+digits+len(x.behind))
	b = append(strconv.AppendUint(append(b, beforeSeq...), seq, 10), x.behind...)
	if err := checkLength(len(b)); err != nil {
		return nil, err
	}
	return b, nil
}

func checkEvent(e Event) error {
	if e.Kind == "" || e.Time.IsZero() {
		return notCanonical("it needs a kind and a time", nil)
	}
	return nil
}

func checkLength(n int) error {
	if n > MaxEntry {
		return notCanonical(fmt.Sprintf("it has %d bytes and an entry holds at most %d", n, MaxEntry), nil)
	}
	return nil
}

func notCanonical(why string, cause error) *cred.Error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "audit.canonical", Reason: "AUDIT_ENTRY_INVALID",
		Public: "this event can't be recorded: " + why, Err: cause,
	}
}

// Parse reads an entry's canonical bytes. Bytes that Canonical would not have written are an Invalid
// error: an unknown or repeated member, another order, another way to write a value, anything behind
// the object.
func Parse(canonical []byte) (seq uint64, e Event, err error) {
	if len(canonical) > MaxEntry {
		return 0, Event{}, notParsed(fmt.Errorf("%d bytes", len(canonical)))
	}
	if got, ok := decode(canonical); ok && isCanonical(got, canonical) {
		return got.Seq, got.Event, nil
	}
	return parseSlowly(canonical)
}

func isCanonical(got entry, canonical []byte) bool {
	enc := encoders.Get().(*encoder)
	defer enc.done()
	return got.Seq <= math.MaxInt64 && checkEvent(got.Event) == nil &&
		enc.entry(got.Seq, got.Event) == nil && bytes.Equal(enc.b, canonical)
}

// parseSlowly reads entries with escapes, and says what is wrong with the others.
func parseSlowly(canonical []byte) (seq uint64, e Event, err error) {
	var got entry
	dec := json.NewDecoder(bytes.NewReader(canonical))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		return 0, Event{}, notParsed(err)
	}
	again, err := Canonical(got.Seq, got.Event)
	if err != nil {
		return 0, Event{}, notParsed(err)
	}
	if !bytes.Equal(again, canonical) {
		return 0, Event{}, notParsed(errors.New("it differs from its canonical form at byte " + strconv.Itoa(firstDifference(again, canonical))))
	}
	return got.Seq, got.Event, nil
}

func notParsed(cause error) *cred.Error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "audit.parse", Reason: "AUDIT_ENTRY_NOT_CANONICAL",
		Public: "this is not an entry of an audit log in its canonical form", Err: cause,
	}
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// LeafHash returns an entry's hash in the log's Merkle tree: the SHA-256 of a zero byte and the
// canonical bytes (RFC 6962, section 2.1).
func LeafHash(canonical []byte) tlog.Hash { return tlog.RecordHash(canonical) }
