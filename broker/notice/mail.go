package notice

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
)

// message is the notice as a mail (RFC 5322): plain text, so that nothing in it is mark-up. Its
// Message-ID is the same at every try, so that mail servers drop doubles.
func (s *SMTP) message(n Notice) []byte {
	var b bytes.Buffer
	id := sha256.Sum256([]byte(n.ID))
	for _, h := range [][2]string{
		{"From", s.from.String()},
		{"To", addressList(s.to)},
		{"Subject", subject("[daypass] " + n.title())},
		{"Date", n.At.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000")},
		{"Message-ID", "<" + hex.EncodeToString(id[:16]) + "@" + domainOf(s.from.Address) + ">"},
		{"X-Daypass-Notice", n.ID},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834, section 5
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(h[0] + ": " + oneHeader(h[1]) + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(s.text(n))) // into memory: it can't fail
	_ = w.Close()
	return b.Bytes()
}

// subject encodes a text (RFC 2047). What looks like an encoded word already is taken apart, for a
// reader's program would decode it.
func subject(text string) string {
	return mime.QEncoding.Encode("utf-8", strings.ReplaceAll(text, "=?", "= ?"))
}

// text is the mail's body. Lines of the reason are quoted, so that none passes for one of ours.
func (s *SMTP) text(n Notice) string {
	var b strings.Builder
	b.WriteString(n.title() + "\r\n\r\n")
	if text := line(n.Text, 1000); text != "" {
		b.WriteString(text + "\r\n\r\n")
	}
	for _, f := range n.facts() {
		b.WriteString(f.label + ": " + f.value + "\r\n")
	}
	for i, l := range n.reasonLines() {
		if i == 0 {
			b.WriteString("Reason:\r\n")
		}
		b.WriteString("> " + l + "\r\n")
	}
	if link := n.link(s.o.Console); link != "" {
		b.WriteString("\r\n" + link + "\r\n")
	}
	if c := n.command(); c != "" {
		b.WriteString("\r\n" + c + "\r\n")
	}
	return b.String()
}

func addressList(all []*mail.Address) string {
	var list []string
	for _, a := range all {
		list = append(list, a.String())
	}
	return strings.Join(list, ",\r\n ")
}

// oneHeader takes a value's line ends away, but for those of folding (RFC 5322, section 2.2.3).
func oneHeader(value string) string {
	folds := strings.Split(strings.ReplaceAll(value, "\r\n ", "\x00"), "\x00")
	for i, f := range folds {
		folds[i] = strings.NewReplacer("\r", " ", "\n", " ").Replace(f)
	}
	return strings.Join(folds, "\r\n ")
}

func domainOf(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return address[at+1:]
	}
	return "localhost"
}
