package audit

import (
	"bytes"
	"testing"
)

// BenchmarkVerify reads an export of 10 000 entries of about 500 bytes.
func BenchmarkVerify(b *testing.B) {
	const n = 10_000
	l := newTestLog(b, sampleEvents(n)...)
	for name, keep := range map[string]func(uint64) bool{"whole": nil, "filtered": func(uint64) bool { return true }} {
		b.Run(name, func(b *testing.B) {
			file := l.export(FormatJSONL, keep)
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Verify(bytes.NewReader(file), VerifyOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func BenchmarkCanonical(b *testing.B) {
	e := sampleEvents(1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Canonical(1, e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	l := newTestLog(b, sampleEvents(1)...)
	b.SetBytes(int64(len(l.entries[0])))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(l.entries[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExport(b *testing.B) {
	l := newTestLog(b, sampleEvents(1000)...)
	for _, f := range Formats {
		b.Run(string(f), func(b *testing.B) {
			for b.Loop() {
				l.export(f, nil)
			}
			b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
