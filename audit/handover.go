package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

// HandOver is how a log goes on under another key. The log gets an entry of the kind key.rotated that
// names both keys, and the old key signs its last checkpoint, over all entries up to and with that one.
// So whoever trusts the old key, and the rules of RFC 6962, knows the new one.
type HandOver struct {
	Note        []byte      // the old key's last checkpoint
	VerifierKey string      // of the key that signs from then on
	Entry       []byte      // the canonical form of the last entry that Note covers
	Proof       []tlog.Hash // that Entry is in the tree of Note (RFC 6962, section 2.1.1)
	Consistency []tlog.Hash // that this tree is a prefix of the one of the trailer's checkpoint (section 2.1.2)
}

// logRing is the name of the log's key in entries of the kind key.rotated.
const logRing = "log"

// HandOverEvent is the entry of a log's nth hand-over, counted from zero, between two verifier keys. Only
// the log itself may write it.
func HandOverEvent(n int, old, next string, at time.Time) Event {
	return Event{Kind: KeyRotated, Time: at.UTC(), Detail: map[string]any{"ring": logRing, "number": n, "old": old, "new": next}}
}

// handOverEntry reads an entry. It is none of a hand-over where ok is false.
func handOverEntry(canonical []byte) (seq uint64, d handOverDetail, ok bool) {
	seq, e, err := Parse(canonical)
	if err != nil || e.Kind != KeyRotated || e.Origin != nil || e.Detail["ring"] != logRing {
		return 0, d, false
	}
	number, isNumber := e.Detail["number"].(float64)
	d.old, _ = e.Detail["old"].(string)
	d.next, _ = e.Detail["new"].(string)
	if d.number = int(number); !isNumber || float64(d.number) != number {
		d.number = -1 // of none
	}
	return seq, d, true
}

type handOverDetail struct {
	number    int
	old, next string
}

// handsOver reports whether an entry is that of a hand-over.
func handsOver(canonical []byte) bool {
	if kind, _, ok := kindAndTime(canonical); ok && Kind(kind) != KeyRotated {
		return false
	}
	_, _, ok := handOverEntry(canonical)
	return ok
}

// followHandOvers checks that hand-overs lead, without a gap, to a checkpoint and its key, and returns
// the keys from the log's first one on.
func followHandOvers(all []HandOver, end Checkpoint, endKey string) (keys []string, err error) {
	var last uint64
	for i, h := range all {
		seq, d, ok := handOverEntry(h.Entry)
		switch {
		case !ok:
			return nil, badHandOver(i, "its entry does not tell of one", nil)
		case d.number != i:
			return nil, badHandOver(i, "it is not the one that comes here; one is missing, or they are out of order", nil)
		case d.next != h.VerifierKey:
			return nil, badHandOver(i, "its entry names another new key", nil)
		case i > 0 && d.old != keys[i]:
			return nil, badHandOver(i, "its entry names another old key than the one that signed until then", nil)
		}
		if i == 0 {
			keys = append(keys, d.old)
		}
		size, err := checkHandOver(h, d, seq, end)
		if err != nil {
			return nil, badHandOver(i, cred.PublicText(err), err)
		}
		if size <= last {
			return nil, badHandOver(i, "it does not come after the one before", nil)
		}
		last, keys = size, append(keys, h.VerifierKey)
	}
	if len(all) == 0 {
		return []string{endKey}, nil
	}
	if keys[len(all)] != endKey {
		return nil, badHandOver(len(all)-1, fmt.Sprintf("it is to the key %s, and the export's checkpoint is signed by %s", keyName(keys[len(all)]), keyName(endKey)), nil)
	}
	return keys, nil
}

