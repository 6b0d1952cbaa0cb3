package mask

import "encoding/binary"

// sieveWidth is how many bytes the sieve looks at in each place.
const sieveWidth = 4

// sieve tells for every place in a text which of up to 64 anchors may begin there: bit k is set in
// the AND of the four entries that four bytes select just where all four fit anchor k. One load a byte
// settles most places, and nothing depends on the place before, unlike in an automaton.
//
// An anchor shorter than four bytes accepts anything behind its end.
type sieve struct{ t [sieveWidth][256]uint64 }

// add makes bit k stand for an anchor.
func (s *sieve) add(k uint, sets ...string) {
	for at := range sieveWidth {
		if at >= len(sets) {
			s.addAny(k, at)
			continue
		}
		s.addSet(k, at, sets[at]) //nolint:gosec // G602: at < len(sets), just above
	}
}

func (s *sieve) addSet(k uint, at int, notation string) {
	for b, in := range set(notation) {
		if in {
			s.t[at][b] |= 1 << k
		}
	}
}

func (s *sieve) addAny(k uint, at int) {
	for b := range s.t[at] {
		s.t[at][b] |= 1 << k
	}
}

// next returns the first place from i on where an anchor may begin, and which anchors. Where fewer
// than four bytes are left, those decide alone. It returns len(b) where there is none.
//
// Four places at a time are settled without a branch: in common text half of all pairs of bytes begin
// some anchor, so a branch after the first two would be guessed wrong too often.
func (s *sieve) next(b []byte, i int) (int, uint64) {
	t0, t1, t2, t3 := &s.t[0], &s.t[1], &s.t[2], &s.t[3]
	for ; i+8 <= len(b); i += 4 {
		x := binary.LittleEndian.Uint64(b[i:])
		hit0 := t0[byte(x)] & t1[byte(x>>8)] & t2[byte(x>>16)] & t3[byte(x>>24)]
		hit1 := t0[byte(x>>8)] & t1[byte(x>>16)] & t2[byte(x>>24)] & t3[byte(x>>32)]
		hit2 := t0[byte(x>>16)] & t1[byte(x>>24)] & t2[byte(x>>32)] & t3[byte(x>>40)]
		hit3 := t0[byte(x>>24)] & t1[byte(x>>32)] & t2[byte(x>>40)] & t3[byte(x>>48)]
		if hit0|hit1|hit2|hit3 == 0 {
			continue
		}
		switch {
		case hit0 != 0:
			return i, hit0
		case hit1 != 0:
			return i + 1, hit1
		case hit2 != 0:
			return i + 2, hit2
		}
		return i + 3, hit3
	}
	for ; i < len(b); i++ {
		hit := ^uint64(0)
		for at, c := range b[i:min(i+sieveWidth, len(b))] {
			hit &= s.t[at][c]
		}
		if hit != 0 {
			return i, hit
		}
	}
	return i, 0
}

// set reads the notation of a set of bytes: characters and ranges such as A-Z. A '-' stands for
// itself at the end.
func set(notation string) (in [256]bool) {
	for i := 0; i < len(notation); i++ {
		lo, hi := notation[i], notation[i]
		if i+2 < len(notation) && notation[i+1] == '-' {
			hi = notation[i+2]
			i += 2
		}
		for c := int(lo); c <= int(hi); c++ {
			in[c] = true
		}
	}
	return in
}
