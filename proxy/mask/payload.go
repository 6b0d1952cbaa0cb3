package mask

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// leafKind says what to do with a part of a JSON payload.
type leafKind uint8

const (
	leafAlone  leafKind = iota // a string or name, masked on its own
	leafNumber                 // a number, masked on its own and then a string
	leafText                   // a string that goes on in the next event
	leafDrop                   // a value that becomes null
)

// leaf is a part of a payload that may have to change.
type leaf struct {
	kind       leafKind
	start, end int
	in         *node
	name       string
}

// payload is a JSON value as an event carries it.
type payload struct {
	dec    *jsontext.Decoder
	leaves []leaf
	kind   string  // the root's "type"
	scope  scope   // which of several texts the event belongs to
	ended  []*node // choices that have a finish_reason
}

// scope is the root's members that tell parallel texts apart, as they are written there.
type scope [len(scopeNames)]string

var scopeNames = [...]string{"item_id", "output_index", "content_index", "summary_index", "index"}

// node is an object or array on the way to a leaf.
type node struct {
	parent *node
	name   string // the member's name, or the element's position in brackets
	index  string // the value of its member "index", which names it better than its position
	delta  bool   // it is, or lies in, a member called delta
}

// path tells where a node stands, the same in each event of a stream.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	if n.index != "" && n.name[0] == '[' {
		return n.parent.path() + "/[#" + n.index + "]"
	}
	return n.parent.path() + "/" + n.name
}

// readPayload reads JSON, or returns false where data is something else.
func readPayload(data []byte) (*payload, bool) {
	p := &payload{dec: jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))}
	if err := p.value(&node{}, ""); err != nil {
		return nil, false
	}
	_, err := p.dec.ReadToken()
	return p, errors.Is(err, io.EOF)
}

// value reads the next value, a member or element of in. The root's own in has no parent and no name.
func (p *payload) value(in *node, name string) error {
	kind := p.dec.PeekKind()
	if name == "logprobs" && kind != 'n' {
		return p.scalar(in, name, leafDrop)
	}
	if name == "finish_reason" && kind != 'n' {
		p.ended = append(p.ended, in)
	}
	switch kind {
	case '{':
		return p.object(p.enter(in, name))
	case '[':
		return p.array(p.enter(in, name))
	case '"':
		if continues(in, name) {
			return p.scalar(in, name, leafText)
		}
		return p.scalar(in, name, leafAlone)
	case '0':
		return p.scalar(in, name, leafNumber)
	}
	_, err := p.dec.ReadToken()
	return err
}

func (p *payload) enter(in *node, name string) *node {
	if name == "" && in.parent == nil {
		return in
	}
	return &node{parent: in, name: name, delta: in.delta || name == "delta"}
}

func (p *payload) object(n *node) error {
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() == '"' {
		raw, err := p.leaf(n, "", leafAlone)
		if err != nil {
			return err
		}
		if err := p.value(n, string(decoded(raw))); err != nil {
			return err
		}
	}
	_, err := p.dec.ReadToken()
	return err
}

func (p *payload) array(n *node) error {
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for i := 0; p.dec.PeekKind() != ']'; i++ {
		if err := p.value(n, "["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	_, err := p.dec.ReadToken()
	return err
}

// scalar reads a value whole, and keeps it where it tells texts apart.
func (p *payload) scalar(in *node, name string, kind leafKind) error {
	raw, err := p.leaf(in, name, kind)
	if err != nil {
		return err
	}
	if name == "index" {
		in.index = string(raw)
	}
	if in.parent != nil {
		return nil
	}
	if name == "type" && kind == leafAlone {
		p.kind = string(decoded(raw))
	}
	for i, id := range scopeNames {
		if name == id {
			p.scope[i] = string(raw)
		}
	}
	return nil
}

// leaf reads a value whole and notes where it stands. What it returns is valid until the next read.
func (p *payload) leaf(in *node, name string, kind leafKind) ([]byte, error) {
	raw, err := p.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(p.dec.InputOffset())
	p.leaves = append(p.leaves, leaf{kind, end - len(raw), end, in, name})
	return raw, nil
}

// decoded returns what a JSON string that a decoder has read stands for. Bytes that are no UTF-8 are
// replaced. It may share memory with the literal.
func decoded(literal []byte) []byte {
	if bytes.IndexByte(literal, '\\') < 0 && utf8.Valid(literal) {
		return literal[1 : len(literal)-1]
	}
	b, _ := jsontext.AppendUnquote(nil, literal)
	return b
}

// labels are members that stand in deltas beside the text, and are whole.
var labels = map[string]bool{
	"type": true, "role": true, "id": true, "call_id": true, "name": true, "object": true, "model": true, "status": true,
	"finish_reason": true, "stop_reason": true, "stop_sequence": true, "signature": true, "encrypted_content": true,
}

// continues reports whether a string goes on in later events: what lies in a member called delta
// (Chat Completions, Responses, Messages), a choice's text (legacy completions) or a candidate's
// (Gemini). A member that is new there counts, which costs a little delay at worst.
func continues(in *node, name string) bool {
	if labels[name] {
		return false
	}
	if in.delta || name == "delta" {
		return true
	}
	if name != "text" {
		return false
	}
	for n := in; n.parent != nil; n = n.parent {
		if n.name == "choices" || n.name == "candidates" {
			return true
		}
	}
	return false
}
