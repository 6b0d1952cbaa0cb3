package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// handOver hands the log over to a fresh key, as a log does.
func (l *testLog) handOver() *Signer {
	l.t.Helper()
	next, err := GenerateSigner(l.signer.Origin())
	if err != nil {
		l.t.Fatal(err)
	}
	l.handOverTo(next)
	return next
}

func (l *testLog) handOverTo(next *Signer) {
	l.t.Helper()
	l.append(HandOverEvent(len(l.handOvers), l.signer.VerifierKey(), next.VerifierKey(), testTime))
	l.handOvers = append(l.handOvers, testHandOver{uint64(len(l.entries)), l.trailer().Note, next.VerifierKey()})
	l.signer = next
}

type testHandOver struct {
	size uint64
	note []byte
	next string
}

// proveHandOvers makes the log's hand-overs complete.
func (l *testLog) proveHandOvers() []HandOver {
	l.t.Helper()
	var all []HandOver
	for _, h := range l.handOvers {
		proof, err := tlog.ProveRecord(int64(h.size), int64(h.size)-1, l)
		if err != nil {
			l.t.Fatal(err)
		}
		consistency, err := tlog.ProveTree(int64(len(l.entries)), int64(h.size), l)
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, HandOver{h.note, h.next, l.entries[h.size-1], proof, consistency})
	}
	return all
}

// handedOver returns a log of n entries and then as many hand-overs as there are numbers, with so many
// entries after each; and the keys from the first on.
func handedOver(t testing.TB, n int, after ...int) (*testLog, []string) {
	t.Helper()
	l := newTestLog(t, sampleEvents(n)...)
	keys := []string{l.signer.VerifierKey()}
	for _, m := range after {
		keys = append(keys, l.handOver().VerifierKey())
		for _, e := range sampleEvents(m) {
			l.append(e)
		}
	}
	return l, keys
}

func TestVerifyFollowsHandOvers(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 8} {
		for _, after := range [][]int{{0}, {3}, {0, 0}, {1, 5}, {2, 0, 9}} {
			l, keys := handedOver(t, n, after...)
			for name, keep := range map[string]func(uint64) bool{
				"all": nil, "every third": everyThird, "none": func(uint64) bool { return false },
				"the hand-overs": func(seq uint64) bool { return handsOver(l.entries[seq]) },
			} {
				file := l.export(FormatJSONL, keep)
				for i, key := range keys {
					r, err := verify(file, key)
					if err != nil {
						t.Fatalf("%d entries, %v more, %s, key %d: %v", n, after, name, i, err)
					}
					if diff := cmp.Diff(keys[i+1:], append([]string{}, r.HandedTo...)); diff != "" || r.VerifierKey != keys[len(keys)-1] || r.KeyFromFile {
						t.Errorf("key %d: %+v %s", i, r, diff)
					}
				}
				if r, err := verify(file, ""); err != nil || !r.KeyFromFile || len(r.HandedTo) != len(keys)-1 {
					t.Errorf("without a key: %+v, %v", r, err)
				}
				stranger, _ := GenerateSigner(l.signer.Origin())
				_, err := verify(file, stranger.VerifierKey())
				refused(t, err, "none of those that signed this log")
			}
		}
	}
}

// tamper exports with a trailer that was changed, past the exporter's own check, and verifies with the
// log's first key.
func tamper(t *testing.T, l *testLog, key string, filtered bool, change func([]HandOver) []HandOver) error {
	t.Helper()
	var keep func(uint64) bool
	if filtered {
		keep = everyThird
	}
	good := l.export(FormatJSONL, keep)
	var bad []byte
	for line := range bytes.Lines(good) {
		switch {
		case bytes.HasPrefix(line, []byte(handOverPrefix)):
		case bytes.HasPrefix(line, []byte(trailerPrefix)):
			for _, h := range change(l.proveHandOvers()) {
				b, err := h.Encode()
				if err != nil {
					t.Fatal(err)
				}
				bad = append(bad, b...)
			}
			bad = append(bad, line...)
		default:
			bad = append(bad, line...)
		}
	}
	if bytes.Equal(good, bad) {
		t.Fatal("nothing was changed")
	}
	_, err := verify(bad, key)
	end := l.trailer()
	if end.HandOvers = change(l.proveHandOvers()); len(end.HandOvers) == 0 && filtered {
		return err // what it leaves out, nobody can know
	}
	if _, own := tryExport(FormatJSONL, end, l.exported(keep)...); cred.KindOf(own) != cred.Invalid {
		t.Errorf("the exporter writes it: %v", own)
	}
	return err
}

