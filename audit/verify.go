package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

// VerifyOptions says what an export is verified against.
type VerifyOptions struct {
	// VerifierKey is the log's public key, from a source that the auditor trusts: the one that signs now,
	// or an earlier one, from which the file's hand-overs lead on. Without it the key in the file is
	// used: that proves that the file is consistent, not whose log it is.
	VerifierKey string
}

// Report tells what a verified export holds.
type Report struct {
	Origin      string // the log's name, as signed
	VerifierKey string // the key that the checkpoint was verified with
	KeyFromFile bool   // the key came from the file: consistency is proven, origin is not
	// HandedTo are the keys to which the log was handed over since the one that was given, in order; where
	// none was given, since its first one. The last is VerifierKey.
	HandedTo    []string
	Size        uint64 // entries in the log at the checkpoint
	Root        tlog.Hash
	Entries     uint64          // entries in the file
	Complete    bool            // the file holds all of the log's entries up to Size
	First, Last time.Time       // when the file's first and last entry happened; zero without entries
	Kinds       map[Kind]uint64 // entries by kind
}

// Verify reads a JSONL export and checks that every byte of it is what the log's exporter wrote: the
// checkpoint's signature, each entry's hash, and that the entries are the log's. An export of the whole
// log must hash to the checkpoint's root; in a filtered one each entry's inclusion proof must. What a
// filter left out can't be known: then Report.Complete is false.
//
// Where the log was handed over to another key, each hand-over must be there in order, be signed by the
// key before it, and be about a beginning of the same log whose last entry names the new key.
//
// It reads r once. Memory is constant for an export of the whole log; of a filtered one it keeps the
// hashes until the checkpoint, which comes last. Whatever does not fit is an Invalid *cred.Error whose
// Public text begins with the line and the entry; an error of r is Unavailable.
func Verify(r io.Reader, o VerifyOptions) (Report, error) {
	key := strings.TrimSpace(o.VerifierKey)
	if key != "" {
		if _, err := newVerifier(key); err != nil {
			return Report{}, badFile("the verifier key that was given can't be read", err)
		}
	}
	v := &verifier{in: bufio.NewReaderSize(r, maxLine), key: key, kinds: map[Kind]*uint64{}}
	if err := v.file(); err != nil {
		return Report{}, err
	}
	return v.report, nil
}

// maxLine is more than any line of an export has: an entry, its leaf and 63 hashes of proof.
const maxLine = MaxEntry + 63*(hashText+3) + 256

type verifier struct {
	in     *bufio.Reader
	key    string // as given; empty: the file's
	line   int    // of the line last read, from one
	report Report

	filtered bool       // the first entry had a proof
	next     uint64     // the least sequence number that may follow
	tree     tree       // unfiltered: of the entries seen
	proofs   proofs     // filtered: to be checked once the checkpoint is known
	rotated  []uint64   // entries that tell of hand-overs
	handOver []HandOver // in the order of the file
	kinds    map[Kind]*uint64
	lastTime []byte // of the last entry, as written
	scratch  []byte
}

func (v *verifier) file() error {
	line, err := v.read()
	if err != nil {
		return err
	}
	if string(line) != headerLine {
		return v.bad("this is not the header of a daypass audit export (format jsonl, version 1)", nil)
	}
	for {
		line, err := v.read()
		switch {
		case err != nil:
			return err
		case bytes.HasPrefix(line, []byte(trailerPrefix)):
			return v.end(line)
		case bytes.HasPrefix(line, []byte(handOverPrefix)):
			if err := v.keepHandOver(line); err != nil {
				return err
			}
			continue
		case len(v.handOver) > 0:
			return v.bad("this is neither a hand-over nor the trailer", nil)
		case !bytes.HasPrefix(line, []byte(entryStart)):
			return v.bad("this is neither an entry nor the trailer", nil)
		}
		if err := v.entry(line[:len(line)-1]); err != nil {
			return err
		}
	}
}

// read returns the next line with its line feed, valid until the next call.
func (v *verifier) read() ([]byte, error) {
	v.line++
	line, err := v.in.ReadSlice('\n')
	switch {
	case err == nil:
		return line, nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, v.bad("this line is longer than any line of an export", nil)
	case err == io.EOF && len(line) == 0:
		return nil, v.bad("the file ends here, without the trailer; it was cut off", nil)
	case err == io.EOF:
		return nil, v.bad("the file ends within this line; it was cut off", nil)
	}
	return nil, unreadable(err)
}

