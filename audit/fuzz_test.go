package audit

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzParse: what Parse takes is exactly what Canonical writes.
func FuzzParse(f *testing.F) {
	for i, e := range append(sampleEvents(6), fullEvent()) {
		b, err := Canonical(uint64(i), e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"seq":0,"kind":"k","time":"2026-03-04T05:06:07Z","detail":{"\ufffd":"\\ufffd"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, e, err := Parse(b)
		if err != nil {
			return
		}
		sameReading(t, b)
		again, err := Canonical(seq, e)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v\n%q\n%q", err, b, again)
		}
		if !json.Valid(b) || bytes.ContainsAny(b, "\r\n") {
			t.Fatalf("not one line of JSON: %q", b)
		}
		if got, ok := readSeq(b); seq < 1<<63-1 && (!ok || got != seq) {
			t.Fatalf("the number is read as %d: %q", got, b)
		}
		if kind, at, ok := kindAndTime(b); ok {
			when, err := parseTime(at)
			if Kind(kind) != e.Kind || err != nil || !when.Equal(e.Time) {
				t.Fatalf("read as %q at %q (%v): %q", kind, at, err, b)
			}
		}
	})
}

// FuzzVerify: a file passes only if it is one of those that the exporter wrote.
func FuzzVerify(f *testing.F) {
	l := newTestLog(f, sampleEvents(3)...)
	l.signer = fixedSigner(f, "log.example.com") // the workers are processes of their own and need the same key
	files := [][]byte{
		l.export(FormatJSONL, nil), l.export(FormatJSONL, everyThird), l.export(FormatJSONL, func(uint64) bool { return false }),
	}
	for _, file := range files {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := verify(file, l.signer.VerifierKey())
		if err != nil {
			return
		}
		for _, known := range files {
			if bytes.Equal(file, known) {
				return
			}
		}
		if r.Complete || !bytes.Equal(l.again(t, file), file) {
			t.Fatalf("a file that nobody exported passes: %+v\n%q", r, file)
		}
	})
}

// again exports the entries that a filtered export holds once more.
func (l *testLog) again(t *testing.T, file []byte) []byte {
	kept := map[uint64]bool{}
	for line := range bytes.Lines(file) {
		var got struct{ Entry *struct{ Seq uint64 } }
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		if got.Entry != nil {
			kept[got.Entry.Seq] = true
		}
	}
	return l.export(FormatJSONL, func(seq uint64) bool { return kept[seq] })
}
