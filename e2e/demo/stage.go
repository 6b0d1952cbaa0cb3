package main

import (
	"fmt"
	"io"
	"strings"
)

// stage is what the audience sees.
type stage struct {
	out  io.Writer
	acts int
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// act begins a step.
func (s *stage) act(title string) {
	s.acts++
	s.say("\n%d. %s", s.acts, title)
}

// typed shows a command as a user would type it.
func (s *stage) typed(command string) { s.say("   $ %s", command) }

// shows prints what came back, indented and at most so many lines.
func (s *stage) shows(text string) {
	const most = 24
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		if i == most {
			s.say("     … %d more lines", len(lines)-most)
			return
		}
		s.say("     %s", line)
	}
}
