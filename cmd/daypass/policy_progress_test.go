package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, what: "decisions replayed"}
	p.clear()
	p.show(1234)
	p.show(5678) // too soon after the last to be shown
	p.clear()
	p.clear()
	if want := "\r\x1b[K1,234 decisions replayed\r\x1b[K"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// TestProgressIsForTerminals: nothing is written to a file, nor to what is no file.
func TestProgressIsForTerminals(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var buf bytes.Buffer
	newProgress(f, "x").show(1)
	newProgress(&buf, "x").show(1)
	if info, err := f.Stat(); err != nil || info.Size()+int64(buf.Len()) != 0 {
		t.Errorf("%d bytes were written, %v", info.Size(), err)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 9312: "9,312", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
}
