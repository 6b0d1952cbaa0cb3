package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress shows on a terminal how far long work is, and writes nothing elsewhere. It is for one
// goroutine at a time.
type progress struct {
	w     io.Writer // nil where it is no terminal
	what  string
	last  time.Time
	shown bool
}

// progressEvery is how often the line changes: often enough to be seen moving.
const progressEvery = 200 * time.Millisecond

func newProgress(w io.Writer, what string) *progress {
	p := &progress{what: what}
	f, ok := w.(*os.File)
	if !ok {
		return p
	}
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		p.w = w
	}
	return p
}

func (p *progress) show(n int) {
	if p.w == nil || time.Since(p.last) < progressEvery {
		return
	}
	p.last, p.shown = time.Now(), true
	fmt.Fprintf(p.w, "\r\x1b[K%s %s", thousands(n), p.what)
}

// clear removes the line, so that something else can be written.
func (p *progress) clear() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
