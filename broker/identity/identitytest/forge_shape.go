package identitytest

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// shapes are tokens that are no compact JWS, though some readers take them for one.
func (f *forge) shapes() {
	good := f.issuer.Sign(f.claims())
	part := strings.Split(good, ".")
	h, p, s := part[0], part[1], part[2]
	for name, token := range map[string]string{
		"nothing": "", "a dot": ".", "two dots": "..", "three dots": "...", "a word": "token", "one part": h, "two parts": h + "." + p, "no signature": h + "." + p + ".", "no header": "." + p + "." + s,
		"no claims part": h + ".." + s, "a fourth part": good + "." + s, "an empty fourth part": good + ".", "an empty first part": "." + good, "parts in another order": p + "." + h + "." + s,
		"five parts of a JWE": b64([]byte(`{"alg":"RSA-OAEP","enc":"A128GCM"}`)) + ".AAAA.AAAA.AAAA.AAAA", "a good token as five parts": good + ".AAAA.AAAA",
		"general JSON form":   fmt.Sprintf(`{"payload":"%s","signatures":[{"protected":"%s","signature":"%s"}]}`, p, h, s),
		"flattened JSON form": fmt.Sprintf(`{"payload":"%s","protected":"%s","signature":"%s"}`, p, h, s),
		"a JSON string":       `"` + good + `"`, "a list": "[" + good + "]", "Bearer before": "Bearer " + good, "two tokens": good + "," + good, "two tokens and a space": good + " " + good,
		"a space before": " " + good, "a space after": good + " ", "a newline after": good + "\n", "a carriage return after": good + "\r\n", "a tab before": "\t" + good, "a newline before": "\n" + good,
		"NUL after": good + "\x00", "a byte order mark before": "\ufeff" + good, "a zero-width space within": h + "\u200b." + p + "." + s,
		"an HTML comment": "<!--" + good + "-->", "a percent sign": good + "%20", "a disclosure after": good + "~", "a comma for a dot": h + "," + p + "." + s, "full-width dots": h + "\uff0e" + p + "\uff0e" + s,
	} {
		f.add(name, token, "TOKEN_MALFORMED", "TOKEN_ALGORITHM")
	}
	for n, name := range []string{"header", "claims", "signature"} {
		f.mangledPart(part, n, name)
	}
}

// mangledPart writes one of the three parts in ways that lenient base64 readers take.
func (f *forge) mangledPart(part []string, n int, name string) {
	with := func(what, mangled string, reasons ...string) {
		all := append([]string{}, part...)
		all[n] = mangled
		f.add(name+" "+what, strings.Join(all, "."), reasons...)
	}
	p := part[n]
	raw, err := base64.RawURLEncoding.DecodeString(p)
	if err != nil {
		panic("identitytest: " + err.Error())
	}
	half := len(p) / 2
	with("with padding", p+"=", "TOKEN_MALFORMED")
	with("with more padding", p+"==", "TOKEN_MALFORMED")
	with("with a newline within", p[:half]+"\n"+p[half:], "TOKEN_MALFORMED")
	with("with CRLF within", p[:half]+"\r\n"+p[half:], "TOKEN_MALFORMED")
	with("with a newline at the end", p+"\n", "TOKEN_MALFORMED")
	with("with a space within", p[:half]+" "+p[half:], "TOKEN_MALFORMED")
	with("with a plus", p[:half]+"+"+p[half+1:], "TOKEN_MALFORMED")
	with("with a slash", p[:half]+"/"+p[half+1:], "TOKEN_MALFORMED")
	with("with a letter beyond ASCII", p[:half]+"\u00e9"+p[half:], "TOKEN_MALFORMED")
	with("with a stray bit", strayBit(raw), "TOKEN_MALFORMED")
	with("one character longer", p+"A")
	with("one character shorter", p[:len(p)-1])
	with("in hexadecimal", fmt.Sprintf("%x", raw))
	with("encoded twice", b64([]byte(p)))
}

// strayBit encodes b, shortened to a length whose last character has spare bits, with one of them
// set.
func strayBit(b []byte) string {
	if len(b)%3 == 0 {
		b = b[:len(b)-1]
	}
	s := []byte(b64(b))
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	s[len(s)-1] = alphabet[strings.IndexByte(alphabet, s[len(s)-1])|1]
	return string(s)
}

// damage cuts good tokens off, turns their bits, and gives them each other's signatures.
func (f *forge) damage() {
	good := f.issuer.Sign(f.claims())
	for n := range 24 {
		at := len(good) * (n + 1) / 25
		f.add(fmt.Sprintf("cut off at byte %d", at), good[:at])
	}
	part := strings.Split(good, ".")
	for n, name := range []string{"header", "claims", "signature"} {
		raw, err := base64.RawURLEncoding.DecodeString(part[n])
		if err != nil {
			panic("identitytest: " + err.Error())
		}
		for k := range 16 {
			at := (len(raw)*8 - 1) * k / 15
			all := append([]string{}, part...)
			all[n] = b64(flip(raw, at))
			f.add(fmt.Sprintf("bit %d of the %s turned", at, name), strings.Join(all, "."))
		}
	}
	for name, value := range map[string]string{"sub": "somebody-else", "jti": "another", "email": "somebody@example.com"} {
		other := strings.Split(f.issuer.Sign(f.with(name, value)), ".")
		f.add("another "+name+" with this signature", other[0]+"."+other[1]+"."+part[2], "SIGNATURE_INVALID")
		f.add("another signature by "+name, part[0]+"."+part[1]+"."+other[2], "SIGNATURE_INVALID")
	}
	elliptic := strings.Split(f.issuer.Sign(f.claims(), WithAlg("ES256")), ".")
	f.add("the signature of another algorithm", part[0]+"."+part[1]+"."+elliptic[2], "SIGNATURE_INVALID")
	f.add("the header of another algorithm", elliptic[0]+"."+part[1]+"."+part[2], "SIGNATURE_INVALID")
}