// checkHandOver checks one hand-over against the log's checkpoint, and returns how many entries it covers.
func checkHandOver(h HandOver, d handOverDetail, seq uint64, end Checkpoint) (uint64, error) {
	c, err := openTrailer(h.Note, d.old)
	if err != nil {
		return 0, err
	}
	next, err := newVerifier(d.next)
	switch {
	case err != nil:
		return 0, badCheckpoint("the new key can't be read", err)
	case c.Origin != end.Origin || next.Name() != end.Origin:
		return 0, badCheckpoint("it is of another log", nil)
	case c.Size != seq+1 || c.Size > end.Size:
		return 0, badCheckpoint("the entry is not the last one that it covers", nil)
	}
	if err := tlog.CheckRecord(h.Proof, int64(c.Size), c.Root, int64(seq), LeafHash(h.Entry)); err != nil {
		return 0, badCheckpoint("the entry is not in its tree", err)
	}
	if err := tlog.CheckTree(h.Consistency, int64(end.Size), end.Root, int64(c.Size), c.Root); err != nil {
		return 0, badCheckpoint("its tree is not the beginning of the log", err)
	}
	return c.Size, nil
}

func badHandOver(i int, why string, cause error) *cred.Error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "audit.handover", Reason: "AUDIT_HANDOVER_INVALID",
		Public: fmt.Sprintf("hand-over %d of the log to another key can't be trusted: %s", i+1, why), Err: cause,
	}
}

// uncovered returns the first of some entries of hand-overs, by sequence number, that none of the
// hand-overs is about.
func uncovered(seqs []uint64, all []HandOver) (uint64, bool) {
	for _, seq := range seqs {
		about := func(h HandOver) bool {
			got, ok := readSeq(h.Entry)
			return ok && got == seq
		}
		if !slices.ContainsFunc(all, about) {
			return seq, true
		}
	}
	return 0, false
}

// handOverLine is a hand-over as it stands before an export's trailer.
type handOverLine struct {
	HandOver handOverText `json:"hand_over"`
}

type handOverText struct {
	Checkpoint  string          `json:"checkpoint"`
	VerifierKey string          `json:"verifier_key"`
	Entry       json.RawMessage `json:"entry"`
	Proof       []string        `json:"proof"`
	Consistency []string        `json:"consistency"`
}

// Encode writes a hand-over as a line of an export, with its line feed.
func (h HandOver) Encode() ([]byte, error) {
	b, err := encode(handOverLine{handOverText{
		string(h.Note), h.VerifierKey, h.Entry, hashTexts(h.Proof), hashTexts(h.Consistency),
	}})
	if err != nil {
		return nil, badExport("a hand-over of the log can't be written", err)
	}
	return append(b, '\n'), nil
}

// ParseHandOver reads what Encode wrote and nothing else. It checks the form alone, not what it says. The
// error is Invalid.
func ParseHandOver(line []byte) (HandOver, error) {
	h, err := parseHandOver(line)
	if err != nil {
		return HandOver{}, badExport("this is not a hand-over of a log as the exporter writes it", err)
	}
	return h, nil
}

func parseHandOver(line []byte) (h HandOver, err error) {
	var l handOverLine
	if err := json.Unmarshal(line, &l); err != nil {
		return h, err
	}
	t := l.HandOver
	h = HandOver{Note: []byte(t.Checkpoint), VerifierKey: t.VerifierKey, Entry: t.Entry}
	if h.Proof, err = parseHashes(t.Proof); err != nil {
		return h, err
	}
	if h.Consistency, err = parseHashes(t.Consistency); err != nil {
		return h, err
	}
	again, err := h.Encode()
	if err == nil && !bytes.Equal(again, line) {
		err = errors.New("not in its canonical form")
	}
	return h, err
}

func hashTexts(hashes []tlog.Hash) []string {
	texts := make([]string, len(hashes))
	for i, h := range hashes {
		texts[i] = base64.StdEncoding.EncodeToString(h[:])
	}
	return texts
}

func parseHashes(texts []string) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(texts))
	for i, text := range texts {
		h, ok := parseHash([]byte(text))
		if !ok {
			return nil, errors.New("not a hash")
		}
		hashes[i] = h
	}
	return hashes, nil
}
