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
	switch {
	case seq > math.MaxInt64:
		return nil, notCanonical("its sequence number is too large", nil)
	case e.Kind == "" || e.Time.IsZero():
		return nil, notCanonical("it needs a kind and a time", nil)
	}
	e, err := normalEvent(e)
	if err != nil {
		return nil, notCanonical("a claim or detail can't be written as JSON", err)
	}
	b, err := encode(entry{seq, e})
	if err != nil {
		return nil, notCanonical("it can't be written as JSON", err)
	}
	if b, err = replaceInvalid(b); err != nil {
		return nil, notCanonical("two of its members have the same name once invalid UTF-8 is replaced", err)
	}
	if len(b) > MaxEntry {
		return nil, notCanonical(fmt.Sprintf("it has %d bytes and an entry holds at most %d", len(b), MaxEntry), nil)
	}
	return b, nil
}

func notCanonical(why string, cause error) *cred.Error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "audit.canonical", Reason: "AUDIT_ENTRY_INVALID",
		Public: "this event can't be recorded: " + why, Err: cause,
	}
}

// encode writes JSON without the escapes for HTML and without a line feed at its end.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(1024)
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// replaceInvalid puts the character U+FFFD where encoding/json wrote its escape sequence, as it does
// for invalid UTF-8 alone: decoding and encoding again must give the same bytes. Names in a map can
// become equal, or change their order, by that; then decoding tells.
func replaceInvalid(b []byte) ([]byte, error) {
	const escape = `\ufffd`
	if !bytes.Contains(b, []byte(escape)) {
		return b, nil
	}
	out, replaced := make([]byte, 0, len(b)), false
	for i := 0; i < len(b); {
		switch {
		case b[i] != '\\':
			out = append(out, b[i])
			i++
		case bytes.HasPrefix(b[i:], []byte(escape)):
			out = append(out, "\uFFFD"...)
			i, replaced = i+len(escape), true
		default: // an escape of two characters, or the start of another one of six
			out = append(out, b[i:i+2]...)
			i += 2
		}
	}
	if !replaced { // what was found was a backslash, escaped, before such letters
		return b, nil
	}
	_, _, err := Parse(out)
	return out, err
}

// Parse reads an entry's canonical bytes. Bytes that Canonical would not have written are an Invalid
// error: an unknown or repeated member, another order, another way to write a value, anything behind
// the object.
func Parse(canonical []byte) (seq uint64, e Event, err error) {
	if len(canonical) > MaxEntry {
		return 0, Event{}, notParsed(fmt.Errorf("%d bytes", len(canonical)))
	}
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
