package mask

// ibanLengths is the length of an IBAN by country (SWIFT IBAN Registry, release 99).
var ibanLengths = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27,
	"BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28,
	"EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
	"GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
	"IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
	"LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
	"NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
	"RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25,
	"SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}

// findIBAN finds an account number (ISO 13616) in one piece or in groups of four, with its letters
// all in upper or all in lower case.
func findIBAN(v *view, i int) match {
	if !v.wordStart(i) || i+4 > len(v.buf) {
		return noMatch
	}
	country := string([]byte{v.buf[i] &^ 0x20, v.buf[i+1] &^ 0x20}) //nolint:staticcheck // SA6001: it is needed again below
	size, known := ibanLengths[country]
	if !known {
		return noMatch
	}
	end, sum, is := v.readIBAN(i, size)
	if is != found {
		return match{verdict: is}
	}
	if sum != 1 {
		return noMatch
	}
	if end >= len(v.buf) {
		return match{verdict: ending(v.eof), start: i, end: end}
	}
	if wordClass.in[v.buf[end]] {
		return noMatch
	}
	return matched(i, end)
}

// readIBAN reads size letters and digits at i. It returns the place behind them and their value
// modulo 97 (ISO/IEC 7064, MOD 97-10), for which the first four come last.
func (v *view) readIBAN(i, size int) (end, sum int, is verdict) {
	var chars [34]byte
	letters := v.buf[i] & 0x20
	grouped := false
	for n := 0; n < size; n++ {
		if n > 0 && n%4 == 0 && (grouped || n == 4) {
			next, is := v.ibanGap(i)
			if is == undecided {
				return 0, 0, undecided
			}
			if n == 4 {
				grouped = is == found
			} else if is == none {
				return 0, 0, none
			}
			i = next
		}
		if i >= len(v.buf) {
			return 0, 0, v.atEnd()
		}
		c := v.buf[i]
		if !alnumClass.in[c] || isLetter(c) && c&0x20 != letters {
			return 0, 0, none
		}
		chars[n] = c
		i++
	}
	for k := range size {
		sum = mod97(sum, chars[(k+4)%size])
	}
	return i, sum, found
}

// ibanGap returns the place behind a blank or dash at i.
func (v *view) ibanGap(i int) (int, verdict) {
	if i >= len(v.buf) {
		return i, v.atEnd()
	}
	switch v.buf[i] {
	case ' ', '-', '+':
		return i + 1, found
	case '%':
		is := v.literal(i, "%20")
		return i + 3, is
	}
	return i, none
}

func mod97(sum int, c byte) int {
	if isDigit(c) {
		return (sum*10 + int(c-'0')) % 97
	}
	return (sum*100 + int(c&^0x20-'A') + 10) % 97
}
