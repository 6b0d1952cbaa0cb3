package audit

import (
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// tree computes the hash of a Merkle tree (RFC 6962, section 2.1) from its leaves in order. It keeps
// one hash for each complete subtree of the leaves seen, so at most 64. The zero tree is empty.
type tree struct {
	size  uint64
	roots []tlog.Hash // of complete subtrees from left to right, as the one bits of size
}

func (t *tree) add(leaf tlog.Hash) {
	t.roots = append(t.roots, leaf)
	for n := t.size; n&1 == 1; n >>= 1 { // two neighbours of one height become one
		last := len(t.roots) - 1
		t.roots[last-1] = tlog.NodeHash(t.roots[last-1], t.roots[last])
		t.roots = t.roots[:last]
	}
	t.size++
}

func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.roots) - 1
	root := t.roots[last]
	for i := last - 1; i >= 0; i-- {
		root = tlog.NodeHash(t.roots[i], root)
	}
	return root
}
