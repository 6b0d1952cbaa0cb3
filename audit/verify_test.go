package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

func verify(file []byte, key string) (Report, error) {
	return Verify(bytes.NewReader(file), VerifyOptions{VerifierKey: key})
}

func everyThird(seq uint64) bool { return seq%3 == 1 }

func TestVerifyWholeLogs(t *testing.T) {
	for n := range 40 {
		l := newTestLog(t, sampleEvents(n)...)
		r, err := verify(l.export(FormatJSONL, nil), l.signer.VerifierKey())
		if err != nil {
			t.Fatalf("%d entries: %v", n, err)
		}
		if !r.Complete || r.Size != uint64(n) || r.Entries != uint64(n) || r.KeyFromFile {
			t.Errorf("%d entries: %+v", n, r)
		}
	}
}

func TestVerifyFilteredLogs(t *testing.T) {
	for n := 1; n < 40; n++ {
		l := newTestLog(t, sampleEvents(n)...)
		for name, keep := range map[string]func(uint64) bool{
			"every third": everyThird,
			"last":        func(seq uint64) bool { return seq == uint64(n)-1 },
			"none":        func(uint64) bool { return false },
			"all":         func(uint64) bool { return true },
		} {
			r, err := verify(l.export(FormatJSONL, keep), l.signer.VerifierKey())
			if err != nil {
				t.Fatalf("%s of %d entries: %v", name, n, err)
			}
			if want := name == "all" || n == 1 && name == "last"; r.Complete != want || r.Size != uint64(n) {
				t.Errorf("%s of %d entries: %+v", name, n, r)
			}
		}
	}
}

func TestVerifyReport(t *testing.T) {
	l := newTestLog(t, sampleEvents(8)...)
	end := l.trailer()
	c, err := OpenCheckpoint(end.Note, end.VerifierKey)
	if err != nil {
		t.Fatal(err)
	}
	want := Report{
		Origin: "daypass.example.com/audit", VerifierKey: end.VerifierKey, Size: 8, Root: c.Root, Entries: 8, Complete: true,
		First: testTime, Last: testTime.Add(7 * time.Second),
		Kinds: map[Kind]uint64{ExchangeGranted: 2, LeaseIntent: 2, LeaseIssued: 1, UseBegin: 1, UseEnd: 1, ExchangeDenied: 1},
	}
	got, err := verify(l.export(FormatJSONL, nil), end.VerifierKey+"\n")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}

	want.Entries, want.Complete, want.KeyFromFile = 2, false, true
	want.First, want.Last = testTime.Add(1*time.Second), testTime.Add(5*time.Second)
	want.Kinds = map[Kind]uint64{LeaseIntent: 1, ExchangeDenied: 1}
	got, err = verify(l.export(FormatJSONL, func(seq uint64) bool { return seq == 1 || seq == 5 }), "")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// Kinds with characters that JSON escapes take the slow path of the report.
func TestVerifyOddKind(t *testing.T) {
	odd := Kind("odd\"\\,\"time\":\"x")
	l := newTestLog(t, Event{Kind: odd, Time: testTime}, Event{Kind: "k", Time: testTime})
	r, err := verify(l.export(FormatJSONL, nil), "")
	if err != nil || !cmp.Equal(r.Kinds, map[Kind]uint64{odd: 1, "k": 1}) || !r.First.Equal(testTime) {
		t.Errorf("%+v, %v", r, err)
	}
}

// The promise of the format: whatever single byte is changed, and however, Verify finds it, with the
// auditor's key and with the one in the file.
func TestVerifyFindsEveryChangedByte(t *testing.T) {
	events := sampleEvents(3)
	events[1].Detail = map[string]any{"text": "é <&> \u2028 \"quoted\" \\"}
	l := newTestLog(t, events...)
	for name, file := range map[string][]byte{
		"whole":    l.export(FormatJSONL, nil),
		"filtered": l.export(FormatJSONL, everyThird),
		"empty":    newTestLog(t).export(FormatJSONL, nil),
		"nothing":  l.export(FormatJSONL, func(uint64) bool { return false }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := verify(file, ""); err != nil {
				t.Fatal(err)
			}
			changed := bytes.Clone(file)
			for i := range file {
				for _, x := range flips(i) {
					changed[i] = file[i] ^ x
					if _, err := verify(changed, ""); err == nil {
						t.Fatalf("byte %d, %q changed to %q: not found", i, file[i], changed[i])
					}
				}
				changed[i] = file[i]
			}
		})
	}
}

