package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// entry checks one entry's line, without its line feed, but for what only the checkpoint can tell.
func (v *verifier) entry(line []byte) error {
	leaf, proof, canonical, ok := v.split(line)
	if !ok {
		return v.bad("this is not an entry's line as the exporter writes it", nil)
	}
	seq, ok := readSeq(canonical)
	if !ok {
		return v.bad("the entry does not begin with its sequence number", nil)
	}
	if err := v.order(seq, len(proof) > 0); err != nil {
		return err
	}
	hash := LeafHash(canonical)
	v.scratch = base64.StdEncoding.AppendEncode(v.scratch[:0], hash[:])
	if !bytes.Equal(v.scratch, leaf) {
		return v.badEntry(seq, "the entry's bytes do not hash to its leaf: one of them was changed")
	}
	if !json.Valid(canonical) { // else what a reader of JSON sees need not be what was hashed
		return v.badEntry(seq, "the log holds bytes that are not an entry in its canonical form")
	}
	if v.filtered {
		v.proofs.add(v.line, seq, hash, proof)
	} else {
		v.tree.add(hash)
	}
	return v.note(seq, canonical)
}

// split takes an entry's line apart. The proof is valid until the next call.
func (v *verifier) split(line []byte) (leaf []byte, proof []tlog.Hash, canonical []byte, ok bool) {
	rest := line[len(entryStart):]
	if len(rest) < hashText+1 {
		return nil, nil, nil, false
	}
	leaf, rest = rest[:hashText], rest[hashText:]
	if after, found := bytes.CutPrefix(rest, []byte(proofStart)); found {
		if proof, rest, ok = v.proofs.parse(after); !ok {
			return nil, nil, nil, false
		}
	} else if rest, ok = bytes.CutPrefix(rest, []byte(`"`)); !ok {
		return nil, nil, nil, false
	}
	canonical, ok = bytes.CutPrefix(rest, []byte(entryMiddle))
	if !ok || len(canonical) == 0 || canonical[len(canonical)-1] != '}' {
		return nil, nil, nil, false
	}
	return leaf, proof, canonical[:len(canonical)-1], true
}

// readSeq reads the first member of a canonical form.
func readSeq(canonical []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(canonical, []byte(seqStart))
	if !ok {
		return 0, false
	}
	digits, _, ok := bytes.Cut(rest[:min(len(rest), 20)], []byte(","))
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || seq >= math.MaxInt64 || len(digits) > 1 && digits[0] == '0' {
		return 0, false
	}
	return seq, true
}

// order checks that an entry may stand at its place.
func (v *verifier) order(seq uint64, proven bool) error {
	if v.report.Entries == 0 {
		v.filtered = proven
	}
	switch {
	case proven && !v.filtered:
		return v.badEntry(seq, "it has a proof and the entries before it have none")
	case !proven && v.filtered:
		return v.badEntry(seq, "it has no proof and the entries before it have one")
	case seq < v.next:
		return v.badEntry(seq, fmt.Sprintf("entry %d or a later one was expected; this one is repeated or out of order", v.next))
	case !v.filtered && seq != v.next:
		return v.badEntry(seq, fmt.Sprintf("entry %d was expected; entries are missing or out of order", v.next))
	}
	v.next = seq + 1
	return nil
}

// note adds an entry to the report. The hash vouches for the bytes, so the two members that the report
// needs are cut out where Canonical writes them; only a kind with an escape in it is worth decoding.
func (v *verifier) note(seq uint64, canonical []byte) error {
	kind, at, ok := kindAndTime(canonical)
	if !ok {
		_, e, err := Parse(canonical)
		if err != nil {
			return v.badEntry(seq, "the log holds bytes that are not an entry in its canonical form")
		}
		kind, at = []byte(e.Kind), []byte(e.Time.Format(time.RFC3339Nano))
	}
	if n := v.kinds[Kind(kind)]; n != nil {
		*n++
	} else {
		one := uint64(1)
		v.kinds[Kind(kind)] = &one
	}
	if v.report.Entries == 0 {
		first, err := parseTime(at)
		if err != nil {
			return v.badEntry(seq, "its time can't be read")
		}
		v.report.First = first
	}
	if Kind(kind) == KeyRotated && handsOver(canonical) {
		v.rotated = append(v.rotated, seq)
	}
	v.lastTime = append(v.lastTime[:0], at...)
	v.report.Entries++
	return nil
}

func kindAndTime(canonical []byte) (kind, at []byte, ok bool) {
	_, rest, _ := bytes.Cut(canonical, []byte(","))
	rest, ok = bytes.CutPrefix(rest, []byte(`"kind":"`))
	if !ok {
		return nil, nil, false
	}
	kind, rest, ok = bytes.Cut(rest, []byte(`","time":"`))
	if !ok || bytes.ContainsAny(kind, `"\`) {
		return nil, nil, false
	}
	at, _, ok = bytes.Cut(rest, []byte(`"`))
	return kind, at, ok
}

func parseTime(text []byte) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, string(text))
	return at.UTC(), err
}
