package tokenapi

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

const (
	redacted = "[redacted]"
	// piece is how many characters in a row of a secret are taken for an echo of it.
	piece = 8
	// shortest is what is looked for at all: less is in every text.
	shortest = 3
	// layers is how many encodings on top of each other are undone.
	layers = 3
)

// shown makes a server's text fit for the log: printable ASCII, bounded in bytes, and without the secrets
// that were sent or pieces of them, since some servers quote the request. A word with a piece of one, as it
// is or in base64 or hex, is cut out. Where undoing percent, JSON or HTML encoding lays open another piece,
// nothing of the text is shown.
func shown(text string, longest int, secrets ...cred.Secret) string {
	e := echoes{ends: " :,="}
	for _, s := range secrets {
		e.look(s)
	}
	text = e.cut(ascii(text[:min(len(text), longest)]))
	if e.inEncoded(text, layers) {
		return redacted
	}
	return text[:min(len(text), longest)]
}

// ascii is a text with a question mark for each character that does not print.
func ascii(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, text)
}

// echoes are what to look for.
type echoes struct {
	forms []string // of secrets, in lower case: an echo may have another
	ends  string   // characters that no secret has, so that a word with an echo ends at them
}

func (e *echoes) look(s cred.Secret) {
	if s.IsZero() {
		return
	}
	sent := s.RevealString()
	e.ends = strings.Map(func(c rune) rune {
		if strings.ContainsRune(sent, c) {
			return -1
		}
		return c
	}, e.ends)
	e.add(ascii(sent))
	for _, form := range []string{sent, url.QueryEscape(sent)} { // the latter is in a body or header that is quoted as a whole
		e.add(hex.EncodeToString([]byte(form)))
		for before := range 3 { // bytes of something else that base64 takes together with the first of these
			whole := append(make([]byte, before), form...)
			skip, end := (before*8+5)/6, len(whole)*8/6
			e.add(base64.RawStdEncoding.EncodeToString(whole)[skip:end])
			e.add(base64.RawURLEncoding.EncodeToString(whole)[skip:end])
		}
	}
}

func (e *echoes) add(form string) {
	if len(form) >= shortest {
		e.forms = append(e.forms, strings.ToLower(form))
	}
}

// at returns how many characters of a text in lower case, from its beginning, are an echo.
func (e echoes) at(text string) int {
	for _, form := range e.forms {
		n := min(piece, len(form))
		if len(text) >= n && strings.Contains(form, text[:n]) {
			return n
		}
	}
	return 0
}

func (e echoes) in(text string) bool {
	text = strings.ToLower(text)
	for i := range text {
		if e.at(text[i:]) > 0 {
			return true
		}
	}
	return false
}

// cut cuts out the words that hold an echo. What an echo has on both sides goes with it: it may be more of
// the same, encoded.
func (e echoes) cut(text string) string {
	hidden, lower := make([]bool, len(text)), strings.ToLower(text)
	for i := range lower {
		for n := range e.at(lower[i:]) {
			hidden[i+n] = true
		}
	}
	part := func(i int) bool { return !strings.ContainsRune(e.ends, rune(text[i])) }
	for i := 1; i < len(text); i++ {
		hidden[i] = hidden[i] || hidden[i-1] && part(i)
	}
	for i := len(text) - 2; i >= 0; i-- {
		hidden[i] = hidden[i] || hidden[i+1] && part(i)
	}
	var out strings.Builder
	for i, c := range []byte(text) {
		switch {
		case !hidden[i]:
			out.WriteByte(c)
		case i == 0 || !hidden[i-1]:
			out.WriteString(redacted)
		}
	}
	return out.String()
}

// decoders undo one encoding each, where a text has it.
var decoders = []func(string) string{
	html.UnescapeString,
	func(text string) string { return strings.ReplaceAll(text, "+", " ") },
	func(text string) string {
		return percentEncoded.ReplaceAllStringFunc(text, func(s string) string {
			b, _ := hex.DecodeString(s[1:])
			return string(b)
		})
	},
	func(text string) string {
		return jsonEncoded.ReplaceAllStringFunc(text, func(s string) string {
			if len(s) == 2 {
				return s[1:]
			}
			code, _ := strconv.ParseUint(s[2:], 16, 32)
			return string(rune(code))
		})
	},
}

var (
	percentEncoded = regexp.MustCompile(`%[0-9a-fA-F]{2}`)
	jsonEncoded    = regexp.MustCompile(`\\(?:u[0-9a-fA-F]{4}|["\\/])`)
)

// inEncoded reports whether there is an echo in what a text says to who undoes so many encodings, in
// whatever order.
func (e echoes) inEncoded(text string, layers int) bool {
	for _, decode := range decoders {
		reading := decode(text)
		if reading != text && (e.in(ascii(reading)) || layers > 1 && e.inEncoded(reading, layers-1)) {
			return true
		}
	}
	return false
}
