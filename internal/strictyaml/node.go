package strictyaml

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Kind says what a Node is.
type Kind uint8

// The kinds of node.
const (
	Null Kind = iota
	Bool
	Number
	String
	Mapping
	Sequence
)

// String returns the kind as messages name it.
func (k Kind) String() string {
	return [...]string{"nothing", "true or false", "a number", "a string", "a mapping", "a list"}[k]
}

// Node is a value in a parsed file, with its place. A nil *Node stands for a value that is not in any
// file: it has no keys, no items and no place.
type Node struct {
	kind         Kind
	text         string  // of a scalar
	entries      []entry // of a mapping, in file order, without repeated keys
	items        []*Node // of a sequence
	path         string
	line, column int
	doc          *document
}

type entry struct {
	key          string
	line, column int
	value        *Node
}

// document is what the nodes of one file share.
type document struct {
	file  string
	dir   string   // what file references are relative to
	lines [][]rune // the text
}

// Kind returns what the node is; Null for a nil node.
func (n *Node) Kind() Kind {
	if n == nil {
		return Null
	}
	return n.kind
}

// Text returns a scalar's value, "" for all else.
func (n *Node) Text() string {
	if n == nil {
		return ""
	}
	return n.text
}

// Keys returns a mapping's keys in file order.
func (n *Node) Keys() []string {
	if n == nil {
		return nil
	}
	keys := make([]string, len(n.entries))
	for i, e := range n.entries {
		keys[i] = e.key
	}
	return keys
}

// Items returns a sequence's items.
func (n *Node) Items() []*Node {
	if n == nil {
		return nil
	}
	return n.items
}

// Get returns the value under a mapping's key, nil where there is none.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// Without returns a mapping as if it did not have some keys, at the same place.
func (n *Node) Without(keys ...string) *Node {
	if n == nil {
		return nil
	}
	out := *n
	out.entries = slices.DeleteFunc(slices.Clone(n.entries), func(e entry) bool { return slices.Contains(keys, e.key) })
	return &out
}

// Dir returns the folder that file names in the file are relative to.
func (n *Node) Dir() string {
	if n == nil {
		return ""
	}
	return n.doc.dir
}

// Problem returns a problem with the value at a path below n, such as "targets[0].credential". A
// value that is not there is placed where the nearest value around it stands. On a nil node the
// problem has a path and no place.
func (n *Node) Problem(path, message, hint string) Problem {
	return n.ProblemIn(path, 0, message, hint)
}

// ProblemIn returns a problem at an offset, in characters, inside the string at a path below n.
func (n *Node) ProblemIn(path string, offset int, message, hint string) Problem {
	p := Problem{Path: path, Message: message, Hint: hint}
	if n == nil {
		return p
	}
	p.File, p.Path = n.doc.file, join(n.path, path)
	at := n.nearest(path)
	p.Line, p.Column = at.line, at.column
	if offset > 0 && at.kind == String {
		p.Line, p.Column = at.position(offset)
	}
	return p
}

// nearest returns the value at a path or the innermost one around it.
func (n *Node) nearest(path string) *Node {
	for _, step := range steps(path) {
		next := n.Get(step)
		if i, err := strconv.Atoi(strings.Trim(step, "[]")); err == nil && step[0] == '[' && i < len(n.items) {
			next = n.items[i]
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

var stepPattern = regexp.MustCompile(`\[\d+\]|\["(?:[^"\\]|\\.)*"\]|[^.\[]+`)

// steps splits a path: "a.b[0]["c d"]" is a, b, [0], c d.
func steps(path string) []string {
	all := stepPattern.FindAllString(path, -1)
	for i, s := range all {
		if strings.HasPrefix(s, `["`) {
			if key, err := strconv.Unquote(s[1 : len(s)-1]); err == nil {
				all[i] = key
			}
		}
	}
	return all
}

var plainKey = regexp.MustCompile(`^(?:[A-Za-z0-9_-]+)$`)

// Key returns the path of the value under a key of the mapping at path.
func Key(path, key string) string {
	if !plainKey.MatchString(key) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	return join(path, key)
}

// Index returns the path of an item of the sequence at path.
func Index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func join(path, rest string) string {
	if path == "" || rest == "" || rest[0] == '[' {
		return path + rest
	}
	return path + "." + rest
}
