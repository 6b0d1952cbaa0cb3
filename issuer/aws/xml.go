package aws

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth bounds how deep an answer nests; AWS' go to six.
const maxDepth = 12

// element is one element of an answer: with text or with children.
type element struct {
	name xml.Name
	text string
	kids []*element
}

// readXML reads a whole document, strictly: one root, no directives (a DOCTYPE among them), no text beside
// children. encoding/xml resolves no entities but XML's own five, and takes UTF-8 alone.
func readXML(body []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	top := &element{}
	open := []*element{top}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New("the answer is no XML") // the cause may quote the answer
		}
		in := open[len(open)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			if len(open) > maxDepth {
				return nil, errors.New("the answer nests too deep")
			}
			kid := &element{name: tok.Name}
			in.kids = append(in.kids, kid)
			open = append(open, kid)
		case xml.EndElement:
			if in.text = strings.TrimSpace(in.text); in.text != "" && len(in.kids) > 0 {
				return nil, errors.New("the answer mixes text and elements")
			}
			open = open[:len(open)-1]
		case xml.CharData:
			in.text += string(tok)
		case xml.Directive:
			return nil, errors.New("the answer has a directive")
		}
	}
	if len(top.kids) != 1 || strings.TrimSpace(top.text) != "" {
		return nil, errors.New("the answer is not one document")
	}
	return top.kids[0], nil
}

// document reads an answer whose root has a name in a namespace.
func document(body []byte, space, name string) (*element, error) {
	root, err := readXML(body)
	if err != nil {
		return nil, err
	}
	if root.name != (xml.Name{Space: space, Local: name}) {
		return nil, fmt.Errorf("the answer is no %s of %s", name, space)
	}
	return root, nil
}

// all returns the children of a name, in the element's own namespace.
func (e *element) all(name string) []*element {
	var found []*element
	for _, kid := range e.kids {
		if kid.name == (xml.Name{Space: e.name.Space, Local: name}) {
			found = append(found, kid)
		}
	}
	return found
}

// at returns the element at a path; nil unless there is exactly one at each step.
func (e *element) at(path ...string) *element {
	for _, name := range path {
		found := e.all(name)
		if len(found) != 1 {
			return nil
		}
		e = found[0]
	}
	return e
}

// textAt returns the text at a path; empty unless there is exactly one such element, and it has text.
func (e *element) textAt(path ...string) string {
	if found := e.at(path...); found != nil && len(found.kids) == 0 {
		return found.text
	}
	return ""
}