// TestVerifyRefusesHandOvers: a chain that is forged, cut, or of another log.
func TestVerifyRefusesHandOvers(t *testing.T) {
	l, keys := handedOver(t, 9, 5, 4, 3)
	first := l.handOvers[0]
	thief, _ := GenerateSigner(l.signer.Origin())
	fork, _ := handedOver(t, 9, 5)                       // with another first key
	stranger, _ := GenerateSigner("other.example.com/x") // of another log
	// What a thief of the second key may sign: another hand-over than the one that is in the log.
	entry := func(seq uint64, n int, old, next string) []byte {
		b, err := Canonical(seq, HandOverEvent(n, old, next, testTime))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	root := func(h HandOver) Checkpoint {
		_, d, _ := handOverEntry(h.Entry)
		c, err := OpenCheckpoint(h.Note, d.old)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	signed := func(s *Signer, c Checkpoint) []byte {
		note, err := s.Checkpoint(c.Size, c.Root)
		if err != nil {
			t.Fatal(err)
		}
		return note
	}
	for name, c := range map[string]struct {
		change func([]HandOver) []HandOver
		word   string
	}{
		"none":              {func([]HandOver) []HandOver { return nil }, ""},
		"the first missing": {func(h []HandOver) []HandOver { return h[1:] }, "one is missing"},
		"a middle one missing": {func(h []HandOver) []HandOver {
			return []HandOver{h[0], h[2]}
		}, "one is missing"},
		"the last missing": {func(h []HandOver) []HandOver { return h[:2] }, "is signed by"},
		"out of order": {func(h []HandOver) []HandOver {
			return []HandOver{h[1], h[0], h[2]}
		}, "out of order"},
		"twice": {func(h []HandOver) []HandOver { return append(h, h[2]) }, "one is missing, or they are out of order"},
		"signed by another": {func(h []HandOver) []HandOver {
			h[1].Note = signed(thief, root(h[1]))
			return h
		}, "not signed by the key"},
		"signed by the new key": {func(h []HandOver) []HandOver {
			h[2].Note = signed(l.signer, root(h[2]))
			return h
		}, "not signed by the key"},
		"names another new key": {func(h []HandOver) []HandOver {
			h[2].VerifierKey = thief.VerifierKey()
			return h
		}, "names another new key"},
		"entry exchanged": {func(h []HandOver) []HandOver {
			seq, _, _ := handOverEntry(h[2].Entry)
			h[2].Entry, h[2].VerifierKey = entry(seq, 2, keys[2], thief.VerifierKey()), thief.VerifierKey()
			return h
		}, "not in its tree"},
		"entry of another kind": {func(h []HandOver) []HandOver { h[1].Entry = l.entries[0]; return h }, "does not tell of one"},
		"entry is not the last": {func(h []HandOver) []HandOver {
			h[1].Entry = entry(3, 1, keys[1], keys[2])
			return h
		}, "not the last one"},
		"old key of another": {func(h []HandOver) []HandOver {
			seq, _, _ := handOverEntry(h[1].Entry)
			h[1].Entry = entry(seq, 1, thief.VerifierKey(), keys[2])
			return h
		}, "another old key"},
		"fork":             {func(h []HandOver) []HandOver { return append(fork.proveHandOvers(), h[1:]...) }, ""},
		"inclusion broken": {func(h []HandOver) []HandOver { h[1].Proof[0][0] ^= 1; return h }, "not in its tree"},
		"inclusion short":  {func(h []HandOver) []HandOver { h[1].Proof = h[1].Proof[1:]; return h }, "not in its tree"},
		"consistency broken": {func(h []HandOver) []HandOver {
			h[1].Consistency[0][0] ^= 1
			return h
		}, "not the beginning of the log"},
		"consistency lacking": {func(h []HandOver) []HandOver { h[1].Consistency = nil; return h }, "not the beginning"},
		"another origin": {func(h []HandOver) []HandOver {
			seq, _, _ := handOverEntry(h[0].Entry)
			h[0].Entry, h[0].VerifierKey = entry(seq, 0, keys[0], stranger.VerifierKey()), stranger.VerifierKey()
			return h[:1]
		}, "of another log"},
		"number that is none": {func(h []HandOver) []HandOver {
			e := HandOverEvent(1, keys[1], keys[2], testTime)
			e.Detail["number"] = 1.5
			h[1].Entry, _ = Canonical(l.handOvers[1].size-1, e)
			return h
		}, "out of order"},
		"copied by a proxy": {func(h []HandOver) []HandOver {
			e := HandOverEvent(1, keys[1], keys[2], testTime)
			e.Origin = &Origin{Log: "daypass-proxy/edge/1"}
			h[1].Entry, _ = Canonical(l.handOvers[1].size-1, e)
			return h
		}, "does not tell of one"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, filtered := range []bool{false, true} {
				refused(t, tamper(t, l, keys[0], filtered, c.change), c.word)
			}
		})
	}
	if first.next != keys[1] {
		t.Error("the log was changed")
	}
}

// TestHandOverMissingIsSeen: with the newest key alone a file whose entries tell of a hand-over that is
// not there fails too.
func TestHandOverMissingIsSeen(t *testing.T) {
	l, keys := handedOver(t, 3, 2)
	none := func([]HandOver) []HandOver { return nil }
	refused(t, tamper(t, l, keys[1], false, none), "that hand-over is missing")
	// A genuine hand-over of a shorter log is refused with a checkpoint from before it.
	short, _ := handedOver(t, 3, 2)
	end := short.trailerFor(2, mustRoot(t, short, 2))
	end.HandOvers = short.proveHandOvers()
	_, err := tryExport(FormatJSONL, end)
	refused(t, err, "not the last one that it covers")
}

func mustRoot(t testing.TB, l *testLog, size int64) tlog.Hash {
	t.Helper()
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestHandOverBack: a log that was handed over and back again verifies with either key.
func TestHandOverBack(t *testing.T) {
	l, keys := handedOver(t, 2, 2)
	old := newTestLog(t, sampleEvents(2)...)
	l2 := old
	first := l2.signer
	second := l2.handOver()
	l2.handOverTo(first)
	file := l2.export(FormatJSONL, nil)
	r, err := verify(file, first.VerifierKey())
	if err != nil || !slices.Equal(r.HandedTo, []string{second.VerifierKey(), first.VerifierKey()}) {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := verify(file, second.VerifierKey()); err != nil || !slices.Equal(r.HandedTo, []string{first.VerifierKey()}) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := verify(l.export(FormatJSONL, nil), keys[0]); err != nil {
		t.Error(err)
	}
}

// TestHandOverTooLarge: a file can't make who verifies it keep more than hand-overs are.
func TestHandOverTooLarge(t *testing.T) {
	line, err := HandOver{Note: []byte("n"), VerifierKey: "k", Entry: []byte(`"` + strings.Repeat("x", 60_000) + `"`)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Verify(strings.NewReader(headerLine+string(line)), VerifyOptions{})
	if cred.KindOf(err) != cred.Invalid || !strings.Contains(cred.PublicText(err), "larger than any hand-over") {
		t.Errorf("a hand-over of 60 kB: %v", err)
	}
}

// TestHandOverEveryByte: no byte of the lines of hand-overs can be changed, and no line moved.
func TestHandOverEveryByte(t *testing.T) {
	l, keys := handedOver(t, 3, 1, 0)
	file := l.export(FormatJSONL, func(uint64) bool { return false })
	start := bytes.Index(file, []byte(handOverPrefix))
	end := bytes.Index(file, []byte(trailerPrefix))
	for i := start; i < end; i++ {
		for _, flip := range []byte{1, 0x20} {
			bad := bytes.Clone(file)
			bad[i] ^= flip
			if _, err := verify(bad, keys[0]); cred.KindOf(err) != cred.Invalid {
				t.Fatalf("byte %d of %d can be changed: %q: %v", i, len(file), bad[max(0, i-20):i+20], err)
			}
		}
	}
	lines := slices.Collect(bytes.Lines(l.export(FormatJSONL, nil)))
	n := len(lines)
	moved := slices.Concat(lines[0], lines[n-3], bytes.Join(lines[1:n-3], nil), lines[n-2], lines[n-1])
	_, err := verify(moved, keys[0])
	refused(t, err, "neither a hand-over nor the trailer")
}

func TestParseHandOver(t *testing.T) {
	l, _ := handedOver(t, 3, 1)
	h := l.proveHandOvers()[0]
	line, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseHandOver(line)
	if diff := cmp.Diff(h, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, bad := range []string{"", "{}\n", strings.Replace(string(line), `{"hand_over":{`, `{"hand_over": {`, 1), string(line) + "\n", strings.Replace(string(line), `"proof":[`, `"proof":["A",`, 1)} {
		_, err := ParseHandOver([]byte(bad))
		refused(t, err)
	}
}

// TestHandOversProperty: whenever a log was handed over, each key that ever signed it verifies its
// exports, filtered or not, and no other does.
func TestHandOversProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		after := rapid.SliceOfN(rapid.IntRange(0, 6), 0, 5).Draw(rt, "after")
		l, keys := handedOver(t, rapid.IntRange(0, 20).Draw(rt, "before"), after...)
		keep := rapid.SliceOfN(rapid.Bool(), len(l.entries), len(l.entries)).Draw(rt, "keep")
		filter := func(seq uint64) bool { return keep[seq] }
		if rapid.Bool().Draw(rt, "whole") {
			filter = nil
		}
		file := l.export(FormatJSONL, filter)
		for i, key := range keys {
			if r, err := verify(file, key); err != nil || len(r.HandedTo) != len(keys)-1-i {
				rt.Fatalf("key %d of %d: %+v, %v", i, len(keys), r, err)
			}
		}
		stranger, _ := GenerateSigner(l.signer.Origin())
		if _, err := verify(file, stranger.VerifierKey()); err == nil {
			rt.Fatal("a stranger's key verifies")
		}
	})
}

// FuzzVerifyHandOvers: with the log's first key a file passes only if the exporter wrote it.
func FuzzVerifyHandOvers(f *testing.F) {
	l := newTestLog(f, sampleEvents(2)...)
	first := fixedSigner(f, "log.example.com")
	l.signer = first
	second := fixedSignerOf(f, "log.example.com", 8)
	l.handOverTo(second)
	l.append(sampleEvents(1)[0])
	l.handOverTo(fixedSignerOf(f, "log.example.com", 9))
	for _, keep := range []func(uint64) bool{nil, everyThird, func(uint64) bool { return false }} {
		f.Add(l.export(FormatJSONL, keep))
	}
	whole := l.export(FormatJSONL, nil)
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := verify(file, first.VerifierKey())
		if err != nil {
			return
		}
		again := whole
		if !bytes.Equal(file, whole) {
			here := *l
			here.t = t
			again = here.again(t, file)
		}
		if !bytes.Equal(again, file) || len(r.HandedTo) != 2 {
			t.Fatalf("a file that nobody exported passes: %+v\n%q", r, file)
		}
	})
}

