package notice

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

// quiet drops what a server says of clients that go away.
var quiet = log.New(io.Discard, "", 0)

// mailPassword is made here so that it looks like nobody's.
func mailPassword() cred.Secret { return cred.SecretString("pass" + strings.Repeat("word", 3)) }

// letter is a mail that the fake took.
type letter struct {
	from   string
	to     []string
	header mail.Header // Subject is decoded
	raw    string
	body   string // decoded
	secure bool
}

// mailServer is an SMTP server (RFC 5321) with STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954). It takes
// mail only over TLS and from who signed in, unless told otherwise.
type mailServer struct {
	t        testing.TB
	listener net.Listener
	tls      *tls.Config
	ca       string // PEM file
	wg       sync.WaitGroup

	mu       sync.Mutex // guards all below
	implicit bool       // TLS from the first byte
	noTLS    bool       // offers no STARTTLS and takes mail without
	noAuth   bool
	rejects  string            // the reply to the end of DATA; empty: it is taken
	replies  map[string]string // to RCPT, by address
	next     []fault
	free     chan struct{}
	conns    []net.Conn
	letters  []letter
}

func newMailServer(t testing.TB) *mailServer {
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.Config.ErrorLog = quiet
	borrowed.StartTLS()
	defer borrowed.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mailServer{t: t, listener: listener, tls: &tls.Config{Certificates: borrowed.TLS.Certificates}, replies: map[string]string{}}
	m.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(m.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: borrowed.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	m.wg.Go(m.accept)
	t.Cleanup(m.close)
	return m
}

func (m *mailServer) set(change func(*mailServer)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *mailServer) plan(faults ...fault) {
	m.set(func(m *mailServer) { m.next = append(m.next, faults...) })
}

func (m *mailServer) hang() { m.set(func(m *mailServer) { m.free = make(chan struct{}) }) }

func (m *mailServer) mails() []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.letters)
}

func (m *mailServer) close() {
	_ = m.listener.Close()
	m.set(func(m *mailServer) {
		if m.free != nil {
			close(m.free)
			m.free = nil
		}
		for _, c := range m.conns {
			_ = c.Close()
		}
	})
	m.wg.Wait()
}

// sender returns a Sender to the server; what o leaves out is filled in.
func (m *mailServer) sender(t testing.TB, o SMTPOptions) *SMTP {
	t.Helper()
	o.Address = m.listener.Addr().String()
	if o.Security == "" {
		o.Security = StartTLS
	}
	if o.From == "" {
		o.From = "daypass <daypass@example.com>"
	}
	if o.To == nil {
		o.To = []string{"Ada <ada@example.com>", "grace@example.com"}
	}
	if o.Username == "" && o.Security != PlainSMTP {
		o.Username, o.Password = "daypass", mailPassword()
	}
	o.CAFile = m.ca
	s, err := NewSMTP(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (m *mailServer) accept() {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			return
		}
		m.set(func(m *mailServer) { m.conns = append(m.conns, conn) })
		m.wg.Go(func() {
			defer conn.Close()
			_ = (&mailSession{mailServer: m, conn: conn}).run()
		})
	}
}

// mailSession is one connection.
type mailSession struct {
	*mailServer
	conn   net.Conn
	in     *bufio.Reader
	secure bool
	signed bool
	letter letter
}

func (s *mailSession) say(format string, args ...any) error {
	_, err := fmt.Fprintf(s.conn, format+"\r\n", args...)
	return err
}

func (s *mailSession) run() error {
	s.mu.Lock()
	implicit, free := s.implicit, s.free
	s.mu.Unlock()
	if free != nil {
		<-free
		return nil
	}
	if implicit {
		s.conn, s.secure = tls.Server(s.conn, s.tls), true
	}
	s.in = bufio.NewReader(s.conn)
	if err := s.say("220 mail.example.com ESMTP"); err != nil {
		return err
	}
	for {
		text, err := s.in.ReadString('\n')
		if err != nil {
			return err
		}
		if err := s.command(strings.TrimRight(text, "\r\n")); err != nil {
			return err
		}
	}
}