// end checks the trailer, that nothing follows it, and then what had to wait for the checkpoint.
func (v *verifier) end(line []byte) error {
	t, err := parseTrailerLine(line)
	if err != nil {
		return v.bad("this is not a trailer as the exporter writes it", err)
	}
	if v.key != "" && t.VerifierKey != v.key && len(v.handOver) == 0 {
		return v.bad(fmt.Sprintf("the export names the key %q; the key that was given is %q", keyName(t.VerifierKey), keyName(v.key)), nil)
	}
	c, err := openTrailer([]byte(t.Checkpoint), t.VerifierKey)
	if err != nil {
		return v.bad(cred.PublicText(err), err)
	}
	if t.Entries != v.report.Entries {
		return v.bad(fmt.Sprintf("the trailer counts %d entries and the file has %d; lines are missing or were added", t.Entries, v.report.Entries), nil)
	}
	if err := v.covered(c); err != nil {
		return err
	}
	if err := v.keys(c, t.VerifierKey); err != nil {
		return err
	}
	if _, err := v.in.ReadByte(); err == nil {
		v.line++
		return v.bad("the file goes on after its trailer", nil)
	} else if err != io.EOF {
		return unreadable(err)
	}
	return v.conclude(c, t.VerifierKey)
}

// What is kept of a file is bounded: nobody changes a key so often, and a hand-over has two keys, a
// checkpoint and two proofs of at most 63 hashes.
const (
	maxHandOvers    = 10_000
	maxHandOverLine = 16 << 10 // bytes
)

func (v *verifier) keepHandOver(line []byte) error {
	if len(line) > maxHandOverLine {
		return v.bad("this is larger than any hand-over", nil)
	}
	h, err := parseHandOver(line)
	if err != nil {
		return v.bad("this is not a hand-over as the exporter writes it", err)
	}
	if len(v.handOver) == maxHandOvers {
		return v.bad("there are more hand-overs than any log has", nil)
	}
	v.handOver = append(v.handOver, h)
	return nil
}

// keys follows the hand-overs from the key that was given to the one that signed the checkpoint.
func (v *verifier) keys(c Checkpoint, key string) error {
	keys, err := followHandOvers(v.handOver, c, key)
	if err != nil {
		return v.bad(cred.PublicText(err), err)
	}
	if seq, missing := uncovered(v.rotated, v.handOver); missing {
		return v.bad(fmt.Sprintf("entry %d tells of a hand-over to another key, and that hand-over is missing", seq), nil)
	}
	from := 0
	if v.key != "" {
		from = slices.Index(keys, v.key)
	}
	if from < 0 {
		return v.bad(fmt.Sprintf("the key that was given, %q, is none of those that signed this log, the last of which is %q", keyName(v.key), keyName(key)), nil)
	}
	if from+1 < len(keys) {
		v.report.HandedTo = keys[from+1:]
	}
	return nil
}

// covered checks that the checkpoint speaks of the entries that were read.
func (v *verifier) covered(c Checkpoint) error {
	seen := v.report.Entries
	switch {
	case v.next > c.Size:
		return v.bad(fmt.Sprintf("the checkpoint covers %d entries and the file holds entry %d", c.Size, v.next-1), nil)
	case v.filtered:
		if at, ok := v.proofs.check(c); !ok {
			return badFile(fmt.Sprintf("line %d (entry %d): its proof does not lead to the root that the checkpoint signs", at.line, at.seq), nil)
		}
	case seen == 0 && c.Size > 0: // a filter that matched nothing
	case seen != c.Size:
		return v.bad(fmt.Sprintf("the checkpoint covers %d entries and the file ends after entry %d", c.Size, seen-1), nil)
	case v.tree.root() != c.Root:
		return v.bad("the entries do not hash to the root that the checkpoint signs: at least one was changed together with its leaf", nil)
	}
	return nil
}

func (v *verifier) conclude(c Checkpoint, key string) error {
	r := &v.report
	r.Origin, r.Size, r.Root = c.Origin, c.Size, c.Root
	r.VerifierKey, r.KeyFromFile = key, v.key == ""
	r.Complete = r.Entries == c.Size
	r.Kinds = make(map[Kind]uint64, len(v.kinds))
	for kind, n := range v.kinds {
		r.Kinds[kind] = *n
	}
	if r.Entries == 0 {
		return nil
	}
	var err error
	if r.Last, err = parseTime(v.lastTime); err != nil {
		return v.bad("the last entry's time can't be read", err)
	}
	return nil
}

func (v *verifier) bad(what string, cause error) error {
	return badFile(fmt.Sprintf("line %d: %s", v.line, what), cause)
}

func (v *verifier) badEntry(seq uint64, what string) error {
	return badFile(fmt.Sprintf("line %d (entry %d): %s", v.line, seq, what), nil)
}

func badFile(public string, cause error) *cred.Error {
	return &cred.Error{Kind: cred.Invalid, Op: "audit.verify", Reason: "AUDIT_EXPORT_TAMPERED", Public: public, Err: cause}
}

func unreadable(err error) *cred.Error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "audit.verify", Reason: "AUDIT_EXPORT_READ",
		Public: "the export can't be read to its end, so nothing is proven", Err: err,
	}
}