// flips returns what to xor into byte i: all 255 changes at every 64th place, elsewhere each single bit,
// all bits, and two that turn some digits and letters into others.
func flips(i int) []byte {
	var out []byte
	for x := 1; x < 256; x++ {
		if i%64 == 0 || x&(x-1) == 0 || x == 0x20|0x01 || x == 0xff {
			out = append(out, byte(x))
		}
	}
	return out
}

// Bytes that are put in or taken out are found as well.
func TestVerifyFindsInsertedAndDeletedBytes(t *testing.T) {
	l := newTestLog(t, sampleEvents(4)...)
	key := l.signer.VerifierKey()
	for _, file := range [][]byte{l.export(FormatJSONL, nil), l.export(FormatJSONL, everyThird)} {
		for i := range file {
			if _, err := verify(slices.Delete(bytes.Clone(file), i, i+1), key); err == nil {
				t.Fatalf("byte %d, %q deleted: not found", i, file[i])
			}
			for _, b := range []byte{' ', '\n', '"', '0', file[i]} {
				if _, err := verify(slices.Insert(bytes.Clone(file), i, b), key); err == nil {
					t.Fatalf("%q inserted before byte %d: not found", b, i)
				}
			}
		}
	}
}

func TestVerifyFindsTruncation(t *testing.T) {
	l := newTestLog(t, sampleEvents(4)...)
	for _, file := range [][]byte{l.export(FormatJSONL, nil), l.export(FormatJSONL, everyThird)} {
		for n := range file {
			_, err := verify(file[:n], "")
			refused(t, err, "line ", "cut off")
		}
	}
}