func TestSignerOfTwoKeys(t *testing.T) {
	first, _ := GenerateSigner("log.example.com")
	second, _ := GenerateSigner("log.example.com")
	both, err := ParseSigner(first.Beside(second).Encode())
	if err != nil || both.VerifierKey() != first.VerifierKey() || both.Other().VerifierKey() != second.VerifierKey() {
		t.Fatalf("%v, %v", both.VerifierKey(), err)
	}
	for _, one := range []*Signer{first, second} {
		if got := both.Of(one.VerifierKey()); got == nil || got.VerifierKey() != one.VerifierKey() || got.Other() != nil {
			t.Errorf("of %s: %v", one.VerifierKey(), got)
		}
	}
	if first.Of(second.VerifierKey()) != nil || both.Beside(nil).Other() != nil || first.Other() != nil {
		t.Error("a signer has a key beside it that it was not given")
	}
	stranger, _ := GenerateSigner("other.example.com")
	for _, text := range []string{
		first.Encode().RevealString() + "\n" + stranger.Encode().RevealString(),
		first.Encode().RevealString() + "\n\n" + second.Encode().RevealString(),
		both.Encode().RevealString() + first.Encode().RevealString(),
	} {
		_, err := ParseSigner(cred.SecretString(text))
		refused(t, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if out := fmt.Sprintf(verb, both); strings.Contains(out, "PRIVATE") {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}
