package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File         string
	Line, Column int    // from 1, in characters; zero where no place in the file is meant
	Path         string // of the value, e.g. "targets[0].credential.issuer"; empty for the whole file
	Message      string
	Hint         string // what to do, or what was probably meant; may be empty
}

// String returns the problem in one line: FILE:LINE:COLUMN: PATH: MESSAGE (HINT).
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems are all that is wrong with a file. As an error it reads as one problem a line.
type Problems []Problem //nolint:errname // it is a list first; Err makes it an error

// Error returns the problems in the order of their places, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps.Sorted() {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns the problems as an error, nil where there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Merge adds what a later check found, without what follows from a problem that is known: the later
// problems of values that have one already.
func (ps Problems) Merge(later Problems) Problems {
	all := slices.Clone(ps)
	for _, p := range later {
		if !slices.ContainsFunc(ps, func(known Problem) bool { return known.Path == p.Path }) {
			all = append(all, p)
		}
	}
	return all
}

// Sorted returns the problems in the order of their places in the file.
func (ps Problems) Sorted() Problems {
	sorted := slices.Clone(ps)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return sorted
}

// DidYouMean returns a hint that names the known word nearest to an unknown one, or "" where none
// is near.
func DidYouMean(unknown string, known []string) string {
	if best := Nearest(unknown, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// Nearest returns the known word that was probably meant by an unknown one, or "" where none is near.
func Nearest(unknown string, known []string) string {
	best, bestDistance := "", max(1, len(unknown)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(unknown), strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance of two words, restricted to swaps of neighbours.
// Words too long to be names are far from everything.
func distance(a, b string) int {
	const longest = 128
	if len(a) > longest || len(b) > longest {
		return longest
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
