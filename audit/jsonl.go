package audit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The lines of a JSONL export. Every byte is either fixed, or derived from the entries, or signed, so
// that a file can be compared with what the exporter would have written:
//
//	{"daypass_audit_export":1}
//	{"leaf":"BASE64","entry":{"seq":0,...}}
//	{"leaf":"BASE64","proof":["BASE64",...],"entry":{"seq":7,...}}    in a filtered export
//	{"hand_over":{"checkpoint":"NOTE","verifier_key":"KEY","entry":{...},"proof":[...],"consistency":[...]}}    for each, see HandOver
//	{"entries":N,"checkpoint":"NOTE","verifier_key":"KEY"}
const (
	headerLine     = `{"daypass_audit_export":1}` + "\n"
	entryStart     = `{"leaf":"`
	proofStart     = `","proof":[`
	entryMiddle    = `,"entry":`
	entryEnd       = "}\n"
	handOverPrefix = `{"hand_over":`
	trailerPrefix  = `{"entries":`
	seqStart       = `{"seq":`
)

const hashText = 44 // length of a hash in base64

// trailerLine is the last line.
type trailerLine struct {
	Entries     uint64 `json:"entries"` // so that a line lost from a filtered export is missed
	Checkpoint  string `json:"checkpoint"`
	VerifierKey string `json:"verifier_key"`
}

func (t trailerLine) encode() ([]byte, error) {
	b, err := encode(t)
	return append(b, '\n'), err
}

func parseTrailerLine(line []byte) (trailerLine, error) {
	var t trailerLine
	if err := json.Unmarshal(line, &t); err != nil {
		return t, err
	}
	again, err := t.encode()
	if err == nil && !bytes.Equal(again, line) {
		err = errors.New("not in its canonical form")
	}
	return t, err
}

// openTrailer checks the signature of an export's checkpoint. The note must hold that signature and no
// other: nobody could verify a stranger's.
func openTrailer(signed []byte, verifierKey string) (Checkpoint, error) {
	c, err := OpenCheckpoint(signed, verifierKey)
	if err != nil {
		return c, err
	}
	const signature = 92 // base64 of the key's hash (4 bytes) and an Ed25519 signature (64)
	head := checkpointText(c.Origin, c.Size, c.Root) + "\n\u2014 " + c.Origin + " "
	sig, found := strings.CutPrefix(string(signed), head)
	if !found || len(sig) != signature+1 {
		return c, badCheckpoint("an export's checkpoint bears the log's signature alone", nil)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(sig[:signature])
	if err != nil || len(raw) != 4+64 {
		return c, badCheckpoint("its signature is not in its canonical form", err)
	}
	return c, nil
}

// jsonlForm writes a JSONL export.
type jsonlForm struct {
	filtered bool   // the first entry had a proof
	next     uint64 // the least sequence number that may follow
	count    uint64
	tree     tree     // of an unfiltered export
	rotated  []uint64 // entries that tell of hand-overs
	scratch  []byte
}

func (f *jsonlForm) header(w *bufio.Writer) error {
	_, err := w.WriteString(headerLine)
	return err
}

func (f *jsonlForm) entry(w *bufio.Writer, x Exported) error {
	if err := f.check(x); err != nil {
		return err
	}
	leaf := LeafHash(x.Canonical)
	if !f.filtered {
		f.tree.add(leaf)
	}
	if handsOver(x.Canonical) {
		f.rotated = append(f.rotated, x.Seq)
	}
	b := append(f.scratch[:0], entryStart...) //nolint:gocritic // the scratch space is put back below
	b = append(base64.StdEncoding.AppendEncode(b, leaf[:]), '"')
	for i, h := range x.Proof {
		if i == 0 {
			b = append(b, proofStart[1:]...)
		} else {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '"')
	}
	if f.filtered {
		b = append(b, ']')
	}
	b = append(append(append(b, entryMiddle...), x.Canonical...), entryEnd...)
	f.scratch = b
	_, err := w.Write(b)
	return err
}

// check refuses an entry that would make a file that does not verify.
func (f *jsonlForm) check(x Exported) error {
	if f.count == 0 {
		f.filtered = len(x.Proof) > 0
	}
	where := fmt.Sprintf("entry %d can't be exported: ", x.Seq)
	switch {
	case f.filtered != (len(x.Proof) > 0):
		return badExport(where+"either every entry of an export has a proof or none has", nil)
	case x.Seq < f.next || !f.filtered && x.Seq != f.next:
		return badExport(where+fmt.Sprintf("entry %d was expected; an export that leaves entries out needs proofs", f.next), nil)
	case x.Seq >= math.MaxInt64 || len(x.Canonical) > MaxEntry || bytes.IndexByte(x.Canonical, '\n') >= 0,
		!bytes.HasPrefix(x.Canonical, seqPrefix(nil, x.Seq)):
		return badExport(where+"its bytes are not the canonical form of an entry with this number", nil)
	}
	f.next = x.Seq + 1
	f.count++
	return nil
}

// seqPrefix appends what every canonical form with a sequence number begins with.
func seqPrefix(dst []byte, seq uint64) []byte {
	dst = append(dst, seqStart...)
	return append(strconv.AppendUint(dst, seq, 10), ',')
}

func (f *jsonlForm) trailer(w *bufio.Writer, t Trailer) error {
	c, err := openTrailer(t.Note, t.VerifierKey)
	switch {
	case err != nil:
		return err
	case f.next > c.Size:
		return badExport(fmt.Sprintf("the checkpoint covers %d entries and entry %d was exported", c.Size, f.next-1), nil)
	case f.whole(c) && (f.count != c.Size || f.tree.root() != c.Root):
		return badExport("the entries are not those that the checkpoint covers; the log may be damaged", nil)
	}
	if err := f.handOvers(w, t, c); err != nil {
		return err
	}
	line, err := trailerLine{f.count, string(t.Note), t.VerifierKey}.encode()
	if err != nil {
		return err
	}
	_, err = w.Write(line)
	return err
}

// handOvers writes the lines of the hand-overs before a trailer.
func (f *jsonlForm) handOvers(w *bufio.Writer, t Trailer, c Checkpoint) error {
	if _, err := followHandOvers(t.HandOvers, c, t.VerifierKey); err != nil {
		return err
	}
	if seq, missing := uncovered(f.rotated, t.HandOvers); missing {
		return badExport(fmt.Sprintf("entry %d tells of a hand-over to another key that the trailer lacks", seq), nil)
	}
	for _, h := range t.HandOvers {
		line, err := h.Encode()
		if err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// whole reports whether the export must be the whole log: no entry carries a proof. An export without
// entries may be a filter that matched nothing.
func (f *jsonlForm) whole(c Checkpoint) bool { return !f.filtered && (f.count > 0 || c.Size == 0) }

// parseHash reads a hash as the exporter writes it.
func parseHash(text []byte) (tlog.Hash, bool) {
	var h tlog.Hash
	var buf [hashText]byte
	if len(text) != hashText {
		return h, false
	}
	n, err := base64.StdEncoding.Strict().Decode(buf[:], text)
	copy(h[:], buf[:])
	return h, err == nil && n == len(h)
}
