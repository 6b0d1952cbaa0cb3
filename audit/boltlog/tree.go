package boltlog

import (
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the right edge of a Merkle tree: all that is needed to add leaves to it. edge[i] is the
// hash of a complete subtree of 2^i leaves, and counts where bit i of size is set.
type tree struct {
	size uint64
	edge [63]tlog.Hash // a size fits an int64, tlog's type
}

// add adds a leaf and appends to row the hashes that it completes, from the leaf upwards: what
// tlog.StoredHashes returns for it.
func (t *tree) add(leaf tlog.Hash, row []byte) []byte {
	h := leaf
	row = append(row, h[:]...)
	level := 0
	for ; t.size>>level&1 == 1; level++ {
		h = tlog.NodeHash(t.edge[level], h)
		row = append(row, h[:]...)
	}
	t.edge[level] = h
	t.size++
	return row
}

// root returns the hash of the tree (RFC 6962 section 2.1), which is not empty.
func (t *tree) root() (h tlog.Hash) {
	first := true
	for level := range t.edge {
		switch {
		case t.size>>level&1 == 0:
		case first:
			h, first = t.edge[level], false
		default:
			h = tlog.NodeHash(t.edge[level], h)
		}
	}
	return h
}

// rowLen is the length in bytes of the hashes that an entry completes.
func rowLen(seq uint64) int { return (1 + bits.TrailingZeros64(seq+1)) * tlog.HashSize }

// loadTree reads the right edge of a tree of a size.
func loadTree(size uint64, r tlog.HashReader) (tree, error) {
	t := tree{size: size}
	for level := range len(t.edge) {
		if size>>level&1 == 0 {
			continue
		}
		h, err := r.ReadHashes([]int64{tlog.StoredHashIndex(level, int64(size>>level-1))})
		if err != nil {
			return tree{}, err
		}
		t.edge[level] = h[0]
	}
	return t, nil
}