var errEnd = errors.New("the session is over")

func (s *mailSession) command(text string) error {
	s.mu.Lock()
	noTLS, noAuth, rejects := s.noTLS, s.noAuth, s.rejects
	s.mu.Unlock()
	verb, rest, _ := strings.Cut(text, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		lines := []string{"mail.example.com"}
		if !s.secure && !noTLS {
			lines = append(lines, "STARTTLS")
		}
		if s.secure && !noAuth {
			lines = append(lines, "AUTH PLAIN LOGIN")
		}
		for _, l := range lines {
			_ = s.say("250-%s", l)
		}
		return s.say("250 SIZE 1000000")
	case "STARTTLS":
		if err := s.say("220 go on"); err != nil {
			return err
		}
		s.conn, s.secure = tls.Server(s.conn, s.tls), true
		s.in = bufio.NewReader(s.conn)
		return nil
	case "AUTH":
		want := base64.StdEncoding.EncodeToString([]byte("\x00daypass\x00" + mailPassword().RevealString()))
		if !s.secure || rest != "PLAIN "+want {
			return s.say("535 5.7.8 words of the receiver")
		}
		s.signed = true
		return s.say("235 2.7.0 well")
	case "MAIL":
		if (!s.secure || !s.signed) && !noTLS && !noAuth {
			return s.say("530 5.7.0 words of the receiver")
		}
		s.letter = letter{from: rest, secure: s.secure}
		return s.say("250 2.1.0 well")
	case "RCPT":
		return s.recipient(rest)
	case "DATA":
		return s.data(rejects)
	case "QUIT":
		_ = s.say("221 2.0.0 bye")
		return errEnd
	}
	return s.say("502 5.5.1 words of the receiver")
}

func (s *mailSession) recipient(rest string) error {
	address := strings.TrimSuffix(strings.TrimPrefix(rest, "TO:<"), ">")
	s.mu.Lock()
	reply := s.replies[address]
	s.mu.Unlock()
	if reply != "" {
		return s.say("%s", reply)
	}
	s.letter.to = append(s.letter.to, address)
	return s.say("250 2.1.5 well")
}

func (s *mailSession) data(rejects string) error {
	if len(s.letter.to) == 0 {
		return s.say("554 5.5.1 no recipients")
	}
	if err := s.say("354 go on"); err != nil {
		return err
	}
	var raw strings.Builder
	for {
		text, err := s.in.ReadString('\n')
		if err != nil {
			return err
		}
		if text == ".\r\n" {
			break
		}
		raw.WriteString(strings.TrimPrefix(text, "."))
	}
	s.mu.Lock()
	f := works
	if len(s.next) > 0 {
		f, s.next = s.next[0], s.next[1:]
	}
	s.mu.Unlock()
	if f == notDone {
		return errEnd
	}
	if rejects != "" {
		return s.say("%s", rejects)
	}
	if err := s.keep(raw.String()); err != nil {
		s.t.Errorf("the mail can't be read: %v\n%s", err, raw.String())
	}
	if f == doneLost {
		return errEnd
	}
	return s.say("250 2.0.0 taken")
}

// keep reads a mail as a reader's program does.
func (s *mailSession) keep(raw string) error {
	for _, l := range strings.Split(strings.TrimSuffix(raw, "\r\n"), "\r\n") {
		if len(l) > 998 || strings.ContainsAny(l, "\r\n\x00") || strings.ContainsFunc(l, func(r rune) bool { return r > '~' }) {
			return fmt.Errorf("the line %q is not of a mail", l)
		}
	}
	parsed, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(quotedprintable.NewReader(parsed.Body))
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
	if err != nil {
		return err
	}
	parsed.Header["Subject"] = []string{subject}
	s.letter.header, s.letter.raw, s.letter.body = parsed.Header, raw, string(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters = append(s.letters, s.letter)
	return nil
}
