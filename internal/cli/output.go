package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// The values of -o that every command which prints has.
const (
	Text = "text"
	JSON = "json"
)

// AddOutput adds the flag -o.
func AddOutput(cmd *cobra.Command, output *string) {
	AddChoice(cmd, output, "output", "o", Text, JSON)
}

// AddChoice adds a flag that takes one of some words, the first of them where it is not given.
// Another word is wrong usage, found before anything is done.
func AddChoice(cmd *cobra.Command, into *string, name, shorthand string, words ...string) {
	*into = words[0]
	cmd.Flags().VarP(&choice{into, words}, name, shorthand, orList(words))
	// The error is for a flag that does not exist, or has its words twice.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// choice is a pflag.Value.
type choice struct {
	into  *string
	words []string
}

func (c *choice) String() string { return *c.into }
func (c *choice) Type() string   { return "word" }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return errors.New("must be " + orList(c.words))
	}
	*c.into = s
	return nil
}

// orList returns "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Row writes a line of a table whose columns are separated by tabs. What was typed by others, such as
// a reason or a name, can't break the table or steer the terminal.
func Row(w io.Writer, cells ...string) {
	clean := make([]string, len(cells))
	for i, cell := range cells {
		clean[i] = visible(cell)
	}
	fmt.Fprintln(w, strings.Join(clean, "\t"))
}

// visible returns a text with what does not print written as in a Go literal.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// WriteJSON writes a value as indented JSON.
func WriteJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Checked is what a check of a configuration file found, as JSON.
type Checked struct {
	File     string    `json:"file"`
	OK       bool      `json:"ok"`
	Problems []Problem `json:"problems"`
}

// Problem is a strictyaml.Problem as JSON.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// ShowCheck prints the outcome of a check: that there are no problems, with a note, where err is nil;
// else it returns err, so that report prints its problems, and prints them as JSON too where asked.
func ShowCheck(w io.Writer, output, file, note string, err error) error {
	if output != JSON {
		if err == nil {
			fmt.Fprintf(w, "%s: no problems%s\n", file, note)
		}
		return err
	}
	out := Checked{File: file, OK: err == nil, Problems: []Problem{}}
	problems, ok := errors.AsType[strictyaml.Problems](err)
	if err != nil && !ok {
		return err
	}
	for _, p := range problems.Sorted() {
		out.Problems = append(out.Problems, Problem(p))
	}
	return errors.Join(err, WriteJSON(w, out))
}

// checkedWriter remembers the first error of what it writes to.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if c.err == nil {
		c.err = err
	}
	return n, err
}