func TestVerifyFindsMovedLines(t *testing.T) {
	l := newTestLog(t, sampleEvents(12)...)
	for name, c := range map[string]struct {
		keep  func(uint64) bool
		edit  func(lines []string) []string
		words []string
	}{
		"removed":               {nil, func(s []string) []string { return slices.Delete(s, 4, 5) }, []string{"line 5 (entry 4): entry 3 was expected"}},
		"first removed":         {nil, func(s []string) []string { return slices.Delete(s, 1, 2) }, []string{"line 2 (entry 1): entry 0 was expected"}},
		"last removed":          {nil, func(s []string) []string { return slices.Delete(s, 12, 13) }, []string{"line 13: the trailer counts 12 entries and the file has 11"}},
		"swapped":               {nil, func(s []string) []string { s[4], s[5] = s[5], s[4]; return s }, []string{"line 5 (entry 4): entry 3 was expected"}},
		"repeated":              {nil, func(s []string) []string { return slices.Insert(s, 5, s[4]) }, []string{"line 6 (entry 3): entry 4 or a later one was expected"}},
		"header twice":          {nil, func(s []string) []string { return slices.Insert(s, 1, s[0]) }, []string{"line 2: this is neither"}},
		"trailer twice":         {nil, func(s []string) []string { return append(s, s[13]) }, []string{"line 15: the file goes on after its trailer"}},
		"garbage behind":        {nil, func(s []string) []string { return append(s, "x") }, []string{"line 15: the file goes on after its trailer"}},
		"blank line behind":     {nil, func(s []string) []string { return append(s, "\n") }, []string{"line 15"}},
		"blank line":            {nil, func(s []string) []string { return slices.Insert(s, 3, "\n") }, []string{"line 4: this is neither"}},
		"trailer early":         {nil, func(s []string) []string { return append(s[:5], s[13]) }, []string{"line 6: the trailer counts 12 entries and the file has 4"}},
		"no header":             {nil, func(s []string) []string { return s[1:] }, []string{"line 1: this is not the header"}},
		"filtered, removed":     {everyThird, func(s []string) []string { return slices.Delete(s, 2, 3) }, []string{"line 5: the trailer counts 4 entries and the file has 3"}},
		"filtered, swapped":     {everyThird, func(s []string) []string { s[1], s[2] = s[2], s[1]; return s }, []string{"line 3 (entry 1): entry 5 or a later one was expected"}},
		"filtered, repeated":    {everyThird, func(s []string) []string { return slices.Insert(s, 2, s[1]) }, []string{"line 3 (entry 1): entry 2 or a later one was expected"}},
		"filtered, other proof": {everyThird, swapProofs, []string{"line 2 (entry 1): its proof does not lead"}},
		"filtered, no proof":    {everyThird, func(s []string) []string { s[2] = cutProof(s[2]); return s }, []string{"line 3 (entry 4): it has no proof"}},
		"filtered, proofs gone": {everyThird, func(s []string) []string { return withoutProofs(s) }, []string{"line 2 (entry 1): entry 0 was expected"}},
		"whole, proof put in": {nil, func(s []string) []string {
			s[2] = strings.Replace(s[2], `,"entry"`, `,"proof":["`+someRoot.String()+`"],"entry"`, 1)
			return s
		}, []string{"line 3 (entry 1): it has a proof"}},
		"a very long line": {nil, func(s []string) []string { s[3] = strings.Repeat("x", 1<<20) + "\n"; return s }, []string{"line 4: this line is longer"}},
		"another number":   {nil, func(s []string) []string { s[3] = strings.Replace(s[3], `"seq":2`, `"seq":02`, 1); return s }, []string{"line 4: the entry does not begin"}},
		"an enormous number": {nil, func(s []string) []string {
			s[3] = strings.Replace(s[3], `"seq":2`, `"seq":9223372036854775807`, 1)
			return s
		}, []string{"line 4: the entry does not begin"}},
		"a changed entry":        {nil, func(s []string) []string { s[3] = strings.Replace(s[3], "orders", "olders", 1); return s }, []string{"line 4 (entry 2): the entry's bytes do not hash"}},
		"filtered, changed leaf": {everyThird, func(s []string) []string { s[1] = rehash(s[1], "orders", "olders"); return s }, []string{"line 2 (entry 1): its proof"}},
		"a changed leaf too":     {nil, func(s []string) []string { s[3] = rehash(s[3], "orders", "olders"); return s }, []string{"line 14: the entries do not hash to the root"}},
	} {
		t.Run(name, func(t *testing.T) {
			lines := strings.SplitAfter(string(l.export(FormatJSONL, c.keep)), "\n")
			file := strings.Join(c.edit(lines[:len(lines)-1]), "")
			_, err := verify([]byte(file), l.signer.VerifierKey())
			refused(t, err, c.words...)
		})
	}
}

func cutProof(line string) string {
	from := strings.Index(line, `,"proof":`)
	return line[:from] + line[strings.Index(line, `,"entry":`):]
}

func withoutProofs(lines []string) []string {
	for i := 1; i < len(lines)-1; i++ {
		lines[i] = cutProof(lines[i])
	}
	return lines
}

func swapProofs(lines []string) []string {
	part := func(s string) string {
		return s[strings.Index(s, `,"proof":`):strings.Index(s, `,"entry":`)]
	}
	a, b := part(lines[1]), part(lines[2])
	lines[1], lines[2] = strings.Replace(lines[1], a, b, 1), strings.Replace(lines[2], b, a, 1)
	return lines
}

// rehash changes an entry as somebody would who knows the format but has no key.
func rehash(line, from, to string) string {
	line = strings.Replace(line, from, to, 1)
	start := strings.Index(line, entryMiddle) + len(entryMiddle)
	leaf := LeafHash([]byte(line[start : len(line)-len(entryEnd)]))
	return entryStart + leaf.String() + line[len(entryStart)+hashText:]
}

