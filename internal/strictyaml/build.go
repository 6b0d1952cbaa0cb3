package strictyaml

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// builder turns the parser's tree into Nodes, expanding aliases within a budget.
type builder struct {
	doc      *document
	anchors  map[string]ast.Node
	nodes    int // built so far
	problems Problems
}

// build fills in root from a parsed file.
func build(root *Node, file *ast.File) (*Node, Problems) {
	b := &builder{doc: root.doc, anchors: map[string]ast.Node{}}
	var bodies []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && !isComment(d.Body) {
			bodies = append(bodies, d.Body)
		}
	}
	if len(bodies) == 0 {
		return root, nil
	}
	n := b.node("", bodies[0], 0)
	if len(bodies) > 1 {
		b.refuse("", bodies[1], "a second document begins here; a configuration file holds one")
	}
	if b.nodes > MaxNodes {
		return root, Problems{{File: b.doc.file, Message: fmt.Sprintf("has more than %d values once its aliases are expanded", MaxNodes)}}
	}
	return n, b.problems
}

func isComment(n ast.Node) bool {
	_, ok := n.(*ast.CommentGroupNode)
	return ok
}

// node converts one value. Past the budget it returns null nodes, and the whole file is refused.
func (b *builder) node(path string, n ast.Node, depth int) *Node {
	b.nodes++
	out := &Node{path: path, doc: b.doc}
	out.line, out.column = place(n)
	if b.nodes > MaxNodes || depth > MaxDepth {
		if depth > MaxDepth {
			b.refuse(path, n, fmt.Sprintf("is nested deeper than %d levels", MaxDepth))
		}
		return out
	}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		out.kind, out.text = Bool, n.Token.Value
	case *ast.IntegerNode:
		out.kind, out.text = Number, n.Token.Value
	case *ast.FloatNode:
		out.kind, out.text = Number, n.Token.Value
	case *ast.InfinityNode:
		out.kind, out.text = Number, n.Token.Value
	case *ast.NanNode:
		out.kind, out.text = Number, n.Token.Value
	case *ast.StringNode:
		out.kind, out.text = String, n.Value
	case *ast.LiteralNode:
		out.kind, out.text = String, n.Value.Value
	case *ast.SequenceNode:
		out.kind = Sequence
		for i, item := range n.Values {
			out.items = append(out.items, b.node(Index(path, i), item, depth+1))
		}
	case *ast.MappingNode:
		out.kind = Mapping
		b.entries(out, n.Values, depth)
	case *ast.MappingValueNode:
		out.kind = Mapping
		b.entries(out, []*ast.MappingValueNode{n}, depth)
	case *ast.AnchorNode:
		anchored := b.node(path, n.Value, depth+1)
		b.anchors[n.Name.GetToken().Value] = n.Value // only now: an anchor can't hold itself
		return anchored
	case *ast.AliasNode:
		return b.alias(out, n, depth)
	case *ast.TagNode:
		b.refuse(path, n, "tags are not supported")
	case *ast.DirectiveNode:
		b.refuse(path, n, "directives are not supported")
	default:
		b.refuse(path, n, "this kind of value is not supported")
	}
	return out
}

func (b *builder) alias(out *Node, n *ast.AliasNode, depth int) *Node {
	name := n.Value.GetToken().Value
	target, ok := b.anchors[name]
	if !ok {
		b.refuse(out.path, n, fmt.Sprintf("there is no anchor %q before this alias", name))
		return out
	}
	return b.node(out.path, target, depth+1)
}

func (b *builder) entries(out *Node, values []*ast.MappingValueNode, depth int) {
	seen := map[string]int{}
	for _, v := range values {
		key, ok := b.key(out.path, v.Key)
		if !ok {
			continue
		}
		path := Key(out.path, key)
		line, column := place(v.Key)
		if first, repeated := seen[key]; repeated {
			b.refuse(path, v.Key, fmt.Sprintf("is set twice, first on line %d", first))
			continue
		}
		seen[key] = line
		out.entries = append(out.entries, entry{key, line, column, b.node(path, v.Value, depth+1)})
	}
}

// key returns a mapping's key, which must be a string or look like one.
func (b *builder) key(path string, n ast.MapKeyNode) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, true
	case *ast.MergeKeyNode:
		b.refuse(path, n, "merge keys are not supported; repeat the keys, or alias the whole value")
	default:
		b.refuse(path, n, "a key must be a plain string")
	}
	return "", false
}

func (b *builder) refuse(path string, n ast.Node, message string) {
	line, column := place(n)
	b.problems = append(b.problems, Problem{File: b.doc.file, Line: line, Column: column, Path: path, Message: message})
}

// place returns where a value begins.
func place(n ast.Node) (line, column int) {
	var t *token.Token
	switch n := n.(type) {
	case *ast.MappingNode:
		if t = n.Start; !n.IsFlowStyle && len(n.Values) > 0 {
			return place(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return place(n.Key)
	default:
		t = n.GetToken()
	}
	if t == nil || t.Position == nil {
		return 1, 1
	}
	return t.Position.Line, t.Position.Column
}
