package audit

import (
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// proofs keeps a filtered export's inclusion proofs until its checkpoint is known. Neighbours share the
// upper part of their proofs, so of each only the hashes that the one before it had not are kept.
type proofs struct {
	kept   []keptProof
	last   []tlog.Hash // the proof last added
	parsed []tlog.Hash // scratch of parse
}

type keptProof struct {
	line   int
	seq    uint64
	leaf   tlog.Hash
	own    []tlog.Hash // from the leaf upwards
	shared int         // so many hashes at the top are those of the proof before
}

// parse reads `"HASH","HASH"],...` and returns what stands behind the bracket. The proof is valid until
// the next call.
func (p *proofs) parse(text []byte) (proof []tlog.Hash, rest []byte, ok bool) {
	const item = hashText + 2
	p.parsed = p.parsed[:0]
	for len(text) > item && text[0] == '"' && text[item-1] == '"' {
		h, ok := parseHash(text[1 : item-1])
		if !ok {
			return nil, nil, false
		}
		p.parsed = append(p.parsed, h)
		switch text[item] {
		case ']':
			return p.parsed, text[item+1:], true
		case ',':
			text = text[item+1:]
		default:
			return nil, nil, false
		}
	}
	return nil, nil, false
}

func (p *proofs) add(line int, seq uint64, leaf tlog.Hash, proof []tlog.Hash) {
	shared := 0
	for shared < min(len(proof), len(p.last)) && proof[len(proof)-1-shared] == p.last[len(p.last)-1-shared] {
		shared++
	}
	own := slices.Clone(proof[:len(proof)-shared])
	p.kept = append(p.kept, keptProof{line, seq, leaf, own, shared})
	p.last = append(p.last[:0], proof...)
}

// check checks all proofs against a checkpoint and returns the first that fails.
func (p *proofs) check(c Checkpoint) (failed keptProof, ok bool) {
	var proof []tlog.Hash
	for _, k := range p.kept {
		proof = slices.Concat(k.own, proof[len(proof)-k.shared:])
		if err := tlog.CheckRecord(proof, int64(c.Size), c.Root, int64(k.seq), k.leaf); err != nil {
			return k, false
		}
	}
	return keptProof{}, true
}