func TestVerifyKeys(t *testing.T) {
	l, stranger := newTestLog(t, sampleEvents(3)...), newTestLog(t, sampleEvents(3)...)
	file, own := l.export(FormatJSONL, nil), l.signer.VerifierKey()
	foreign := stranger.signer.VerifierKey()

	_, err := verify(file, foreign)
	refused(t, err, "line 5", keyName(own), keyName(foreign))
	_, err = verify(bytes.Replace(file, []byte(own), []byte(foreign), 1), foreign)
	refused(t, err, "line 5", "not signed by the key")
	_, err = verify(file, "nonsense")
	refused(t, err, "verifier key that was given")

	// A forger can sign with a key of his own; only the auditor's key tells.
	forged := stranger.export(FormatJSONL, nil)
	if r, err := verify(forged, ""); err != nil || !r.KeyFromFile || r.Origin != l.signer.Origin() {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = verify(forged, own)
	refused(t, err, "line 5")
}

func TestVerifyOtherCheckpoints(t *testing.T) {
	l := newTestLog(t, sampleEvents(5)...)
	key := l.signer.VerifierKey()
	early := newTestLog(t, sampleEvents(4)...)
	early.signer = l.signer
	other := newTestLog(t, append(sampleEvents(4), Event{Kind: "k", Time: testTime})...)
	other.signer = l.signer
	for name, c := range map[string]struct {
		keep  func(uint64) bool
		end   Trailer
		words string
	}{
		"earlier":            {nil, early.trailer(), "line 7: the checkpoint covers 4 entries and the file holds entry 4"},
		"later":              {nil, l.trailerFor(6, someRoot), "line 7: the checkpoint covers 6 entries and the file ends after entry 4"},
		"same size":          {nil, other.trailer(), "line 7: the entries do not hash to the root"},
		"filtered, earlier":  {everyThird, early.trailer(), "line 4: the checkpoint covers 4 entries and the file holds entry 4"},
		"filtered, later":    {everyThird, l.trailerFor(6, someRoot), "line 2 (entry 1): its proof does not lead"},
		"filtered, the same": {everyThird, other.trailer(), "line 2 (entry 1): its proof does not lead"},
	} {
		t.Run(name, func(t *testing.T) {
			file := l.export(FormatJSONL, c.keep)
			entries := bytes.Count(file, []byte("\n")) - 2
			line, err := trailerLine{uint64(entries), string(c.end.Note), key}.encode()
			if err != nil {
				t.Fatal(err)
			}
			file = append(file[:bytes.LastIndex(file[:len(file)-1], []byte("\n"))+1], line...)
			_, err = verify(file, key)
			refused(t, err, c.words)
		})
	}
}

// A log that its own keeper filled with something else than entries verifies as a tree, but is not a log.
func TestVerifyRefusesOddEntries(t *testing.T) {
	for _, b := range []string{
		`{"seq":0,"note":"x"}`,
		`{"seq":0,"kind":"k\u0020","time":"2026-03-04T05:06:07Z"}`,
		`{"seq":0,"kind":"k","time":"yesterday"}`,
		`{"seq":0,"kind":"k","time":"2026-03-04T05:06:07Z"},"entry":{}`,
	} {
		l := newTestLog(t)
		l.appendBytes([]byte(b))
		_, err := verify(l.export(FormatJSONL, nil), l.signer.VerifierKey())
		refused(t, err, "line 2 (entry 0): ")
	}
}

func TestVerifyTellsAReaderThatFails(t *testing.T) {
	l := newTestLog(t, sampleEvents(3)...)
	file := l.export(FormatJSONL, nil)
	cause := errors.New("bad sector")
	for _, n := range []int{0, 100, len(file)} {
		_, err := Verify(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(cause)), VerifyOptions{})
		if cred.KindOf(err) != cred.Unavailable || !errors.Is(err, cause) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	if _, err := Verify(iotest.OneByteReader(bytes.NewReader(file)), VerifyOptions{}); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
}

// Neighbours share most of their proofs; what is kept of them must stay small.
func TestProofsAreKeptOnce(t *testing.T) {
	l := newTestLog(t, sampleEvents(1000)...)
	var p proofs
	hashes := 0
	for i := range l.entries {
		x := l.proven(uint64(i))
		p.add(i, x.Seq, LeafHash(x.Canonical), x.Proof)
		hashes += len(p.kept[i].own)
	}
	if hashes > 2500 {
		t.Errorf("%d hashes are kept for 1000 entries", hashes)
	}
	root, err := tlog.TreeHash(1000, l)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := p.check(Checkpoint{Size: 1000, Root: root}); !ok {
		t.Errorf("entry %d fails", at.seq)
	}
	p.kept[500].leaf[0] ^= 1
	if at, ok := p.check(Checkpoint{Size: 1000, Root: root}); ok || at.seq != 500 {
		t.Error(fmt.Sprint("a changed leaf: ", at.seq, ok))
	}
}
