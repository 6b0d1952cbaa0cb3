package mask

// findCard finds a payment card's number: bare, or in groups as cards print it. It demands an
// issuer's range, a length that this issuer uses and the check digit, so the many other long numbers in
// traffic (instants in milliseconds, database keys, fractions) stay.
func findCard(v *view, i int) match {
	if !v.numberStart(i) || !v.cardShape(i) {
		return noMatch
	}
	d, is := v.readDigits(i)
	if is == undecided {
		return needsMore
	}
	for n := min(d.n, 19); n >= 13; n-- {
		if !d.last[n-1] || !d.cardGroups(n) || !cardBrand(d.num[:n]) || !luhn(d.num[:n]) {
			continue
		}
		switch v.numberEnds(d.ends[n-1]) {
		case undecided:
			return needsMore
		case found:
			return matched(i, d.ends[n-1])
		}
	}
	return noMatch
}

// cardShape reports whether the first group of digits, as far as it has arrived, may be a card's: all
// of the number, or four of it.
func (v *view) cardShape(i int) bool {
	n := i
	for n < len(v.buf) && n-i <= 19 && isDigit(v.buf[n]) {
		n++
	}
	n -= i
	return n == 4 || n >= 13 && n <= 19 || i+n == len(v.buf) && !v.eof && n <= 19
}

// cardGroups reports whether the first n digits stand in one group, or in groups of four and then
// of three to six; the last may be shorter.
func (d *digits) cardGroups(n int) bool {
	size := 0
	for k := range n {
		size++
		if !d.last[k] {
			continue
		}
		first, final := k == size-1, k == n-1
		switch {
		case first && final:
			return true
		case first && size != 4, size > 6, size < 3 && !final:
			return false
		}
		size = 0
	}
	return true
}

// cardRange is a range of issuer identification numbers (ISO/IEC 7812), by as many leading digits as
// lo and hi have, and the lengths in use there.
type cardRange struct{ lo, hi, digits, short, long int }

var cardRanges = [...]cardRange{
	{4, 4, 1, 13, 19},           // Visa
	{51, 55, 2, 16, 16},         // Mastercard
	{2221, 2720, 4, 16, 16},     // Mastercard
	{34, 34, 2, 15, 15},         // American Express
	{37, 37, 2, 15, 15},         // American Express
	{300, 305, 3, 14, 19},       // Diners Club
	{36, 36, 2, 14, 19},         // Diners Club
	{38, 39, 2, 14, 19},         // Diners Club
	{6011, 6011, 4, 16, 19},     // Discover
	{644, 659, 3, 16, 19},       // Discover
	{3528, 3589, 4, 16, 19},     // JCB
	{62, 62, 2, 16, 19},         // UnionPay
	{81, 81, 2, 16, 19},         // UnionPay
	{2200, 2204, 4, 16, 19},     // Mir
	{5018, 5020, 4, 13, 19},     // Maestro
	{5038, 5038, 4, 13, 19},     // Maestro
	{5893, 5893, 4, 13, 19},     // Maestro
	{6304, 6304, 4, 13, 19},     // Maestro
	{6759, 6763, 4, 13, 19},     // Maestro
	{6521, 6522, 4, 16, 16},     // RuPay
	{506099, 506198, 6, 16, 19}, // Verve
	{650002, 650027, 6, 16, 19}, // Verve
}

func cardBrand(num []byte) bool {
	for _, r := range cardRanges {
		iin := 0
		for _, c := range num[:r.digits] {
			iin = iin*10 + int(c)
		}
		if r.lo <= iin && iin <= r.hi && r.short <= len(num) && len(num) <= r.long {
			return r.lo != 4 || len(num) == 13 || len(num) == 16 || len(num) >= 18
		}
	}
	return false
}

// luhn checks the last digit (ISO/IEC 7812-1, annex B).
func luhn(num []byte) bool {
	sum := 0
	for k, c := range num {
		x := int(c)
		if (len(num)-k)%2 == 0 {
			if x *= 2; x > 9 {
				x -= 9
			}
		}
		sum += x
	}
	return sum%10 == 0
}
