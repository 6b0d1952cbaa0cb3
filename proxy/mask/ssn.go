package mask

// findSSN finds a US social security number in groups of three, two and four digits with the same
// separator. Nine bare digits are too many other things.
func findSSN(v *view, i int) match {
	if !v.numberStart(i) {
		return noMatch
	}
	d, is := v.readDigits(i)
	if is == undecided && d.n <= 9 {
		return needsMore
	}
	if d.n < 9 || !d.last[2] || !d.last[4] || !d.last[8] || d.last[0] || d.last[1] || d.last[3] || d.last[5] || d.last[6] || d.last[7] {
		return noMatch
	}
	if !issuedSSN(d.num[:9]) {
		return noMatch
	}
	return match{verdict: v.numberEnds(d.ends[8]), start: i, end: d.ends[8]}
}

// issuedSSN reports whether the number can have been issued and is no well-known sample (SSA,
// "Social Security Number Randomization").
func issuedSSN(num []byte) bool {
	n := 0
	same := true
	for _, c := range num {
		n = n*10 + int(c)
		same = same && c == num[0]
	}
	area, group, serial := n/1000000, n/10000%100, n%10000
	if area == 0 || area == 666 || area >= 900 || group == 0 || serial == 0 {
		return false
	}
	return !same && n != 78051120 && n != 123456789 && n != 219099999
}
