package strictyaml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file.
const (
	MaxBytes = 1 << 20 // of the text
	MaxDepth = 64      // of nesting
	MaxNodes = 50_000  // after aliases are expanded
)

// ReadFile parses the file at a path. The node is never nil, so that it can be decoded whatever the
// problems are. File references in it are relative to its folder.
func ReadFile(path string) (*Node, Problems) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > MaxBytes {
		return Parse(path, make([]byte, MaxBytes+1))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		cause := err
		if e, ok := errors.AsType[*os.PathError](err); ok {
			cause = e.Err
		}
		empty := emptyNode(path)
		return empty, Problems{{File: path, Message: "can't be read: " + cause.Error()}}
	}
	return Parse(path, text)
}

// Parse parses text; file names it in problems, and its folder is what file references are relative
// to. The node is never nil.
func Parse(file string, text []byte) (*Node, Problems) {
	root := emptyNode(file)
	tokens, problem := tokenize(root.doc, text)
	if problem != nil {
		return root, Problems{*problem}
	}
	tree, problem := parseTokens(file, tokens)
	if problem != nil {
		return root, Problems{*problem}
	}
	return build(root, tree)
}

func emptyNode(file string) *Node {
	return &Node{kind: Null, line: 1, column: 1, doc: &document{file: file, dir: filepath.Dir(file)}}
}

// tokenize checks the text's bounds before the recursive parser sees it.
func tokenize(doc *document, raw []byte) (token.Tokens, *Problem) {
	if len(raw) > MaxBytes {
		return nil, &Problem{File: doc.file, Message: fmt.Sprintf("is larger than %d bytes", MaxBytes)}
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(raw), "\ufeff"), "\r\n", "\n")
	for _, line := range strings.Split(text, "\n") {
		doc.lines = append(doc.lines, []rune(line))
		if i := strings.IndexFunc(line, unwelcome); i >= 0 || !utf8.ValidString(line) {
			column := utf8.RuneCountInString(line[:max(i, 0)]) + 1
			return nil, &Problem{
				File: doc.file, Line: len(doc.lines), Column: column,
				Message: "there is a control character here, or bytes that are not UTF-8",
			}
		}
	}
	tokens := lexer.Tokenize(text)
	if at := tooDeep(tokens); at != nil {
		return nil, &Problem{
			File: doc.file, Line: at.Position.Line, Column: at.Position.Column,
			Message: fmt.Sprintf("is nested deeper than %d levels", MaxDepth),
		}
	}
	return tokens, nil
}

func unwelcome(r rune) bool {
	return r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == '\ufeff'
}

// tooDeep returns the token at which nesting passes MaxDepth. Each level costs a bracket, or a "-"
// or "?" on the same line, or an indentation: the sum of the three is a bound for all.
func tooDeep(tokens token.Tokens) *token.Token {
	flow, entries, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			entries, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			entries++
		}
		if flow+entries > MaxDepth || t.Position.IndentNum > 4*MaxDepth && t.Type != token.CommentType {
			return t
		}
	}
	return nil
}

// parseTokens runs the parser, which may panic on texts that it does not foresee.
func parseTokens(file string, tokens token.Tokens) (tree *ast.File, problem *Problem) {
	defer func() {
		if recover() != nil {
			tree, problem = nil, &Problem{File: file, Message: "is not YAML that can be understood"}
		}
	}()
	tree, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return tree, nil
	}
	problem = &Problem{File: file, Message: "is not YAML that can be understood"}
	if e, ok := errors.AsType[yaml.Error](err); ok { // its Error method would print lines of the file
		problem.Message = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			problem.Line, problem.Column = t.Position.Line, t.Position.Column
		}
	}
	return nil, problem
}
