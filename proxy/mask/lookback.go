package mask

import "slices"

// lookback says how much of a text's end may be the start of a match whose anchor is still to come.
type lookback struct {
	max int
	in  [256]bool
}

func newLookback(enabled []*detector) *lookback {
	l := &lookback{}
	for _, d := range enabled {
		l.max = max(l.max, d.back)
	}
	if l.max > 0 {
		l.in = alnumClass.in
	}
	if slices.ContainsFunc(enabled, func(d *detector) bool { return d.back == emailLocal }) {
		l.in = localClass
		l.in['%'] = true
	}
	return l
}

// frontier returns the first place where a match may begin whose anchor is at i or later.
func (l *lookback) frontier(b []byte, i int) int {
	end := i
	for stop := max(0, i-l.max); i > stop && l.in[b[i-1]]; {
		i--
	}
	for i < end && !alnumClass.in[b[i]] { // a match begins with a letter or digit
		i++
	}
	return i
}
